"""What `historian import --dry-run` says of a file: how it was understood, and each of its tags with its first sample."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from historian.ingest.files import Plan
from historian.query.times import format_time

#: of one file; a long file may have many thousands
_MAX_TAGS = 200
#: in which first samples are looked for: enough for one of each type
_CHUNKS = 3


def preview(plan: Plan) -> str:
    """Several lines: the sum, what was recognised, and the tags."""
    span = f", {format_time(plan.span[0])} to {format_time(plan.span[1])}" if plan.span else ""
    notes = "".join(f"; {note}" for note in plan.notes)
    lines = [f"{plan.path}: {plan.layout}, {plan.samples} samples of {len(plan.tags)} tags{span}{notes}"]
    lines += [f"  {what}: {how}" for what, how in plan.recognised().items()]
    if plan.samples:
        lines += _tags(plan)
    return "\n".join(lines)


def _tags(plan: Plan) -> Iterator[str]:
    first: dict[str, str] = {}
    for chunk in islice(plan.chunks(), _CHUNKS):
        tags, ts, values = (chunk.samples.column(name) for name in ("tag", "ts", "value"))
        for tag, row in _first_rows(tags).items():
            first.setdefault(tag, f"{format_time(ts[row].cast(pa.int64()).as_py())}  {_shown(values[row].as_py())}")
    shown = plan.tags[:_MAX_TAGS]
    width = max(map(len, shown))
    for tag, kind in zip(shown, plan.types, strict=False):
        yield f"  {tag:{width}}  {kind:6}  {first.get(tag, '')}".rstrip()
    if len(plan.tags) > len(shown):
        yield f"  and {len(plan.tags) - len(shown)} more tags"


def _first_rows(tags: pa.DictionaryArray) -> dict[str, int]:
    codes = tags.indices.to_pylist()
    rows = {code: row for row, code in zip(range(len(codes) - 1, -1, -1), reversed(codes), strict=True)}
    paths = tags.dictionary.to_pylist()
    return {paths[code]: row for code, row in rows.items()}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value[:40]) if isinstance(value, str) else "none" if value is None else repr(value)

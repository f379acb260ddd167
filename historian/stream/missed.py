"""What a client has missed: the span and the tags of samples that were let go, and the range query that brings them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlencode

import numpy as np

from historian.query.expressions.pens import CalculatedPen
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.samples import Samples

#: of the path of a range query with all its tags; servers and proxies take 8 kB
MAX_PATH = 4096


class Missed:
    """Grows by what is let go; has the size of its tags, however much that is. Times in µs, half-open."""

    def __init__(self, behind: int) -> None:
        #: the place on the bus before all of it
        self.behind = behind
        self.start = 2**63 - 1
        self.end = -(2**63)
        self.tag_ids: set[int] = set()

    def add(self, parts: Iterable[Samples]) -> None:
        for samples in parts:
            if len(samples):
                self.start = min(self.start, int(samples.ts.min()))
                self.end = max(self.end, int(samples.ts.max()) + 1)
                self.tag_ids.update(np.unique(samples.tag_id).tolist())


def range_path(start: int, end: int, tags: Sequence[Tag]) -> str:
    """Path and parameters of the range query for [start, end); without the tags where they are too many for an address."""
    span = [("start", format_time(start)), ("end", format_time(end))]
    named = [("expr", _text(tag)) if isinstance(tag, CalculatedPen) else ("tag", tag.path) for tag in tags]
    path = _path([*named, *span])
    return path if len(path) <= MAX_PATH else _path(span)


def _text(pen: CalculatedPen) -> str:
    # one without a name has its text for a path
    return pen.path if pen.path == pen.expression.text else f"{pen.path}: {pen.expression.text}"


def _path(parameters: Sequence[tuple[str, str]]) -> str:
    return "/v1/range?" + urlencode(parameters, safe=":/", quote_via=quote)

"""The tag catalogue: what every tag is, in the database and, as a cache, in each process.

A process loads it once and refreshes it by asking for the rows that newer transactions wrote; a tag that another process has just made is
found at the first look-up that misses.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import BadInput, Conflict, UnknownTag
from historian.schema.limits import LIMITED, LIMITS, Limits
from historian.schema.paths import check_path, is_wildcard, wildcard_regex
from historian.schema.visibility import VisibilitySnapshot

Kind = Literal["float", "int", "bool", "digital", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: where a command to a tag goes: into the history, or by an ingest worker to the plant, whose answer is the sample
WriteTo = Literal["historian", "plant"]
#: kinds whose value holds until the next sample
STEPPED: frozenset[Kind] = frozenset({"bool", "digital", "text"})

MAX_UNIT = 64
MAX_DESCRIPTION = 1024
MAX_STATES = 4096
#: in one question to the catalogue
MAX_WILDCARDS = 64


@dataclass(frozen=True, slots=True)
class Tag:
    """One row of the catalogue. `low` and `high` are the range in `unit`, and the limits, in it too, where
    a value becomes a warning or, at the outer two, an alarm; `states` maps the codes of a digital tag, as decimal text, to names. `writable`: commands may write it
    (docs/commands.md), and `write_to` is where they go."""

    tag_id: int
    path: str
    kind: Kind
    unit: str | None = None
    description: str | None = None
    low: float | None = None
    high: float | None = None
    step: bool = False
    states: Mapping[str, str] | None = None
    writable: bool = False
    write_to: WriteTo = "historian"
    low_low_limit: float | None = None
    low_limit: float | None = None
    high_limit: float | None = None
    high_high_limit: float | None = None

    def row(self) -> dict[str, Any]:
        """As in `GET /v1/tags`."""
        return {
            "tag_id": self.tag_id,
            "path": self.path,
            "kind": self.kind,
            "unit": self.unit,
            "description": self.description,
            "low": self.low,
            "high": self.high,
            **self.limits._asdict(),
            "step": self.step,
            "states": dict(self.states) if self.states is not None else None,
            "writable": self.writable,
            "write_to": self.write_to,
        }

    @property
    def limits(self) -> Limits:
        return Limits(self.low_low_limit, self.low_limit, self.high_limit, self.high_high_limit)

    def state_code(self, name: str) -> int | None:
        """The code of a state by its name, or None."""
        for code, known in (self.states or {}).items():
            if known == name:
                return int(code)
        return None


class TagDefinition(BaseModel):
    """What `PUT /v1/tags` says of one tag. Fields left out keep what stands, or take the default of a new tag."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    kind: Kind | None = None
    unit: Annotated[str, StringConstraints(max_length=MAX_UNIT)] | None = None
    description: Annotated[str, StringConstraints(max_length=MAX_DESCRIPTION)] | None = None
    low: float | None = None
    high: float | None = None
    low_low_limit: float | None = None
    low_limit: float | None = None
    high_limit: float | None = None
    high_high_limit: float | None = None
    step: bool | None = None
    states: Annotated[dict[str, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=MAX_STATES)] | None = None
    writable: bool | None = None
    write_to: WriteTo | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.low_low_limit, self.low_limit, self.high_limit, self.high_high_limit)

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        try:
            return check_path(path)
        except BadInput as error:
            raise ValueError(str(error)) from None

    @field_validator("unit", "description")
    @classmethod
    def _storable(cls, text: str | None) -> str | None:
        if text is not None and "\x00" in text:
            raise ValueError("has a NUL character, which the database cannot keep")
        return text

    @field_validator("low", "high", *LIMITS)
    @classmethod
    def _finite(cls, number: float | None) -> float | None:
        if number is not None and not math.isfinite(number):
            raise ValueError("is not a finite number")
        return number

    @field_validator("states")
    @classmethod
    def _states(cls, states: dict[str, str] | None) -> dict[str, str] | None:
        for code, name in (states or {}).items():
            try:
                canonical = str(int(code)) == code and abs(int(code)) < 2**31
            except ValueError:
                canonical = False
            if not canonical:
                raise ValueError(f"code {code!r} is no integer")
            if not name or "\x00" in name:
                raise ValueError(f"the state of code {code} has no name")
        return states

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.states is not None and self.kind not in (None, "digital"):
            raise ValueError(f"only a digital tag has states, not one of kind {self.kind}")
        if fault := self.limits.fault():
            raise ValueError(fault)
        if self.kind is not None and self.kind not in LIMITED and self.limits != Limits():
            raise ValueError(f"only a float or int tag has limits, not one of kind {self.kind}")
        return self


_COLUMNS = "tag_id, path, kind, unit, description, low, high, step, states::text AS states, writable, write_to, " + ", ".join(LIMITS)


def _tag(row: asyncpg.Record) -> Tag:
    states = json.loads(row["states"]) if row["states"] is not None else None
    return Tag(
        row["tag_id"],
        row["path"],
        row["kind"],
        row["unit"],
        row["description"],
        row["low"],
        row["high"],
        row["step"],
        states,
        row["writable"],
        row["write_to"],
        *(row[name] for name in LIMITS),
    )


class Catalogue:
    """The catalogue of one database, cached in this process. All coroutines may be called at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._by_path: dict[str, Tag] = {}
        self._by_id: dict[int, Tag] = {}
        self._refreshing = asyncio.Lock()
        #: all changes by transactions below this one are in the cache
        self._known_below = 0
        #: counts changes of the cache, for those who keep something derived from it
        self.revision = 0

    def __len__(self) -> int:
        return len(self._by_path)

    def get(self, path: str) -> Tag | None:
        return self._by_path.get(path)

    def by_id(self, tag_id: int) -> Tag | None:
        return self._by_id.get(tag_id)

    def all(self) -> list[Tag]:
        """Every tag, in the order of the paths."""
        return sorted(self._by_path.values(), key=lambda tag: tag.path)

    def match(self, pattern: str) -> list[Tag]:
        """The tags that a path or wildcard names, in the order of the paths; none is no error. Raises BadInput."""
        if not is_wildcard(pattern):
            tag = self._by_path.get(check_path(pattern))
            return [tag] if tag else []
        fullmatch = wildcard_regex(pattern).fullmatch
        return sorted((tag for path, tag in self._by_path.items() if fullmatch(path)), key=lambda tag: tag.path)

    async def resolve(self, names: Iterable[str]) -> list[Tag]:
        """The tags of paths and wildcards, each once, in the order asked for. Raises UnknownTag for paths (not wildcards) without a tag, BadInput."""
        names = list(dict.fromkeys(names))
        if sum(map(is_wildcard, names)) > MAX_WILDCARDS:
            # each looks at the whole catalogue
            raise BadInput(f"{sum(map(is_wildcard, names))} wildcards; at most {MAX_WILDCARDS} at a time")
        if any(is_wildcard(name) or check_path(name) not in self._by_path for name in names):
            await self.refresh()
        found: dict[int, Tag] = {}
        unknown: list[str] = []
        for name in names:
            matches = self.match(name)
            if not matches and not is_wildcard(name):
                unknown.append(name)
            found.update((tag.tag_id, tag) for tag in matches)
        if unknown:
            raise UnknownTag(unknown)
        return list(found.values())

    async def refresh(self) -> None:
        """Take in what other processes changed. Raises Unavailable."""
        async with self._refreshing:
            with translated():
                async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                    visible = await VisibilitySnapshot.of(conn)
                    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM historian.tag WHERE xid >= $1::text::xid8", str(self._known_below))  # noqa: S608
            self._take(rows)
            self._known_below = visible.xmin

    def _take(self, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            tag = _tag(row)
            if self._by_id.get(tag.tag_id) != tag:
                self._by_path[tag.path] = self._by_id[tag.tag_id] = tag
                self.revision += 1

    async def ensure(self, kinds: Mapping[str, Kind]) -> None:
        """Make the tags that do not exist yet, each with its kind; those that exist stay as they are. Paths have been checked. Raises Unavailable."""
        missing = [path for path in kinds if path not in self._by_path]
        if missing:
            await self.refresh()
            missing = sorted(path for path in kinds if path not in self._by_path)
        if not missing:
            return
        with translated():
            async with self._pool.acquire() as conn, conn.transaction():
                await self._insert(conn, [(path, kinds[path], kinds[path] in STEPPED) for path in missing])
        await self.refresh()

    @staticmethod
    async def _insert(conn: Connection, new: Sequence[tuple[str, str, bool]]) -> None:
        # in the order of the paths: two processes that make the same tags wait for each other, and never in a circle
        await conn.execute(
            """
            WITH made AS (
                INSERT INTO historian.tag (path, kind, step)
                SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[]) AS new (path, kind, step) ORDER BY path COLLATE "C"
                ON CONFLICT (path) DO NOTHING RETURNING tag_id
            )
            INSERT INTO historian.snapshot (tag_id) SELECT tag_id FROM made
            """,
            [n[0] for n in new],
            [n[1] for n in new],
            [n[2] for n in new],
        )

    async def define(self, definitions: Sequence[TagDefinition]) -> list[Tag]:
        """Make tags or change them, all or none; the last definition of a path wins. Returns them as they stand, in the order given.

        Raises Conflict if a tag that has samples would change its kind, BadInput for states or limits on a tag of another kind, or that do not rise with
        those that stand, Unavailable.
        """
        wanted = {definition.path: definition for definition in definitions}
        paths = sorted(wanted)
        new = [(p, wanted[p].kind or ("digital" if wanted[p].states else "float"), False) for p in paths]
        new = [(path, kind, kind in STEPPED) for path, kind, _ in new]
        with translated():
            async with self._pool.acquire() as conn, conn.transaction():
                await self._insert(conn, new)
                rows = await conn.fetch(
                    f"SELECT {_COLUMNS}, EXISTS (SELECT FROM historian.snapshot s WHERE s.tag_id = t.tag_id AND s.ts IS NOT NULL) AS used"  # noqa: S608
                    ' FROM historian.tag t WHERE path = ANY($1::text[]) ORDER BY path COLLATE "C" FOR UPDATE',
                    paths,
                )
                for row in rows:
                    await self._change(conn, _tag(row), wanted[row["path"]], used=row["used"])
        await self.refresh()
        return [self._by_path[definition.path] for definition in definitions]

    @staticmethod
    async def _change(conn: Connection, tag: Tag, definition: TagDefinition, *, used: bool) -> None:
        given = definition.model_fields_set
        kind = definition.kind or tag.kind
        if kind != tag.kind and used:
            raise Conflict(f"tag {tag.path!r} is of kind {tag.kind} and has samples; its kind stays")
        states = definition.states if "states" in given else tag.states
        if kind != "digital":
            if definition.states:
                raise BadInput(f"tag {tag.path!r} is of kind {kind}; only a digital tag has states")
            states = None
        step = definition.step if definition.step is not None else (tag.step if kind == tag.kind else kind in STEPPED)
        low = definition.low if "low" in given else tag.low
        high = definition.high if "high" in given else tag.high
        if low is not None and high is not None and low > high:
            raise BadInput(f"tag {tag.path!r}: low {low} is above high {high}")
        unit = definition.unit if "unit" in given else tag.unit
        description = definition.description if "description" in given else tag.description
        writable = tag.writable if definition.writable is None else definition.writable
        write_to = definition.write_to or tag.write_to
        limits = _changed_limits(tag, definition, kind)
        if Tag(tag.tag_id, tag.path, kind, unit, description, low, high, step, states, writable, write_to, *limits) == tag:
            return
        await conn.execute(
            "UPDATE historian.tag SET kind = $2, unit = $3, description = $4, low = $5, high = $6, step = $7, states = $8::text::jsonb,"
            " writable = $9, write_to = $10, low_low_limit = $11, low_limit = $12, high_limit = $13, high_high_limit = $14 WHERE tag_id = $1",
            tag.tag_id,
            kind,
            unit,
            description,
            low,
            high,
            step,
            json.dumps(states, ensure_ascii=False) if states is not None else None,
            writable,
            write_to,
            *limits,
        )


def _changed_limits(tag: Tag, definition: TagDefinition, kind: Kind) -> Limits:
    if kind not in LIMITED:
        if definition.limits != Limits():
            raise BadInput(f"tag {tag.path!r} is of kind {kind}; only a float or int tag has limits")
        return Limits()
    limits = tag.limits._replace(**{name: getattr(definition, name) for name in LIMITS if name in definition.model_fields_set})
    if fault := limits.fault():
        raise BadInput(f"tag {tag.path!r}: {fault}")
    return limits

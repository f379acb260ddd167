"""The one tree of errors: what a caller can do differently about each, with facts as attributes.

    HistorianError
    ├── BadInput              the request is wrong; sending it again will not help
    │   ├── BadSamples        some samples are wrong: every fault with its row
    │   ├── BadDocument       a view or a dashboard is not as it has to be: every fault with its path
    │   └── TooLarge          beyond a stated limit
    ├── UnknownTag            a tag path, id or wildcard that the catalogue does not have
    ├── Unauthorized          no token, or a wrong one
    ├── Forbidden             by a name or from an origin that is not allowed
    ├── NotFound              no such resource
    ├── Conflict              contradicts what stands: another kind, another content for the same (producer, seq)
    │   ├── ProducerTaken     another worker writes under this name now
    │   ├── PreconditionFailed    what was to be replaced has been changed meanwhile
    │   └── PreconditionRequired  what stands may only be replaced by who says which content he has seen
    ├── TimeLimit             took longer than it may: ask for less at a time
    ├── Busy                  a bounded queue is full: come back after `retry_after` seconds
    ├── Unavailable           the database or server is away: come back after `retry_after` seconds
    ├── ArchiveFault          a file of the archive is missing or damaged: it is named
    └── SchemaError           the database's schema does not fit this program

Each class has a stable problem type (RFC 9457) and the HTTP status that it becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class HistorianError(Exception):
    """Root of all errors that this package raises on purpose."""

    problem: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    @property
    def type(self) -> str:
        """Stable identifier of the kind of problem, a URN."""
        return f"urn:historian:problem:{self.problem}"

    def document(self) -> dict[str, Any]:
        """The RFC 9457 problem document."""
        return {"type": self.type, "title": self.title, "status": self.status, "detail": str(self)}


class BadInput(HistorianError):
    """The request is malformed or out of range."""

    problem = "bad-input"
    title = "Bad input"
    status = 400


class UnsupportedMediaType(BadInput):
    """The body's content type is none that can be read."""

    problem = "unsupported-media-type"
    title = "Unsupported media type"
    status = 415


class NotAcceptable(BadInput):
    """None of the formats that the client accepts can be written."""

    problem = "not-acceptable"
    title = "Not acceptable"
    status = 406


class TooLarge(BadInput):
    """A body or a request is beyond a stated limit."""

    problem = "too-large"
    title = "Too large"
    status = 413


@dataclass(frozen=True, slots=True)
class Fault:
    """One faulty sample: `row` counts from 0 in the order of the body; `column` is the field at fault."""

    row: int
    column: str
    detail: str


class BadSamples(BadInput):
    """Some samples of a body are wrong; none of it was stored."""

    problem = "bad-samples"
    title = "Bad samples"
    status = 422

    #: at most so many faults are kept and shown; `count` says how many there are
    SHOWN: ClassVar[int] = 100

    def __init__(self, faults: Sequence[Fault], count: int | None = None) -> None:
        self.faults = tuple(faults[: self.SHOWN])
        self.count = len(faults) if count is None else count
        first = self.faults[0]
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        super().__init__(f"row {first.row}: {first.column}: {first.detail}{more}; nothing of this body was stored")

    def document(self) -> dict[str, Any]:
        shown = [{"row": f.row, "column": f.column, "detail": f.detail} for f in self.faults]
        return super().document() | {"errors": shown, "error_count": self.count}


class BadDocument(BadInput):
    """A document is not as its kind has to be; nothing was stored. `faults`: the path in the document, as in `tiles[3].max`, and what is wrong there."""

    problem = "bad-document"
    title = "Bad document"
    status = 422

    #: at most so many faults are shown
    SHOWN: ClassVar[int] = 50

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        self.faults = tuple(faults[: self.SHOWN])
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{self.faults[0][0]}: {self.faults[0][1]}{more}")

    def document(self) -> dict[str, Any]:
        return super().document() | {"errors": [{"path": path, "detail": detail} for path, detail in self.faults]}


class UnknownTag(HistorianError):
    """A tag that the catalogue does not have."""

    problem = "unknown-tag"
    title = "Unknown tag"
    status = 404

    def __init__(self, tags: Sequence[str | int]) -> None:
        self.tags = tuple(tags)
        shown = ", ".join(repr(t) if isinstance(t, str) else f"tag_id {t}" for t in self.tags[:10])
        more = f" and {len(self.tags) - 10} more" if len(self.tags) > 10 else ""
        super().__init__(f"no such tag: {shown}{more}; GET /v1/tags lists those that there are")

    def document(self) -> dict[str, Any]:
        return super().document() | {"tags": list(self.tags[:100])}


class Unauthorized(HistorianError):
    """No token, or a wrong one."""

    problem = "unauthorized"
    title = "Unauthorized"
    status = 401


class Forbidden(HistorianError):
    """Addressed by a name, or from an origin, that is not allowed."""

    problem = "forbidden"
    title = "Forbidden"
    status = 403


class NotFound(HistorianError):
    """No such resource."""

    problem = "not-found"
    title = "Not found"
    status = 404


class Conflict(HistorianError):
    """The request contradicts what stands."""

    problem = "conflict"
    title = "Conflict"
    status = 409


class ProducerTaken(Conflict):
    """Another worker writes under this producer's name now."""

    problem = "producer-taken"
    title = "Producer is taken"


class PreconditionFailed(Conflict):
    """What was to be replaced is not what stands: somebody has changed it meanwhile."""

    problem = "precondition-failed"
    title = "Changed meanwhile"
    status = 412


class PreconditionRequired(Conflict):
    """What stands is replaced only by who says, with If-Match, which content that is."""

    problem = "precondition-required"
    title = "Precondition required"
    status = 428


class TimeLimit(HistorianError):
    """It took longer than it may. The same request would again."""

    problem = "time-limit"
    title = "Time limit exceeded"
    status = 504


class Busy(HistorianError):
    """A bounded queue is full; the same request will do later."""

    problem = "busy"
    title = "Too many requests"
    status = 429

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class Unavailable(HistorianError):
    """The database (or, seen from a client, the server) cannot be reached; the same request will do later."""

    problem = "unavailable"
    title = "Service unavailable"
    status = 503

    def __init__(self, detail: str, retry_after: float = 2.0) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class ArchiveFault(HistorianError):
    """A file of the archive is missing or damaged, so that an answer would lack samples."""

    problem = "archive"
    title = "The archive cannot be read"
    status = 503


class SchemaError(HistorianError):
    """The database's schema does not fit this program: not there, newer, or damaged."""

    problem = "schema"
    title = "Schema does not fit"
    status = 503

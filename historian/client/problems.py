"""The server's problem documents (RFC 9457) as the errors that they were before they were sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from historian.schema.errors import BadDocument, BadInput, BadSamples, Busy, Fault, HistorianError, Unavailable, UnknownTag

_PREFIX = "urn:historian:problem:"


def _family(cls: type[HistorianError]) -> Iterator[type[HistorianError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == HistorianError.__module__:
            yield from _family(child)


_CLASSES = {cls.problem: cls for cls in _family(HistorianError)}


def _class_of(problem: str, status: int) -> type[HistorianError]:
    """The class of a problem type; of one that this version does not know, what its status means."""
    known = _CLASSES.get(problem)
    if known is not None:
        return known
    if status == 429:
        return Busy
    if status in (502, 503, 504):
        return Unavailable
    return BadInput if 400 <= status < 500 and status not in (401, 403, 404) else HistorianError


def error_of(document: Mapping[str, Any], *, status: int, retry_after: float | None = None) -> HistorianError:
    """The error that a problem document tells of, with its facts as attributes."""
    problem = str(document.get("type") or "").removeprefix(_PREFIX)
    cls = _class_of(problem, status)
    detail = str(document.get("detail") or document.get("title") or f"the server answered {status}")
    if cls is BadSamples:
        faults = [Fault(int(f.get("row", 0)), str(f.get("column", "")), str(f.get("detail", ""))) for f in document.get("errors") or ()]
        if faults:
            return BadSamples(faults, int(document.get("error_count") or len(faults)))
        cls = BadInput
    if cls is BadDocument:
        paths = [(str(f.get("path", "")), str(f.get("detail", ""))) for f in document.get("errors") or ()]
        if paths:
            bad = BadDocument(paths)
            bad.args = (detail,)
            return bad
        cls = BadInput
    if cls is UnknownTag:
        # its constructor would word the detail anew, and the document may not name all tags
        unknown = UnknownTag(tuple(document.get("tags") or ()))
        unknown.args = (detail,)
        return unknown
    if cls is Busy or cls is Unavailable:
        return cls(detail) if retry_after is None else cls(detail, retry_after)
    error = cls(detail)
    if cls.problem != problem:
        # of a kind that this version does not know: what its document says is more exact than the class
        vars(error).update(problem=problem or cls.problem, title=str(document.get("title") or cls.title), status=status)
    return error

"""A problem document becomes the error that it was made of."""

from __future__ import annotations

import pytest

from historian.client.problems import error_of
from historian.schema import errors
from historian.schema.errors import BadInput, BadSamples, Busy, Fault, HistorianError, Unavailable, UnknownTag


@pytest.mark.parametrize(
    "error",
    [
        BadInput("no start"),
        errors.TooLarge("a body of 9 bytes"),
        errors.UnsupportedMediaType("text/plain"),
        errors.NotAcceptable("text/plain"),
        BadSamples([Fault(3, "value", "is infinite"), Fault(9, "ts", "lies outside")], 40),
        errors.BadDocument([("tiles[3].max", "is no number"), ("title", "is missing")]),
        UnknownTag(["a/b"]),
        errors.NotFound("nothing there"),
        errors.Conflict("another kind"),
        errors.PreconditionFailed("changed meanwhile"),
        errors.PreconditionRequired("say which one"),
        Busy("too much"),
        Unavailable("the database is away"),
        errors.SchemaError("run: historian db upgrade"),
        HistorianError("its log says why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_through(error: HistorianError) -> None:
    back = error_of(error.document(), status=error.status)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.document() == error.document()
    if isinstance(error, BadSamples):
        assert isinstance(back, BadSamples)
        assert (back.faults, back.count) == (error.faults, error.count)


def test_retry_after_comes_through() -> None:
    busy = error_of(Busy("full").document(), status=429, retry_after=7)
    assert isinstance(busy, Busy)
    assert busy.retry_after == 7


@pytest.mark.parametrize(
    ("status", "cls"), [(401, HistorianError), (418, BadInput), (429, Busy), (500, HistorianError), (502, Unavailable)]
)
def test_a_problem_of_a_newer_server_is_known_by_its_status(status: int, cls: type[HistorianError]) -> None:
    document = {"type": "urn:historian:problem:brand-new", "title": "Brand new", "status": status, "detail": "what it is"}
    error = error_of(document, status=status)
    assert type(error) is cls
    assert str(error) == "what it is"
    assert (error.problem, error.title, error.status) == ("brand-new", "Brand new", status) or cls in (Busy, Unavailable)
    assert HistorianError.problem == "internal"


def test_an_answer_without_a_document_is_told_by_its_status() -> None:
    assert "503" in str(error_of({}, status=503))

"""The tree of errors, and the problem documents that they become."""

from __future__ import annotations

import json

from historian.schema import errors
from historian.schema.errors import BadInput, BadSamples, Fault, HistorianError, UnknownTag

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, HistorianError)]


def test_each_class_has_a_type_of_its_own() -> None:
    types = [cls.problem for cls in CLASSES]
    assert len(set(types)) == len(types)
    assert all(400 <= cls.status < 600 for cls in CLASSES)


def test_the_document_is_an_rfc_9457_problem() -> None:
    document = BadInput("what is wrong").document()
    assert document == {"type": "urn:historian:problem:bad-input", "title": "Bad input", "status": 400, "detail": "what is wrong"}


def test_all_faults_are_counted_and_the_first_are_shown() -> None:
    faults = [Fault(n, "value", f"fault {n}") for n in range(250)]
    document = BadSamples(faults).document()
    assert document["error_count"] == 250
    assert document["errors"][1] == {"row": 1, "column": "value", "detail": "fault 1"}
    assert len(document["errors"]) == BadSamples.SHOWN
    assert document["detail"].startswith("row 0: value: fault 0 (and 249 more)")
    json.dumps(document)


def test_unknown_tags_are_named_and_not_without_end() -> None:
    error = UnknownTag([f"a/{n}" for n in range(12)])
    assert "'a/0'" in str(error)
    assert "and 2 more" in str(error)
    assert error.tags[-1] == "a/11"
    assert "tag_id 7" in str(UnknownTag([7]))

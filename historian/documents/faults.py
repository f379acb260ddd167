"""Checking a document against its model: every fault with the path at which it stands, as in `tiles[3].max`."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from historian.schema.errors import BadDocument, BadInput

Model = TypeVar("Model", bound=BaseModel)

#: what pydantic says in its own terms
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "union_tag_not_found": "has no `type`, which says what it is",
    "model_attributes_type": "is an object",
    "model_type": "is an object",
}


def checked(model: type[Model], body: bytes) -> Model:
    """The document that a body is. Raises BadInput for what is no JSON, BadDocument with every fault."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is no JSON: {error}") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise BadDocument(
            [(path_of(document, fault["loc"]), _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, "))) for fault in found]
        ) from None


def path_of(document: Any, loc: tuple[int | str, ...]) -> str:
    """A place in a document in words. Pydantic names the member of a union on its way, which is no part of the document: it is left out."""
    path, here = "", document
    for n, part in enumerate(loc):
        if isinstance(part, int):
            path += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
            continue
        inside = isinstance(here, dict) and part in here
        if not inside and (n < len(loc) - 1 or not isinstance(here, dict) or here.get("type") == part):
            continue
        path += f".{part}" if path else part
        here = here[part] if inside else None
    return path or "document"

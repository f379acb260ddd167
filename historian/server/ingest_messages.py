"""What a client says to open a connection to /v1/ingest (docs/protocol.md): parsed and checked here, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from historian.schema.errors import BadInput


class Open(BaseModel):
    """Who writes: `producer` numbers the batches, `instance` is the same when it connects again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["open"]
    producer: str | None = None
    instance: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class ProtocolFault(BadInput):
    """The client does not keep to the protocol."""

    problem = "protocol-fault"
    title = "Protocol fault"


def parse_open(text: str) -> Open:
    """The first message. Raises ProtocolFault, which names each field at fault."""
    try:
        return Open.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise ProtocolFault(f"the first message is open, and JSON: {error}") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc'])) or 'message'}: {f['msg']}" for f in error.errors(include_url=False, include_input=False)]
        raise ProtocolFault("open: " + "; ".join(faults[:10])) from None

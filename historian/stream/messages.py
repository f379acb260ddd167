"""The control messages that a client sends, as docs/protocol.md has them: parsed and checked here, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from historian.query.expressions.pens import MAX_PENS
from historian.query.expressions.tokens import MAX_LENGTH
from historian.query.range_query import StreamMode, StreamOrder
from historian.schema.cursors import MAX_POSITION
from historian.schema.errors import BadInput
from historian.schema.paths import MAX_BYTES
from historian.stream.limits import MAX_TAGS

MAX_MESSAGE_BYTES = 256 << 10
MAX_FAULTS = 100

SubscriptionId = Annotated[int, Field(ge=0, le=0xFFFF)]
Time = Annotated[int | str, Field()]
Position = Annotated[str, Field(min_length=1, max_length=MAX_POSITION)]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_BYTES)]], Field(max_length=MAX_TAGS)]
#: of a command; which of them a tag takes is found out later
WrittenValue = bool | int | float | Annotated[str, Field(max_length=4096)]
#: times a second that a live tail is sent at most
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000.0
MaxRate = Annotated[float, Field(ge=LOWEST_RATE, le=HIGHEST_RATE)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Subscribe(_Message):
    type: Literal["subscribe"]
    id: SubscriptionId
    tags: Names = []
    expressions: Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_LENGTH + 200)]], Field(max_length=MAX_PENS)] = []
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    mode: StreamMode = "raw"
    points: Annotated[int, Field(ge=10, le=100_000)] = 2000
    cursor: Annotated[int, Field(ge=0, le=2**64 - 1)] | None = None
    order: StreamOrder = "oldest"
    max_rate: MaxRate | None = None
    durable: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    position: Position | None = None

    @model_validator(mode="after")
    def _durable(self) -> Self:
        if self.position is not None and self.durable is None:
            raise ValueError("position is of a durable cursor: name it in durable")
        others = self.to is not None or self.cursor is not None or self.mode != "raw" or self.order != "oldest" or self.max_rate is not None
        if self.durable is not None and (self.expressions or others):
            raise ValueError("with durable there are no expressions, to, cursor, mode, order and max_rate: all samples of the tags come")
        return self

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.tags and not self.expressions:
            raise ValueError("tags and expressions are empty: there is nothing to subscribe to")
        return self


class Change(_Message):
    type: Literal["change"]
    id: SubscriptionId
    add: Names = []
    remove: Names = []

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        both = set(self.add) & set(self.remove)
        if both:
            raise ValueError(f"{min(both)!r} is both in add and in remove")
        if len(set(self.remove)) < len(self.remove):
            raise ValueError("a name stands twice in remove")
        return self


class Unsubscribe(_Message):
    type: Literal["unsubscribe"]
    id: SubscriptionId


class Pause(_Message):
    type: Literal["pause"]
    id: SubscriptionId


class Resume(_Message):
    type: Literal["resume"]
    id: SubscriptionId


class Credit(_Message):
    type: Literal["credit"]
    id: SubscriptionId
    n: Annotated[int, Field(ge=1, le=2**31)]


class Acknowledge(_Message):
    type: Literal["acknowledge"]
    id: SubscriptionId
    position: Position


class Write(_Message):
    type: Literal["write"]
    #: of the write and its answers alone: it may be a subscription's too
    id: SubscriptionId
    tag: Annotated[str, Field(min_length=1, max_length=MAX_BYTES)]
    value: WrittenValue
    key: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    timeout: Annotated[float, Field(gt=0, le=3600)] | None = None


class Heartbeat(_Message):
    type: Literal["heartbeat"]


Message = Subscribe | Change | Unsubscribe | Pause | Resume | Credit | Acknowledge | Write | Heartbeat
_KINDS = frozenset(get_args(message.model_fields["type"].annotation)[0] for message in get_args(Message))
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class BadMessage(BadInput):
    """A control message that is none. `subscription` is its id and `request` its type, where it has them."""

    problem = "bad-message"
    title = "Bad control message"

    def __init__(self, detail: str, subscription: int | None = None, request: str | None = None) -> None:
        self.subscription = subscription
        self.request = request
        super().__init__(detail)


def parse(text: str | bytes) -> Message:
    """A control message. Raises BadMessage, which names each field at fault."""
    try:
        data: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"a control message is one JSON object: {error}") from None
    if not isinstance(data, dict):
        raise BadMessage("a control message is one JSON object with a type")
    known = data.get("id")
    subscription = known if isinstance(known, int) and not isinstance(known, bool) and 0 <= known <= 0xFFFF else None
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        parts = []
        for fault in error.errors(include_url=False, include_context=False)[:10]:
            # the first part of the location is the message type that the fault was found in
            where = ".".join(str(part) for part in fault["loc"][1:])
            parts.append(f"{where}: {fault['msg']}" if where else str(fault["msg"]))
        kind = data.get("type")
        raise BadMessage("; ".join(parts), subscription, kind if isinstance(kind, str) and kind in _KINDS else None) from None

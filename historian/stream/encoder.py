"""The events of one subscription as the messages of docs/protocol.md: control messages as JSON, samples as binary frames or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson
import pyarrow as pa

from historian.query.formats import json_samples
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.errors import HistorianError
from historian.schema.samples import arrow_schema
from historian.stream.compression import Reference
from historian.stream.events import Born, Changed, Data, Event, Gap, Live, Reached, Refused, Subscribed
from historian.stream.frames import KEEP, REFERS, ZSTD, FrameWriter
from historian.stream.missed import range_path
from historian.stream.record_batches import record_batch
from historian.stream.tick import Tick

#: what clients may offer in `compression=`
Compression = Literal["zstd", "zstd-dict"]


def error_message(error: HistorianError, subscription: int | None, *, request: str | None = None) -> str:
    """What was wrong, and in which message of the client, if it was one."""
    document: dict[str, Any] = error.document()
    # the problem's type is a field of its own name: `type` says what message this is
    document["problem"] = document.pop("type")
    fields = {"id": subscription, "request": request}
    return orjson.dumps({"type": "error", **{name: value for name, value in fields.items() if value is not None}, **document}).decode()


class EventEncoder:
    """Makes the messages of one subscription."""

    def __init__(self, subscription: int, *, binary: bool, compression: Compression | None = None) -> None:
        self._id = subscription
        self._binary = binary
        self._compression = compression
        #: the last payload that the client was told to keep
        self._reference: Reference | None = None
        self._sequence = 0
        self._frames: FrameWriter | None = None
        self._schema: pa.Schema | None = None
        self._tags: dict[int, Tag] = {}

    def encode(self, event: Event) -> str | bytes:
        match event:
            case Data():
                return self._frame(event) if self._binary else self._text(event)
            case Subscribed(tags, resumed, text):
                # of a durable subscription it comes again, with tags that were made since
                self._sequence = 0
                self._schema = arrow_schema(tags, text=text)
                self._frames = FrameWriter(self._id, self._schema, zstd=self._compression is not None)
                self._tags = {tag.tag_id: tag for tag in tags}
                extra: dict[str, Any] = {} if resumed is None else {"resumed": resumed}
                return self._control("subscribed", tags=[tag.row() for tag in tags], **extra)
            case Born(tags):
                return self._control("tags", tags=self._told(tags))
            case Changed(added, removed):
                return self._control("changed", tags=self._told(added), removed=list(removed))
            case Refused(error):
                return error_message(error, self._id, request="change")
            case Live(cursor):
                return self._control("live", cursor=cursor)
            case Reached(position):
                return self._control("position", position=position)
            case Gap(start, end, reason, tags):
                extra = {"range": range_path(start, end, tags)} if tags else {}
                return self._control("gap", **{"from": format_time(start), "to": format_time(end), "reason": reason}, **extra)

    def _told(self, tags: Sequence[Tag]) -> list[dict[str, Any]]:
        self._tags |= {tag.tag_id: tag for tag in tags}
        return [tag.row() for tag in tags]

    def _control(self, kind: str, **fields: Any) -> str:
        message: str = orjson.dumps({"type": kind, "id": self._id, **fields}).decode()
        return message

    def _frame(self, data: Data) -> bytes:
        assert self._frames is not None
        if data.tick is not None and self._frames.begun:
            return self._shared(data.tick)
        message = record_batch(data.samples, self._schema)
        return self._frames.of_message(message, cursor=data.cursor, backfill=data.backfill, last=data.last)

    def _shared(self, tick: Tick) -> bytes:
        """A frame whose payload all subscriptions of these tags share."""
        assert self._frames is not None
        flags = 0
        if self._compression is None:
            payload = tick.arrow(self._schema)
        elif self._compression == "zstd":
            payload = tick.zstd(self._schema)
        else:
            payload, kept = tick.referring(self._schema, self._reference)
            if kept is not None:
                self._reference = kept
                flags = KEEP
        flags |= (ZSTD if payload.zstd else 0) | (REFERS if payload.refers else 0)
        return self._frames.of_payload(payload.body, flags, cursor=tick.cursor)

    def _text(self, data: Data) -> str:
        sequence = self._sequence
        self._sequence = (sequence + 1) & 0xFFFFFFFF
        head = orjson.dumps(
            {
                "type": "data",
                "id": self._id,
                "sequence": sequence,
                "cursor": data.cursor,
                "backfill": data.backfill,
                "last": data.last,
            }
        )
        samples = json_samples(data.samples, self._tags) if data.tick is None else data.tick.json(self._tags)
        message: bytes = head[:-1] + b',"samples":[' + samples + b"]}"
        return message.decode()

"""Which topics commands are published to, and how: the `[[mqtt.command]]` tables. docs/ingest/mqtt.md describes every key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from historian.ingest.sources.command_publisher import Encode, Undeliverable
from historian.ingest.sources.topics import filter_regex
from historian.schema.commands import Claim
from historian.schema.errors import BadInput
from historian.schema.paths import wildcard_regex

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"\{([^{}]*)\}")


class CommandRule(BaseModel):
    """Where the commands to some tags go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: a path or wildcard
    tag: str
    #: {tag}, and {1}, {2}… for what the wildcards stood for
    topic: Annotated[str, Field(min_length=1, max_length=65535)]
    #: `value` is the bare value, without the number by which the plant could tell a second copy
    payload: Literal["json", "value"] = "json"

    @field_validator("tag")
    @classmethod
    def _tag(cls, pattern: str) -> str:
        try:
            wildcard_regex(pattern)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return pattern

    @model_validator(mode="after")
    def _places(self) -> Self:
        wildcards = self.regex.groups
        for place in _PLACE.findall(self.topic):
            if place != "tag" and not (place.isascii() and place.isdigit() and 1 <= int(place) <= wildcards):
                raise ValueError(
                    f"topic {self.topic!r}: there is {{tag}}, and {{1}} to {{{wildcards}}} for the wildcards of {self.tag!r}; not {{{place}}}"
                )
        fixed = _PLACE.sub("", self.topic)
        if set("{}+#\0") & set(fixed) or fixed.startswith("$"):
            raise ValueError(f"topic {self.topic!r}: a message is published to one topic, without + and #, which does not begin with $")
        return self

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return filter_regex(self.tag)

    def topic_of(self, path: str) -> str | None:
        """Where a command to the tag goes, if this rule is for it."""
        match = self.regex.fullmatch(path)
        if match is None:
            return None
        stands = {"tag": path} | {str(n): level or "" for n, level in enumerate(match.groups(), 1)}
        return _PLACE.sub(lambda place: stands[place[1] if place[1] == "tag" else place[1].lstrip("0")], self.topic)


def encoder(rules: Sequence[CommandRule]) -> Encode:
    """Topic and payload of a command by the first rule that is for its tag."""

    def encode(claim: Claim) -> tuple[str, bytes]:
        for rule in rules:
            topic = rule.topic_of(claim.tag)
            if topic is None:
                continue
            if not topic or len(topic.encode()) > 65535 or set("+#\0") & set(topic) or topic.startswith("$"):
                raise Undeliverable(f"{topic[:100]!r} is no topic that one can publish to")
            return topic, _payload(claim, rule)
        raise Undeliverable("no [[mqtt.command]] is for this tag")

    return encode


def _iso(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _payload(claim: Claim, rule: CommandRule) -> bytes:
    if rule.payload == "value":
        return claim.value.encode() if isinstance(claim.value, str) else orjson.dumps(claim.value)
    return orjson.dumps(
        {
            "command_id": claim.command_id,
            "tag": claim.tag,
            "value": claim.value,
            "requested_at": _iso(claim.requested_at),
            "expires_at": _iso(claim.expires_at),
        }
    )

"""Commands published to an MQTT broker: the `[[mqtt.command]]` tables. docs/commands.md says what the plant gets.

Promise. A command is published with quality of service 1, at least once, and settled as delivered when the broker has confirmed it. It is never published after its
expiry, nor when another worker may have it: both by the clock that does not jump, from before the command was taken. Where a broker does not confirm in time the
connection is cut, so that nothing of what waits in this process or its socket is sent later.

Of one tag one command is on its way at a time; what the plant does with it, it says by a sample.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from historian.ingest.backoff import Backoff
from historian.ingest.command_queue import CommandQueue
from historian.ingest.sources.mqtt_connection import MqttConnection
from historian.ingest.sources.source import SourceCounts
from historian.ingest.sources.topics import filter_regex
from historian.schema.commands import Claim
from historian.schema.errors import BadInput, Conflict, HistorianError
from historian.schema.paths import wildcard_regex

log = logging.getLogger(__name__)

#: commands on their way at a time; paho sends no more than 20 that are not confirmed, and keeps the others for later
AT_ONCE = 16
_WAIT_S = 20.0
#: published with less time left it would not be confirmed anyway
_LEAST_S = 0.02
_LONGEST_PAUSE_S = 5.0
_TOLD_S = 30.0

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


class MqttCommands:
    """Takes commands from a queue to a broker. `connected` and `lost` are hooks of the connection; `counts.more` has what became of them."""

    def __init__(self, rules: Sequence[CommandRule], counts: SourceCounts) -> None:
        self._rules = tuple(rules)
        self._patterns = list(dict.fromkeys(rule.tag for rule in rules))
        self._counts = counts
        self._connected = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._told = (0.0, "")
        counts.more.update(commands_delivered=0, commands_released=0, commands_failed=0)

    async def connected(self) -> None:
        self._connected.set()

    async def lost(self) -> None:
        self._connected.clear()

    async def run(self, connection: MqttConnection, queue: CommandQueue) -> None:
        """Until cancelled."""
        pause = Backoff(0.2, _LONGEST_PAUSE_S)
        async with asyncio.TaskGroup() as group:
            while True:
                # without a broker another worker may have better luck
                await self._connected.wait()
                try:
                    if not await queue.wait(self._patterns, _WAIT_S):
                        continue
                    async with self._room:
                        pass
                    asked_at = time.monotonic()
                    claims = await queue.claim(self._patterns, AT_ONCE)
                    pause.reset()
                except HistorianError as error:
                    self._tell(f"commands cannot be taken: {error}")
                    await asyncio.sleep(pause.next())
                    continue
                for claim in claims:
                    group.create_task(self._deliver(connection, queue, claim, asked_at))
                if not claims:
                    # another worker was quicker
                    await asyncio.sleep(pause.next())

    async def _deliver(self, connection: MqttConnection, queue: CommandQueue, claim: Claim, asked_at: float) -> None:
        async with self._room:
            outcome, detail, sent = await self._published(
                connection, claim, asked_at + min(claim.held_s, claim.expires_s), asked_at + claim.expires_s
            )
            pause = Backoff(0.2, _LONGEST_PAUSE_S)
            # what could not be said until then is found out from the audit: it is settled there as not confirmed
            until = time.monotonic() + _TOLD_S
            while True:
                try:
                    if outcome == "released":
                        await queue.release(claim, detail, sent=sent)
                    else:
                        await queue.settle(claim, outcome, detail or None)
                    break
                except HistorianError as error:
                    self._tell(f"that command {claim.command_id} is {outcome} cannot be told: {error}")
                    if time.monotonic() > until:
                        break
                    await asyncio.sleep(pause.next())
        self._counts.more[f"commands_{outcome}"] += 1
        log.info("command %d to %s: %s%s", claim.command_id, claim.tag, outcome, f", {detail}" if detail else "")

    async def _published(
        self, connection: MqttConnection, claim: Claim, until: float, expires: float
    ) -> tuple[Literal["delivered", "failed", "released"], str, bool]:
        """What became of one, why, and whether it may have been sent."""
        topic, rule = next(((found, rule) for rule in self._rules if (found := rule.topic_of(claim.tag)) is not None), ("", self._rules[0]))
        if not topic or len(topic.encode()) > 65535 or set("+#\0") & set(topic) or topic.startswith("$"):
            return "failed", f"{topic[:100]!r} is no topic that one can publish to", False
        if not connection.is_connected:
            return "released", "the worker has lost its broker", False
        left = until - time.monotonic()
        if left < _LEAST_S:
            return "released", "the worker had no time left to publish it", False
        try:
            # the broker lets go of what its subscribers have not fetched by then
            await connection.publish(topic, _payload(claim, rule), qos=1, timeout_s=left, expires_s=expires - time.monotonic())
        except Conflict as error:
            return "failed", str(error), False
        except HistorianError as error:
            connection.abort(f"it did not confirm command {claim.command_id} in time")
            return "released", f"not confirmed by the broker: {error}"[:2000], True
        return "delivered", "", True

    def _tell(self, text: str) -> None:
        if self._told[1] != text or time.monotonic() - self._told[0] > 60:
            self._told = (time.monotonic(), text)
            log.warning("%s", text)


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

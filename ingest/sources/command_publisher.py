"""Commands published to an MQTT broker, whatever their form: what the MQTT and the Sparkplug source have in common. docs/commands.md says what the plant can count on.

Promise. A command is published with quality of service 1, at least once, and settled as delivered when the broker has confirmed it. It is never published after its
expiry, nor when another worker may have it: both by the clock that does not jump, from before the command was taken. Where a broker does not confirm in time the
connection is cut, so that nothing of what waits in this process or its socket is sent later.

Of one tag one command is on its way at a time; what the plant does with it, it says by a sample.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from historian.ingest.backoff import Backoff
from historian.ingest.command_queue import CommandQueue
from historian.ingest.sources.mqtt_connection import MqttConnection
from historian.ingest.sources.source import SourceCounts
from historian.schema.commands import Claim
from historian.schema.errors import Conflict, HistorianError

log = logging.getLogger(__name__)

#: commands on their way at a time; paho sends no more than 20 that are not confirmed, and keeps the others for later
AT_ONCE = 16
_WAIT_S = 20.0
#: published with less time left it would not be confirmed anyway
_LEAST_S = 0.02
_LONGEST_PAUSE_S = 5.0
_LOST_S = 0.2
_TOLD_S = 30.0


class Undeliverable(Exception):
    """There is nowhere to publish a command to, for the reason given."""


#: topic and payload of a command; raises Undeliverable
Encode = Callable[[Claim], tuple[str, bytes]]


class CommandPublisher:
    """Takes commands to tags of some patterns from a queue to a broker. `connected` and `lost` are hooks of the connection; `counts.more` has what became of them."""

    def __init__(self, patterns: Sequence[str], encode: Encode, counts: SourceCounts) -> None:
        self._patterns = list(dict.fromkeys(patterns))
        self._encode = encode
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
                if not connection.is_connected:
                    # lost, and what came before is still being handled
                    await asyncio.sleep(_LOST_S)
                    continue
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
        try:
            topic, payload = self._encode(claim)
        except Undeliverable as error:
            return "failed", str(error), False
        if not connection.is_connected:
            return "released", "the worker has lost its broker", False
        left = until - time.monotonic()
        if left < _LEAST_S:
            return "released", "the worker had no time left to publish it", False
        try:
            # the broker lets go of what its subscribers have not fetched by then
            await connection.publish(topic, payload, qos=1, timeout_s=left, expires_s=expires - time.monotonic())
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


async def with_commands(taking: Coroutine[Any, Any, None], publishing: Coroutine[Any, Any, None]) -> None:
    """Run a source and its publisher until either ends."""
    taker, publisher = asyncio.ensure_future(taking), asyncio.ensure_future(publishing)
    try:
        await asyncio.wait((taker, publisher), return_when=asyncio.FIRST_COMPLETED)
        for task in (taker, publisher):
            if task.done():
                task.result()
    finally:
        # what is on its way needs the connection
        for task in (publisher, taker):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

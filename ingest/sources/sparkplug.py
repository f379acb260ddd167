"""Sparkplug B as a source: edge nodes and devices on an MQTT broker. docs/ingest/sparkplug.md describes it."""

from __future__ import annotations

import asyncio
import logging
import string
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import aiomqtt
import orjson
from pydantic import Field, field_validator

from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.command_publisher import CommandPublisher, with_commands
from historian.ingest.sources.mqtt_config import MqttConnectionConfig
from historian.ingest.sources.mqtt_connection import MqttConnection, Received
from historian.ingest.sources.source import Intake, SourceCounts
from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.sources.sparkplug_commands import encoder
from historian.ingest.sources.sparkplug_state import NAMESPACE, Message, Outcome, SparkplugState
from historian.schema.errors import BadInput, Unavailable
from historian.schema.paths import wildcard_regex

log = logging.getLogger(__name__)

#: samples that are put at a time
_PUT_SAMPLES = 5000
_TICK_S = 0.5
_BOOLEAN = 11

_Level = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^/+#\x00-\x1f]+$")]


class SparkplugConfig(MqttConnectionConfig):
    """The `[sparkplug]` table: the broker, which groups, and how their metrics become tags."""

    groups: tuple[_Level, ...] = ()
    tag: str = "{group}/{node}/{device}/{metric}"
    #: take part as a host application of this name: STATE messages, for nodes that wait for one
    host_id: _Level | None = None
    #: ask nodes to be born again where that is needed; false for a worker that may only listen
    rebirth: bool = True
    #: how long data wait for a birth, unacknowledged, before they go to the dead-letter file
    birth_wait_s: float = Field(60.0, gt=0, le=3600)
    #: paths and wildcards of tags whose commands are sent to their nodes and devices, as NCMD and DCMD; none by default
    commands: tuple[str, ...] = ()

    @field_validator("commands")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                wildcard_regex(pattern)
            except BadInput as error:
                raise ValueError(str(error)) from None
        return patterns

    @field_validator("tag")
    @classmethod
    def _template(cls, tag: str) -> str:
        names = {name for _, name, _, _ in string.Formatter().parse(tag) if name is not None}
        if names - {"group", "node", "device", "metric"}:
            raise ValueError(
                f"{{{sorted(names - {'group', 'node', 'device', 'metric'})[0]}}} is unknown; there are group, node, device and metric"
            )
        if "metric" not in names:
            raise ValueError("without {metric} all metrics of a device would be one tag")
        return tag


class SparkplugSource:
    """All edge nodes of some groups on one broker."""

    def __init__(self, config: SparkplugConfig) -> None:
        self.counts = SourceCounts(more={"retained_skipped": 0})
        self._config = config
        self._state = SparkplugState(config.tag)
        self._connection: MqttConnection | None = None
        self._commands = CommandPublisher(config.commands, encoder(self._state), self.counts) if config.commands else None
        self._online_ms = 0
        self._handling = False

    async def run(self, intake: Intake) -> None:
        """Take samples until cancelled. Raises BadInput for certificates that cannot be read."""
        births = intake.state_dir / "births"
        await asyncio.to_thread(self._restore, births)
        config = self._config
        # births and data are sent with QoS 0, deaths with 1
        subscriptions = [f"{NAMESPACE}/{group}/#" for group in config.groups or ("+",)]

        async def handle(messages: list[Received]) -> None:
            self._handling = True
            try:
                await self._handle(intake, messages, births)
            finally:
                self._handling = False

        self._connection = MqttConnection(
            config,
            subscriptions,
            self.counts,
            will=self._will if config.host_id is not None else None,
            on_connect=self._connected,
            on_lost=self._lost,
            on_leave=self._say_offline if config.host_id is not None else None,
            state=intake.state_dir / "subscriptions.json",
        )
        running = self._connection.run(handle)
        if self._commands is not None:
            running = with_commands(running, self._commands.run(self._connection, intake.commands))
        tasks = [asyncio.ensure_future(running), asyncio.ensure_future(self._give_up(intake))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _give_up(self, intake: Intake) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            # while something is being put, or there is no connection, no birth can be read
            if self._handling or not self.counts.connected:
                continue
            for outcome in self._state.wait(_TICK_S, self._config.birth_wait_s):
                self.counts.refused += 1
                await intake.refuse(_reason(outcome.faults), outcome.message.topic, outcome.message.payload, _after(outcome))
            self.counts.more.update(self._state.counts)
            # commands ask too
            await self._ask_for_rebirths()

    async def _handle(self, intake: Intake, messages: list[Received], births: Path) -> None:
        rows: list[dict[str, Any]] = []
        settled: list[Callable[[], None]] = []

        async def flush() -> None:
            nonlocal rows, settled
            if rows:
                self.counts.samples += len(rows)
                await intake.put(PathSamples.of_rows(rows), _all(settled))
            rows, settled = [], []

        for received in messages:
            parts = received.topic.split("/")
            if len(parts) > 2 and (parts[2] in ("NCMD", "DCMD") or parts[1] == "STATE"):
                received.settled()  # for others: commands, and hosts that tell of themselves
                continue
            if received.retain:
                # births and data are of their moment: one that the broker kept says nothing of now
                self.counts.more["retained_skipped"] += 1
                received.settled()
                continue
            message = Message(received.topic, received.payload, received.arrival_us, received.dup, received)
            for outcome in self._state.feed(message):
                done = _after(outcome)
                if outcome.definitions:
                    intake.define(outcome.definitions)
                if outcome.rows:
                    rows += outcome.rows
                    settled.append(done)
                if outcome.faults:
                    self.counts.refused += 1
                    await intake.refuse(_reason(outcome.faults), outcome.message.topic, outcome.message.payload, done)
                if not outcome.rows and not outcome.faults:
                    done()
            if len(rows) >= _PUT_SAMPLES:
                await flush()
        await flush()
        self.counts.more.update(self._state.counts)
        await self._ask_for_rebirths()
        if self._state.changed:
            changed, self._state.changed = self._state.changed, set()
            kept = {key: self._state.keep(key) for key in changed}
            await asyncio.to_thread(_keep, births, kept)

    async def _ask_for_rebirths(self) -> None:
        wanted, self._state.rebirths = self._state.rebirths, []
        if not self._config.rebirth or self._connection is None:
            return
        for group, node in wanted:
            payload = Payload(timestamp=time.time_ns() // 1_000_000)
            payload.metrics.add(name="Node Control/Rebirth", datatype=_BOOLEAN, boolean_value=True)
            log.info("edge node %s/%s is asked to be born again", group, node)
            try:
                await self._connection.publish(f"{NAMESPACE}/{group}/NCMD/{node}", payload.SerializeToString())
            except Unavailable:
                return  # its data ask again, once there is a connection

    # -- as a host application

    def _state_message(self, online: bool) -> bytes:
        return orjson.dumps({"online": online, "timestamp": self._online_ms})

    def _will(self) -> aiomqtt.Will:
        self._online_ms = time.time_ns() // 1_000_000
        return aiomqtt.Will(f"{NAMESPACE}/STATE/{self._config.host_id}", self._state_message(False), qos=1, retain=True)

    async def _lost(self) -> None:
        self._state.distrust()
        if self._commands is not None:
            await self._commands.lost()

    async def _connected(self) -> None:
        assert self._connection is not None
        # also where messages came before this one was called
        self._state.distrust()
        if self._commands is not None:
            await self._commands.connected()
        if self._config.host_id is None:
            return
        await self._connection.publish(f"{NAMESPACE}/STATE/{self._config.host_id}", self._state_message(True), qos=1, retain=True)

    async def _say_offline(self) -> None:
        assert self._connection is not None
        await self._connection.publish(f"{NAMESPACE}/STATE/{self._config.host_id}", self._state_message(False), qos=1, retain=True)

    # -- over restarts

    def _restore(self, births: Path) -> None:
        for file in sorted(births.glob("*.json")):
            try:
                self._state.restore(orjson.loads(file.read_bytes()))
            except (OSError, KeyError, TypeError, ValueError) as error:
                # the node is asked to be born again in any case
                log.warning("%s cannot be read and is left out: %s", file, error)


def _after(outcome: Outcome) -> Callable[[], None]:
    """Settles the message once both its samples and its copy among the dead letters are safe."""
    received: Received = outcome.message.token
    left = bool(outcome.rows) + bool(outcome.faults)

    def done() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            received.settled()

    return done


def _all(callbacks: list[Callable[[], None]]) -> Callable[[], None]:
    def settled() -> None:
        for callback in callbacks:
            callback()

    return settled


def _reason(faults: list[str]) -> str:
    more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
    return "; ".join(faults[:10]) + more


def _keep(births: Path, kept: dict[tuple[str, str], dict[str, Any]]) -> None:
    births.mkdir(parents=True, exist_ok=True)
    for (group, node), found in kept.items():
        # names can be longer than a file's, and alike in all that fits
        name = quote(f"{group}/{node}", safe="")
        if len(name) > 200:
            name = f"{name[:150]}-{sha256(name.encode()).hexdigest()[:32]}"
        file = births / f"{name}.json"
        part = file.with_suffix(".part")
        part.write_bytes(orjson.dumps(found))
        part.replace(file)

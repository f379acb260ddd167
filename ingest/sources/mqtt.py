"""The MQTT source: a tree of topics whose messages become samples by rules. docs/ingest/mqtt.md says how to set it up.

A message is acknowledged to the broker when all its samples are safe (`mqtt_connection.py`). What cannot be understood goes into the dead-letter file, whole, with the
reason; its good samples are taken nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import Field, model_validator

from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.command_publisher import CommandPublisher, with_commands
from historian.ingest.sources.mqtt_commands import CommandRule, encoder
from historian.ingest.sources.mqtt_config import MqttConnectionConfig
from historian.ingest.sources.mqtt_connection import MqttConnection, Received
from historian.ingest.sources.mqtt_payloads import Decoded, Row, decode, joined
from historian.ingest.sources.source import Intake, SourceCounts
from historian.ingest.sources.topics import Mapped, TopicRule, Topics
from historian.schema.catalogue import TagDefinition

#: samples of one `put`, about: messages that came meanwhile are put together
_PUT_SAMPLES = 10_000
#: paths whose definition was told
_REMEMBERED = 100_000


class MqttConfig(MqttConnectionConfig):
    """The `[mqtt]` table: the broker, and what is taken from it."""

    rule: tuple[TopicRule, ...] = ()
    #: what is published: commands to tags
    command: tuple[CommandRule, ...] = ()
    #: beyond, a message goes into the dead-letter file undecoded
    max_payload_bytes: Annotated[int, Field(ge=1, le=256 * 2**20)] = 16 * 2**20

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.rule and not self.command:
            raise ValueError("there is neither a [[mqtt.rule]], for what is taken, nor an [[mqtt.command]], for what is published")
        return self


class MqttSource:
    """One broker's messages as samples."""

    def __init__(self, config: MqttConfig) -> None:
        self.counts = SourceCounts()
        self.counts.more.update(unacknowledged=0, waiting=0, redelivered=0, ignored=0, empty=0, retained_skipped=0)
        self._config = config
        self._topics = Topics(config.rule)
        self._told: set[str] = set()

    async def run(self, intake: Intake) -> None:
        """Take samples until cancelled. Raises BadInput for certificates that cannot be read."""

        async def handle(messages: list[Received]) -> None:
            await self._handle(intake, messages)

        rules = self._config.command
        commands = CommandPublisher([rule.tag for rule in rules], encoder(rules), self.counts) if rules else None
        connection = MqttConnection(
            self._config,
            self._topics.subscriptions,
            self.counts,
            on_connect=commands.connected if commands is not None else None,
            on_lost=commands.lost if commands is not None else None,
            state=intake.state_dir / "subscriptions.json",
        )
        if commands is None:
            await connection.run(handle)
            return
        await with_commands(connection.run(handle), commands.run(connection, intake.commands))

    async def _handle(self, intake: Intake, messages: list[Received]) -> None:
        """Samples of consecutive messages are put together."""
        parts: list[PathSamples | list[Row]] = []
        settled: list[Callable[[], None]] = []
        definitions: list[TagDefinition] = []
        size = 0

        async def flush() -> None:
            nonlocal parts, settled, definitions, size
            if definitions:
                intake.define(definitions)
            if parts:
                self.counts.samples += size
                await intake.put(joined(parts), _all(settled))
            parts, settled, definitions, size = [], [], [], 0

        for message in messages:
            mapped = self._topics.map(message.topic)
            decoded = self._decoded(mapped, message)
            if decoded is None:
                message.settled()
                continue
            rule = mapped.rule
            # a message is settled when its samples are, and its copy in the dead-letter file too
            done = message.settled if not decoded.faults or not (decoded.rows or decoded.parts) else _after_two(message.settled)
            if decoded.rows or decoded.parts:
                assert rule is not None
                if decoded.rows:
                    if parts and isinstance(parts[-1], list):
                        parts[-1].extend(decoded.rows)
                    else:
                        parts.append(decoded.rows)
                parts.extend(decoded.parts)
                size += len(decoded.rows) + sum(map(len, decoded.parts))
                settled.append(done)
                self._define(rule, decoded, definitions)
            if decoded.faults:
                self.counts.refused += 1
                await intake.refuse(decoded.reason, message.topic.encode(errors="backslashreplace").decode(), message.payload, done)
            if size >= _PUT_SAMPLES:
                await flush()
        await flush()

    def _decoded(self, mapped: Mapped, message: Received) -> Decoded | None:
        """None for a message of which nothing is wanted."""
        rule = mapped.rule
        if rule is not None and rule.payload == "ignore":
            self.counts.more["ignored"] += 1
            return None
        if not message.payload:
            # how a retained message is taken back: it says nothing of any value
            self.counts.more["empty"] += 1
            return None
        if rule is None or mapped.fault is not None:
            refused = Decoded()
            refused.fault(mapped.fault or "")
            return refused
        if len(message.payload) > self._config.max_payload_bytes:
            refused = Decoded()
            refused.fault(f"the payload has {len(message.payload)} bytes; at most {self._config.max_payload_bytes}")
            return refused
        if message.retain and rule.retained == "skip":
            self.counts.more["retained_skipped"] += 1
            return None
        decoded = decode(rule, mapped.path, message.payload, message.arrival_us)
        if message.retain and rule.retained is None and decoded.by_arrival:
            # it is of some time before we came: now it would be a new sample at every connection
            self.counts.more["retained_skipped"] += 1
            return None
        return decoded

    def _define(self, rule: TopicRule, decoded: Decoded, definitions: list[TagDefinition]) -> None:
        """Tell what is known of tags that were not seen before: what the rule says, and that values are true or false."""
        known = rule.kind is not None or rule.unit is not None or rule.description is not None
        if not known and not decoded.bools:
            return
        bools = set(decoded.bools)
        paths = {row[0] for row in decoded.rows} | {path for part in decoded.parts for path in part.paths} if known else bools
        for path in paths - self._told:
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told.add(path)
            definition = rule.definition(path, "bool" if path in bools else None)
            if definition is not None:
                definitions.append(definition)


def _all(callbacks: list[Callable[[], None]]) -> Callable[[], None]:
    if len(callbacks) == 1:
        return callbacks[0]

    def settled() -> None:
        for callback in callbacks:
            callback()

    return settled


def _after_two(callback: Callable[[], None]) -> Callable[[], None]:
    left = 2

    def settled() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            callback()

    return settled

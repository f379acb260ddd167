"""Sparkplug B on a real broker: an edge node is born, speaks, dies, and is asked to be born again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import orjson
import pytest
from brokers import Broker, broker, until  # noqa: F401 - a fixture
from pydantic import ValidationError
from recording_intake import NO_COMMANDS, RecordingIntake

from historian.ingest.command_queue import CommandQueue
from historian.ingest.sources.sparkplug import SparkplugConfig, SparkplugSource
from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.worker.command_table import CommandTable
from historian.schema import commands
from historian.schema.commands import Asked
from historian.schema.connection import Pool, query

DOUBLE, UINT64, BOOLEAN = 10, 8, 11


class EdgeNode:
    """On one connection; says its birth when it is asked to."""

    def __init__(self, client: aiomqtt.Client, bd_seq: int, alias: int) -> None:
        self._client = client
        self._bd_seq = bd_seq
        self._alias = alias
        self._seq = 0
        self.asked = 0
        self.heard: list[Payload.Metric] = []

    @staticmethod
    def death(bd_seq: int) -> bytes:
        payload = Payload()
        payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=bd_seq)
        return payload.SerializeToString()

    async def birth(self) -> None:
        payload = Payload(timestamp=time.time_ns() // 10**6, seq=0)
        payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=self._bd_seq)
        payload.metrics.add(name="Node Control/Rebirth", datatype=BOOLEAN, boolean_value=False)
        metric = payload.metrics.add(name="Line/Temp", alias=self._alias, datatype=DOUBLE, double_value=0.5)
        metric.properties.keys.append("engUnit")
        metric.properties.values.add(type=12, string_value="°C")
        self._seq = 0
        await self._client.publish("spBv1.0/plant/NBIRTH/edge", payload.SerializeToString())

    async def data(self, value: float, ms: int) -> None:
        self._seq = (self._seq + 1) % 256
        payload = Payload(timestamp=ms, seq=self._seq)
        payload.metrics.add(alias=self._alias, double_value=value)
        await self._client.publish("spBv1.0/plant/NDATA/edge", payload.SerializeToString())

    async def obey(self) -> None:
        async for message in self._client.messages:
            command = Payload.FromString(bytes(message.payload))  # type: ignore[arg-type]
            if command.metrics[0].name == "Line/Temp":
                self.heard += command.metrics
                continue
            assert [(m.name, m.boolean_value) for m in command.metrics] == [("Node Control/Rebirth", True)]
            self.asked += 1
            await self.birth()


@asynccontextmanager
async def edge_node(port: int, bd_seq: int = 0, alias: int = 7) -> AsyncIterator[EdgeNode]:
    will = aiomqtt.Will("spBv1.0/plant/NDEATH/edge", EdgeNode.death(bd_seq), qos=1)
    async with aiomqtt.Client("127.0.0.1", port, identifier="edge", will=will) as client:
        node = EdgeNode(client, bd_seq, alias)
        await client.subscribe("spBv1.0/plant/NCMD/edge")
        task = asyncio.create_task(node.obey())
        try:
            yield node
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def taking(
    port: int, directory: Path, commands_from: CommandQueue = NO_COMMANDS, **more: object
) -> AsyncIterator[tuple[SparkplugSource, RecordingIntake]]:
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - one directory
    source = SparkplugSource(
        SparkplugConfig.model_validate({"host": "127.0.0.1", "port": port, "client_id": "historian", "reconnect_longest_s": 0.5, **more})
    )
    intake = RecordingIntake(directory)
    intake.commands = commands_from
    task = asyncio.create_task(source.run(intake))
    try:
        await until(lambda: source.counts.connected)
        yield source, intake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def of(intake: RecordingIntake) -> list[float | str | None]:
    return [value for _, value, _ in intake.of("plant/edge/Line/Temp")]


async def test_birth_data_and_death_of_an_edge_node(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    async with taking(broker.port, tmp_path / "state") as (source, intake):
        now = time.time_ns() // 10**6
        async with edge_node(broker.port) as node:
            await node.birth()
            for n in range(10):
                await node.data(float(n), now - 1000 + n)
            await until(lambda: len(of(intake)) == 11)
            # what the broker publishes when the node's power is cut
            await node._client.publish("spBv1.0/plant/NDEATH/edge", EdgeNode.death(0), qos=1)
        await until(lambda: intake.of("plant/edge/Line/Temp")[-1][1:] == (None, 24))
        assert intake.defined["plant/edge/Line/Temp"].unit == "°C"
        assert intake.defined["plant/edge/Line/Temp"].kind == "float"
        assert intake.refused == []
        assert {name: source.counts.more[name] for name in ("births", "deaths", "stale")} == {"births": 1, "deaths": 1, "stale": 1}


async def test_a_source_that_comes_late_asks_for_a_rebirth(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    now = time.time_ns() // 10**6
    async with edge_node(broker.port) as node:
        await node.birth()
        async with taking(broker.port, tmp_path / "state") as (_, intake):
            await node.data(1.0, now + 1)
            await until(lambda: node.asked == 1)
            await until(lambda: 0.5 in of(intake))
            await node.data(2.0, now + 60_000)
            await until(lambda: of(intake)[-1] == 2.0)
            # what came before any birth is kept, unread
            assert len(intake.refused) == 1
        # the next life knows the births of this one, and keeps what comes before the next
        async with taking(broker.port, tmp_path / "state") as (_, intake):
            await node.data(3.0, now + 120_000)
            await until(lambda: 3.0 in of(intake))
            assert node.asked == 2
            assert intake.refused == []


async def test_a_broker_that_is_restarted_costs_no_names(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    async with taking(broker.port, tmp_path / "state") as (source, intake):
        async with edge_node(broker.port, 0, alias=1) as node:
            await node.birth()
            await until(lambda: 0.5 in of(intake))
        await asyncio.to_thread(broker.restart)
        await until(lambda: source.counts.connects == 2 and source.counts.connected)
        async with edge_node(broker.port, 1, alias=2) as node:
            # its birth is lost on us: only its data come
            node._seq = 0
            await node.data(9.0, time.time_ns() // 10**6)
            await until(lambda: node.asked == 1)
            await until(lambda: len(intake.refused) == 1)
            await node.data(4.0, time.time_ns() // 10**6 + 5)
            await until(lambda: of(intake)[-1] == 4.0)
            assert 9.0 not in of(intake)


async def test_a_broker_that_sends_no_more_until_it_has_acknowledgements_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Births queue behind the data that wait for them: 20 messages are what mosquitto sends by default."""
    narrow = Broker(tmp_path / "narrow", options={"max_inflight_messages": 20})
    try:
        more = {"protocol": "3.1.1", "birth_wait_s": 1.0}
        now = time.time_ns() // 10**6
        async with aiomqtt.Client("127.0.0.1", narrow.port) as client:

            async def publish(kind: str, seq: int, **metric: object) -> None:
                payload = Payload(timestamp=now + seq, seq=seq)
                if kind == "NBIRTH":
                    payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=0)
                payload.metrics.add(alias=7, **metric)  # type: ignore[arg-type]
                await client.publish(f"spBv1.0/plant/{kind}/edge", payload.SerializeToString(), qos=1)

            birth = {"name": "Line/Temp", "datatype": DOUBLE, "double_value": 0.5}
            async with taking(narrow.port, tmp_path / "state", **more) as (_, intake):
                await publish("NBIRTH", 0, **birth)
                await until(lambda: 0.5 in of(intake))
            for seq in range(1, 101):
                await publish("NDATA", seq, double_value=float(seq))
            async with taking(narrow.port, tmp_path / "state", **more) as (source, intake):
                await publish("NBIRTH", 0, **birth)
                await publish("NDATA", 1, double_value=7.0)
                await until(lambda: 7.0 in of(intake))
                assert len(intake.refused) == 100
                assert source.counts.more["held"] == 0
    finally:
        narrow.stop()


async def test_bad_payloads_are_kept_and_the_next_are_taken(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    async with taking(broker.port, tmp_path / "state", groups=["plant"]) as (_, intake), edge_node(broker.port) as node:
        await node._client.publish("spBv1.0/plant/NDATA/edge", b"\xff\xff\xff")
        await node._client.publish("spBv1.0/other/NDATA/edge", b"\xff\xff\xff")
        await node.birth()
        await until(lambda: 0.5 in of(intake))
        assert [(where, payload) for _, where, payload in intake.refused] == [("spBv1.0/plant/NDATA/edge", b"\xff\xff\xff")]


async def test_a_host_application_tells_of_its_state(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    async with aiomqtt.Client("127.0.0.1", broker.port) as watcher:
        await watcher.subscribe("spBv1.0/STATE/historian", qos=1)
        async with taking(broker.port, tmp_path / "state", host_id="historian"):
            message = await anext(watcher.messages)
            assert orjson.loads(message.payload)["online"] is True  # type: ignore[arg-type]
        message = await anext(watcher.messages)
        assert orjson.loads(message.payload)["online"] is False  # type: ignore[arg-type]


async def test_nodes_of_long_names_are_each_known_after_a_restart(broker: Broker, tmp_path: Path) -> None:  # noqa: F811
    names = [f"{'Förderanlage-' * 15}{n}" for n in range(2)]
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        async with taking(broker.port, tmp_path / "state") as (source, _):
            for name in names:
                payload = Payload(timestamp=time.time_ns() // 10**6, seq=0)
                payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=0)
                payload.metrics.add(name="Temp", alias=1, datatype=DOUBLE, double_value=1.0)
                await client.publish(f"spBv1.0/plant/NBIRTH/{name}", payload.SerializeToString())
            await until(lambda: source.counts.more.get("births") == 2)
            await until(lambda: len(list((tmp_path / "state" / "births").glob("*.json"))) == 2)
        async with taking(broker.port, tmp_path / "state") as (source, intake):
            for name in names:
                await client.publish(f"spBv1.0/plant/NDEATH/{name}", EdgeNode.death(0), qos=1)
            await until(lambda: source.counts.more.get("deaths") == 2)
            assert all(intake.of(f"plant/{name}/Temp")[-1][1:] == (None, 24) for name in names)


def test_a_wrong_template_is_refused() -> None:
    for tag in ("{group}/{metrik}", "{group}/{node}"):
        with pytest.raises(ValidationError, match="metri"):
            SparkplugConfig(client_id="x", tag=tag)


@asynccontextmanager
async def closed(table: CommandTable) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await table.close()


async def test_commands_go_to_metrics_that_live_in_their_data_type(broker: Broker, tmp_path: Path, pool: Pool) -> None:  # noqa: F811
    async def pooled() -> Pool:
        return pool

    async def outcome(value: float) -> tuple[str, str | None]:
        """What becomes of a command."""
        asked = Asked("plant/edge/Line/Temp", value, "test")
        made = await query(pool, lambda conn: commands.insert(conn, asked, "accepted", write_to="plant", expires_s=20))
        assert made is not None
        async with asyncio.timeout(20):
            while (found := await query(pool, lambda conn: commands.read(conn, made.command_id))).outcome == "accepted":
                await asyncio.sleep(0.02)
        return found.outcome, found.detail

    table = CommandTable(pooled, "w")
    async with (
        edge_node(broker.port) as node,
        closed(table),
        taking(broker.port, tmp_path / "state", commands=["plant/#"], commands_from=table) as (source, intake),
    ):
        said, why = await outcome(1.0)
        assert (said, "no birth" in str(why)) == ("failed", True)
        await node.birth()
        await until(lambda: of(intake) == [0.5])
        assert await outcome(21.25) == ("delivered", None)
        await until(lambda: node.heard)
        assert [(m.name, m.datatype, m.double_value) for m in node.heard] == [("Line/Temp", DOUBLE, 21.25)]
        await node._client.publish("spBv1.0/plant/NDEATH/edge", EdgeNode.death(0), qos=1)
        await until(lambda: source.counts.more["deaths"] == 1)
        said, why = await outcome(3.0)
        assert (said, "dead" in str(why)) == ("failed", True)

"""The OPC UA source on a real server: what it has seen and stored comes out as samples, whatever breaks in between."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncua")
from asyncua import ua
from opcua_servers import PlantServer, running, until
from recording_intake import RecordingIntake

from historian.ingest.sources.opcua import OpcuaConfig

T0 = 1_750_000_000_000_000
SECOND = 1_000_000


def config(server: PlantServer, *paths: str, **more: Any) -> OpcuaConfig:
    """All of the plant, or these variables, as fast as a test wants it."""
    table: dict[str, Any] = {
        "url": server.url,
        "publishing_interval_ms": 20,
        "sampling_interval_ms": 0,
        "history_delay_s": 0.2,
        "timeout_s": 5,
        "keepalive_s": 0.5,
    }
    if paths:
        table["nodes"] = [{"id": f"nsu=urn:test:plant;s={path}", "tag": f"plant/{path}"} for path in paths]
    else:
        table["browse"] = [{"root": "nsu=urn:test:plant;s=Plant", "tag": "plant/{path}"}]
    return OpcuaConfig.model_validate(table | more)


@pytest.fixture
async def server() -> AsyncIterator[PlantServer]:
    made = PlantServer()
    yield made
    await made.stop()


@pytest.fixture
def intake(tmp_path: Path) -> RecordingIntake:
    return RecordingIntake(tmp_path)


async def test_values_timestamps_and_qualities_are_those_of_the_server(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("temp", 20.5, ua.VariantType.Double)
    server.declare("ratio", 0.5, ua.VariantType.Float)
    server.declare("count", 1, ua.VariantType.Int64)
    server.declare("on", True, ua.VariantType.Boolean)
    server.declare("order", "A-1", ua.VariantType.String)
    server.declare("label", ua.LocalizedText("cold"), ua.VariantType.LocalizedText)
    await server.start()
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 6)
        await server.write("temp", 21.25, T0)
        await server.write("temp", 22.0, T0 + 1, status=ua.StatusCodes.UncertainSensorNotAccurate)
        # asyncua sends no value with a bad status
        await server.write("temp", 23.0, T0 + 2, status=ua.StatusCodes.BadSensorFailure)
        await server.write("temp", None, T0 + 3, status=ua.StatusCodes.BadNoCommunication)
        await server.write("temp", math.nan, T0 + 4)
        await server.write("count", 2**53, T0)
        await server.write("on", False, T0)
        await server.write("order", "B-2", T0)
        await server.write("label", ua.LocalizedText("hot"), T0)
        await until(lambda: source.counts.samples == 15)
        assert source.counts.connected
        assert source.counts.refused == 0
    assert intake.of("plant/temp", until=T0 + SECOND) == [
        (T0, 21.25, 192),
        (T0 + 1, 22.0, 80),
        (T0 + 2, None, 16),
        (T0 + 3, None, 24),
        (T0 + 4, None, 0),
    ]
    assert intake.of("plant/count", until=T0 + SECOND)[0] == (T0, 2.0**53, 192)
    assert intake.of("plant/on", until=T0 + SECOND)[0] == (T0, 0.0, 192)
    assert intake.of("plant/order", until=T0 + SECOND)[0] == (T0, "B-2", 192)
    assert intake.of("plant/label", until=T0 + SECOND)[0] == (T0, "hot", 192)
    assert {path: tag.kind for path, tag in intake.defined.items()} == {
        "plant/temp": "float",
        "plant/ratio": "float",
        "plant/count": "int",
        "plant/on": "bool",
        "plant/order": "text",
        "plant/label": "text",
    }


async def test_what_no_tag_can_hold_is_in_the_dead_letters_once_and_counted(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("list", [1.0, 2.0], ua.VariantType.Double)
    server.declare("range", ua.Range(0, 1), ua.VariantType.ExtensionObject)
    server.declare("large", 2**53 + 1, ua.VariantType.Int64)
    await server.start()
    async with running(config(server, "list", "range", "large"), intake) as source:
        await until(lambda: source.counts.refused == 3)
        await server.write("list", [3.0], T0)
        await server.write("large", -(2**60), T0)
        await server.write("large", 7, T0 + 1)
        await until(lambda: source.counts.more["refused_samples"] == 5 and len(intake.of("plant/large")) == 3)
        assert source.counts.refused == 3
    reasons = sorted(reason for reason, _, _ in intake.refused)
    assert [reason.split(" of tag ")[0] for reason in reasons] == [f"node ns=2;s={path}" for path in ("large", "list", "range")]
    assert "2^53" in reasons[0]
    assert "an array of Double" in reasons[1]
    assert "a structure" in reasons[2]
    assert all(where.startswith(server.url) for _, where, _ in intake.refused)
    # a gap in the trend, not a value that is a little wrong
    assert intake.of("plant/large", until=T0 + 1) == [(T0, None, 0), (T0 + 1, 7.0, 192)]
    assert intake.of("plant/list") == []


async def test_a_large_integer_is_rounded_where_the_configuration_says_float(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("energy", 2**60 + 1, ua.VariantType.UInt64)
    await server.start()
    nodes = [{"id": "ns=2;s=energy", "tag": "plant/energy", "kind": "float"}]
    async with running(config(server, nodes=nodes, browse=[]), intake) as source:
        await until(lambda: source.counts.samples == 1)
        assert intake.of("plant/energy")[0][1:] == (2.0**60, 192)


async def test_a_server_that_restarts_is_taken_up_again_and_a_lost_connection_is_told_once(
    server: PlantServer, intake: RecordingIntake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="historian")
    server.declare("temp", 1.0, ua.VariantType.Double)
    await server.start()
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 1)
        await server.stop()
        await until(lambda: not source.counts.connected)
        await until(lambda: "cannot be reached" in source.counts.trouble or "does not answer" in source.counts.trouble)
        assert source.counts.disconnects == 1
        await server.start()
        await until(lambda: source.counts.connected)
        assert source.counts.trouble == ""
        await server.write("temp", 2.0, T0)
        await until(lambda: (T0, 2.0, 192) in intake.of("plant/temp"))
        assert source.counts.connects == 2
    messages = [record.message for record in caplog.records if record.name.startswith("historian")]
    assert [message.split(" opc.tcp")[0] for message in messages] == [
        "connected to",
        "not connected:",
        "connected to",
        # this server keeps no history
        "samples of 1 nodes of",
    ]
    assert source.counts.more["lost"] == 1


async def test_history_fills_the_time_that_the_worker_was_away(server: PlantServer, intake: RecordingIntake) -> None:
    server.history.max_history_data_response_size = 70
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    server.declare("level", 0, ua.VariantType.Int32, historize=True)
    await server.start()
    settings = config(server, history_chunk=100)
    first = server.nodes["temp"].nodeid
    async with running(settings, intake) as source:
        await until(lambda: source.counts.samples == 2)
        for n in range(1, 51):
            await server.write("temp", float(n), _soon(n))
        await until(lambda: source.counts.samples == 52)
    for n in range(51, 551):
        await server.write("temp", float(n), _soon(n))
        await server.write("level", n, _soon(n))
    await until(lambda: len(server.history.recorded(first)) == 551)
    async with running(settings, intake) as source:
        await until(lambda: source.counts.connected)
        for n in range(551, 601):
            await server.write("temp", float(n), _soon(n))
        await until(lambda: source.counts.more["history_samples"] >= 1000 and source.counts.more["history_open"] == 0)
        await until(lambda: (_soon(600), 600.0, 192) in intake.of("plant/temp"))
        assert source.counts.more["lost"] == source.counts.more["history_failed"] == 0
    for path in ("temp", "level"):
        recorded = server.history.recorded(server.nodes[path].nodeid)
        assert [(ts, value) for ts, value, _ in intake.of(f"plant/{path}")] == [(ts, float(value)) for ts, value in recorded]


_BASE = [0]


def _soon(n: int) -> int:
    """After the server's own first timestamps, which are those of its start."""
    if not _BASE[0]:
        _BASE[0] = time.time_ns() // 1000 + 3600 * SECOND
    return _BASE[0] + n * 1000


async def test_what_a_queue_lost_while_the_intake_was_held_up_is_read_from_the_history(
    server: PlantServer, intake: RecordingIntake
) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    server.declare("plain", 0.0, ua.VariantType.Double)
    await server.start()
    async with running(config(server, queue_size=10), intake) as source:
        await until(lambda: source.counts.samples == 2)
        intake.open.clear()
        for n in range(1, 2001):
            await server.write("temp", float(n), _soon(n))
            if n <= 50:
                await server.write("plain", float(n), _soon(n))
            if n % 100 == 0:
                # the server gets to publish, as long as anybody asks it to
                await until(lambda n=n: server.history.recorded(server.nodes["temp"].nodeid)[-1][1] == n)  # type: ignore[misc]
        # what is live waits, and as many reads of the history as may run at once
        assert 1 <= intake.waiting <= 1 + source.config.history_concurrency
        intake.open.set()
        await until(lambda: source.counts.more["history_samples"] > 0 and source.counts.more["history_open"] == 0)
        await until(lambda: len(intake.of("plant/temp")) == 2001)
        # one of each node, or two if the server could publish once more
        assert 2 <= source.counts.more["overflows"] <= 4
        # which is told: this variable has no history
        assert source.counts.more["lost"] >= 1
        assert len(intake.of("plant/plain")) < 51
    assert [value for _, value, _ in intake.of("plant/temp")] == [float(n) for n in range(2001)]


async def test_nothing_is_passed_over_when_a_worker_dies_before_its_samples_were_safe(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    await server.start()
    settings = config(server, history_chunk=20)
    async with running(settings, intake) as source:
        await until(lambda: source.counts.samples == 1)
    intake.settling = False
    for n in range(1, 101):
        await server.write("temp", float(n), _soon(n))
    async with running(settings, intake) as source:
        await until(lambda: source.counts.more["history_samples"] >= 100 and source.counts.more["history_open"] == 0)
        await server.write("temp", 101.0, _soon(101))
        await until(lambda: intake.of("plant/temp")[-1][1] == 101.0)
        # of all that is under way, only the second chunk of the history and what is live are safe
        assert len(intake.unsettled) >= 5
        for settled in (intake.unsettled[0], intake.unsettled[2], intake.unsettled[-1]):
            settled()
    survived = RecordingIntake(intake.state_dir)
    async with running(settings, survived) as source:
        await until(lambda: source.counts.more["history_samples"] >= 100 and source.counts.more["history_open"] == 0)
    assert [value for _, value, _ in survived.of("plant/temp")][-101:] == [float(n) for n in range(1, 102)]


async def test_the_first_start_reads_as_much_history_as_it_is_told_to(server: PlantServer, intake: RecordingIntake) -> None:
    now = time.time_ns() // 1000
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    await server.start()
    await server.remember("temp", [(now - 7200 * SECOND + n * SECOND, float(n)) for n in range(7000)])
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 1 and source.counts.more["history_open"] == 0)
        assert source.counts.more["history_samples"] == 0
    for file in intake.state_dir.iterdir():
        file.unlink()
    intake = RecordingIntake(intake.state_dir)
    async with running(config(server, history="PT1H"), intake) as source:
        await until(lambda: source.counts.more["history_samples"] > 0 and source.counts.more["history_open"] == 0)
        await until(lambda: source.counts.more["lost"] == 0)
    got = [row for row in intake.of("plant/temp") if row[0] < now - 200 * SECOND]
    # an hour before this start, which was a moment after `now`
    assert 3300 < len(got) <= 3400
    assert [value for _, value, _ in got] == [float(n) for n in range(7000 - len(got), 7000)]


async def test_bad_statuses_and_enumerations_come_as_they_are_told(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("state", 1, ua.VariantType.UInt32)

    async def furnish(plant: PlantServer, _: Any) -> None:
        strings = ua.Variant([ua.LocalizedText("off"), ua.LocalizedText("on")], ua.VariantType.LocalizedText)
        await plant.nodes["state"].add_property(ua.NodeId("strings", plant.index), ua.QualifiedName("EnumStrings", 0), strings)

    server.furnish = furnish
    await server.start()
    statuses = {
        ua.StatusCodes.BadWaitingForInitialData: 32,
        ua.StatusCodes.BadOutOfService: 28,
        ua.StatusCodes.UncertainLastUsableValue: 68,
        ua.StatusCodes.GoodLocalOverride: 216,
        ua.StatusCodes.BadInternalError: 0,
    }
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 1)
        for n, status in enumerate(statuses):
            await server.write("state", n % 2, T0 + n, status=status)
        await until(lambda: source.counts.samples == 1 + len(statuses))
    assert intake.defined["plant/state"].kind == "digital"
    assert intake.defined["plant/state"].states == {"0": "off", "1": "on"}
    assert [quality for _, _, quality in intake.of("plant/state", until=T0 + SECOND)] == list(statuses.values())
    assert [value for _, value, _ in intake.of("plant/state", until=T0 + SECOND)] == [None, None, 0.0, 1.0, None]


async def test_a_subscription_that_the_server_has_dropped_is_made_again(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    await server.start()
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 1)
        assert server.server is not None
        service = server.server.iserver.subscription_service
        # the one that is not the server's own, which stores its history
        await service.delete_subscriptions(
            [number for number, sub in service.subscriptions.items() if sub.pub_request_callback is not None]
        )
        for n in range(1, 11):
            await server.write("temp", float(n), _soon(n))
        await until(lambda: source.counts.connects == 2)
        await until(lambda: len(intake.of("plant/temp")) == 11)
    assert [value for _, value, _ in intake.of("plant/temp")] == [float(n) for n in range(11)]


async def test_nodes_that_come_later_are_found(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double)
    await server.start()
    async with running(config(server, browse_again_s=0.2), intake) as source:
        await until(lambda: source.counts.samples == 1)
        await server.folders[""].add_variable(ua.NodeId("new", 2), ua.QualifiedName("new", 2), ua.Variant(7.0, ua.VariantType.Double))
        await until(lambda: [value for _, value, _ in intake.of("plant/new")] == [7.0])
        assert source.counts.more["nodes"] == 2


async def test_changes_within_the_deadband_are_not_sent(server: PlantServer, intake: RecordingIntake) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double)
    server.declare("order", "a", ua.VariantType.String)
    await server.start()
    async with running(config(server, deadband=1.0), intake) as source:
        await until(lambda: source.counts.samples == 2)
        await server.write("temp", 5.0, T0 + 1)
        await server.write("temp", 5.5, T0 + 2)
        await server.write("temp", 8.0, T0 + 3)
        await server.write("order", "b", T0 + 4)
        await until(lambda: source.counts.samples == 5)
    assert [value for _, value, _ in intake.of("plant/temp", until=T0 + SECOND)] == [5.0, 8.0]


async def test_a_history_that_the_server_refuses_is_told_and_holds_nothing_up(
    server: PlantServer, intake: RecordingIntake, caplog: pytest.LogCaptureFixture
) -> None:
    server.declare("temp", 0.0, ua.VariantType.Double, historize=True)
    server.declare("other", 0.0, ua.VariantType.Double, historize=True)
    await server.start()
    async with running(config(server), intake) as source:
        await until(lambda: source.counts.samples == 2)
    history = server.history.read_node_history

    async def refuse(node: ua.NodeId, *args: Any) -> Any:
        if node.Identifier == "temp":
            raise ua.uaerrors.BadHistoryOperationUnsupported
        return await history(node, *args)

    server.history.read_node_history = refuse  # type: ignore[method-assign]
    for path in ("temp", "other"):
        for n in range(1, 11):
            await server.write(path, float(n), _soon(n))
    async with running(config(server), intake) as source:
        await until(
            lambda: source.counts.connected and source.counts.more["history_failed"] == 1 and source.counts.more["history_open"] == 0
        )
        await server.write("temp", 11.0, _soon(11))
        await until(lambda: intake.of("plant/temp")[-1][1] == 11.0)
        assert source.counts.connects == 1
        assert source.counts.more["lost"] == 1
    assert "the history of ns=2;s=temp cannot be read" in caplog.text
    assert len(intake.of("plant/other")) == 11


async def test_thousands_of_nodes_are_subscribed_in_batches_and_several_subscriptions(server: PlantServer, intake: RecordingIntake) -> None:
    paths = [f"area{n % 10}/v{n}" for n in range(3000)]
    for path in paths:
        server.declare(path, 0.0, ua.VariantType.Double)
    await server.start()
    async with running(config(server, items_per_subscription=1100), intake) as source:
        await until(lambda: source.counts.samples == len(paths) and source.counts.connected)
        assert source.counts.more["nodes"] == len(paths)
        assert source.counts.messages < 100
        for n, path in enumerate(paths):
            await server.write(path, n + 1.0, T0 + n)
        await until(lambda: source.counts.samples == 2 * len(paths))
        # whole notifications, not sample by sample
        assert len(intake.batches) < 200
    got = {path: intake.of(f"plant/{path}", until=T0 + SECOND) for path in paths[::97]}
    assert got == {path: [(T0 + n, n + 1.0, 192)] for n, path in enumerate(paths) if path in got}

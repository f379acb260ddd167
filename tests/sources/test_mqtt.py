"""The MQTT source on a real mosquitto: what is published with quality of service 1 comes out as samples, whatever ends in between."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiomqtt")
from brokers import Broker, broker, until
from recording_intake import RecordingIntake

from historian.ingest.sources import mqtt_connection
from historian.ingest.sources.mqtt import MqttConfig, MqttSource

__all__ = ["broker"]

PROTOCOLS = ["3.1.1", "5"]
T0 = 1_750_000_000_000_000


def config(broker: Broker, protocol: str = "5", **more: Any) -> MqttConfig:
    table: dict[str, Any] = {
        "port": broker.port,
        "protocol": protocol,
        "client_id": "worker",
        "reconnect_longest_s": 0.5,
        "rule": [{"topic": "site/#"}],
    }
    return MqttConfig.model_validate(table | more)


@asynccontextmanager
async def taking(config: MqttConfig, intake: RecordingIntake, *, connected: bool = True) -> AsyncIterator[MqttSource]:
    """A source at work, and stopped at the end."""
    source = MqttSource(config)
    task = asyncio.create_task(source.run(intake))
    try:
        await until(lambda: source.counts.connected or task.done() or not connected)
        assert not task.done(), task.exception()
        yield source
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def stamped(n: int) -> bytes:
    return b'{"ts":%d,"value":%d}' % (T0 + n, n)


def values(intake: RecordingIntake, path: str) -> list[float]:
    """In the order of their times, one for each."""
    return [row[1] for row in intake.of(path)]  # type: ignore[misc]


def came(intake: RecordingIntake) -> list[float]:
    """In the order in which they came, as often as they came."""
    return [float(value) for samples in intake.batches for value in samples.value]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_published_messages_become_samples_of_the_tags_that_the_first_matching_rule_names(
    broker: Broker, tmp_path: Path, protocol: str
) -> None:
    rules = [
        {"topic": "site/+/secret/#", "payload": "ignore"},
        {"topic": "site/+/line1/#", "tag": "plant/{1}/L1/{2}", "kind": "float", "unit": "°C"},
        {"topic": "site/+/+"},
    ]
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol, rule=rules), intake) as source:
        with broker.publisher() as publish:
            publish("site/a/secret", "1")
            publish("site/a/line1/cell/temp", b'{"ts":"2026-01-01T00:00:00Z","value":21.5}')
            publish("site/b/on", b'{"ts":1767225600,"value":true}')
            publish("site/b/mode", b'{"ts":1767225600.5,"value":"auto","quality":"uncertain"}')
            publish("other/b/mode", "1")
            publish("site/b/qos0", b'{"ts":1767225600,"value":7}', qos=0)
        await until(lambda: source.counts.samples == 4)
        assert intake.of("plant/a/L1/cell/temp") == [(1767225600_000000, 21.5, 192)]
        assert intake.of("site/b/on") == [(1767225600_000000, 1.0, 192)]
        assert intake.of("site/b/mode") == [(1767225600_500000, "auto", 64)]
        assert intake.of("site/b/qos0") == [(1767225600_000000, 7.0, 192)]
        assert source.counts.more["ignored"] == 1
        assert (intake.defined["plant/a/L1/cell/temp"].unit, intake.defined["site/b/on"].kind) == ("°C", "bool")
        assert not intake.refused


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_published_while_the_worker_is_down_comes_when_it_is_back_in_order(
    broker: Broker, tmp_path: Path, protocol: str
) -> None:
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol), intake):
        pass
    with broker.publisher() as publish:
        for n in range(2000):
            publish("site/t", stamped(n))
    broker.restart()
    async with taking(config(broker, protocol), intake):
        await until(lambda: len(came(intake)) == 2000)
    assert came(intake) == list(range(2000))


@pytest.fixture
def taker(broker: Broker, tmp_path: Path) -> Iterator[Callable[[str, float], subprocess.Popen[str]]]:
    """A worker's process, which settles what is below a value."""
    started: list[subprocess.Popen[str]] = []

    def start(protocol: str, below: float) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("mqtt_taker.py")
        command = [sys.executable, "-P", script, str(broker.port), protocol, tmp_path, str(below)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_after_sigkill_what_was_not_settled_comes_again_and_what_was_does_not(
    broker: Broker, tmp_path: Path, protocol: str, taker: Callable[[str, float], subprocess.Popen[str]]
) -> None:
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol), intake):
        pass
    with broker.publisher() as publish:
        for n in range(100):
            publish("site/t", stamped(n))
    first = taker(protocol, 100)
    assert first.stdout is not None
    while await asyncio.to_thread(first.stdout.readline) != "settled 99\n":
        assert first.poll() is None
    # what comes next is read after the acknowledgements were written
    with broker.publisher() as publish:
        for n in range(100, 200):
            publish("site/t", stamped(n))
    assert await asyncio.to_thread(first.stdout.readline) == "there\n"
    first.kill()
    first.wait()
    async with taking(config(broker, protocol), intake) as source:
        await until(lambda: len(came(intake)) >= 100)
        assert came(intake) == list(range(100, 200))
        assert source.counts.more["redelivered"] > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_message_is_acknowledged_only_after_all_that_came_before_it(broker: Broker, tmp_path: Path, protocol: str) -> None:
    intake = RecordingIntake(tmp_path)
    intake.settling = False
    async with taking(config(broker, protocol), intake) as source:
        for n in range(3):
            with broker.publisher() as publish:
                publish("site/t", stamped(n))
            await until(lambda: len(intake.unsettled) == n + 1)  # noqa: B023
        intake.unsettled[0]()
        intake.unsettled[2]()
        with broker.publisher() as publish:
            publish("site/t", stamped(3))
        await until(lambda: len(intake.unsettled) == 4)
        await until(lambda: source.counts.more["unacknowledged"] == 3)
    again = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol), again):
        await until(lambda: len(came(again)) == 3)
    assert came(again) == [1, 2, 3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_message_settled_after_its_connection_broke_is_not_acknowledged_on_the_next_one(
    broker: Broker, tmp_path: Path, protocol: str
) -> None:
    intake = RecordingIntake(tmp_path)
    intake.settling = False
    async with taking(config(broker, protocol), intake) as source:
        with broker.publisher() as publish:
            publish("site/t", stamped(0))
        await until(lambda: len(intake.unsettled) == 1)
        broker.restart()
        await until(lambda: len(intake.unsettled) == 2)
        intake.unsettled[0]()
        # the broker takes an acknowledgement before the next message of the same client: none came, or it would forget the first one
        with broker.publisher() as publish:
            publish("site/t", stamped(1))
        await until(lambda: len(intake.unsettled) == 3)
        assert source.counts.disconnects == 1
    again = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol), again):
        await until(lambda: len(came(again)) == 2)


async def test_a_bare_value_that_comes_again_after_a_lost_connection_keeps_the_time_of_its_first_arrival(
    broker: Broker, tmp_path: Path
) -> None:
    intake = RecordingIntake(tmp_path)
    intake.settling = False
    async with taking(config(broker), intake) as source:
        with broker.publisher() as publish:
            for n in range(5):
                publish("site/t", str(n))
        await until(lambda: len(came(intake)) == 5)
        broker.restart()
        await until(lambda: len(came(intake)) == 10)
        assert source.counts.more["redelivered"] == 5
    assert values(intake, "site/t") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_nothing_published_with_qos_1_is_lost_while_the_broker_is_restarted_and_killed(
    broker: Broker, tmp_path: Path, protocol: str
) -> None:
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol), intake) as source:
        total = 0
        for round, end in enumerate((broker.stop, broker.kill, broker.stop, broker.kill), 1):
            intake.open.clear()

            def publish_some(first: int) -> None:
                with broker.publisher() as publish:
                    for n in range(first, first + 500):
                        publish("site/t", stamped(n))

            await asyncio.to_thread(publish_some, total)
            total += 500
            await until(lambda: intake.waiting)
            broker.save()
            end()
            await until(lambda: source.counts.disconnects == round)  # noqa: B023
            assert "MQTT broker" in source.counts.trouble
            broker.start()
            intake.open.set()
            await until(lambda: source.counts.connected)
        await until(lambda: len(values(intake, "site/t")) == total)
        assert values(intake, "site/t") == list(range(total))
        assert (source.counts.disconnects, source.counts.trouble) == (4, "")


async def test_a_broker_that_is_not_there_yet_is_tried_again_and_told_once(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "historian")
    broker.stop()
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker), intake, connected=False) as source:
        await until(lambda: "refused" in source.counts.trouble.lower())
        await asyncio.sleep(1)
        broker.start()
        await until(lambda: source.counts.connected)
    told = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "INFO"], told


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_wrong_password_is_told_without_showing_it_and_a_new_one_in_its_file_is_taken(
    tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    locked = Broker(tmp_path / "broker", users={"line1": "right-secret"})
    try:
        secret = tmp_path / "password"
        secret.write_text("wrong-secret\n")
        intake = RecordingIntake(tmp_path)
        async with taking(config(locked, protocol, username="line1", password_file=secret), intake, connected=False) as source:
            await until(lambda: source.counts.trouble)
            assert "refuses user 'line1': wrong password" in source.counts.trouble
            secret.write_text("right-secret\n")
            await until(lambda: source.counts.connected)
            with locked.publisher() as publish:
                publish("site/t", "1")
            await until(lambda: came(intake) == [1])
        assert "secret" not in caplog.text
    finally:
        locked.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_over_tls_with_a_client_certificate_and_not_without_the_authority_of_the_broker(tmp_path: Path, protocol: str) -> None:
    secure = Broker(tmp_path / "broker", tls=True, options={"require_certificate": "true"})
    try:
        here = secure.directory
        tls = {"ca": secure.ca, "cert": here / "client.crt", "key": here / "client.key"}
        intake = RecordingIntake(tmp_path)
        async with taking(config(secure, protocol, tls=tls), intake):
            with secure.publisher() as publish:
                for n in range(500):
                    publish("site/t", stamped(n))
            await until(lambda: len(came(intake)) == 500)
        for wrong in ({}, {"ca": secure.ca}):
            async with taking(config(secure, protocol, tls=wrong), intake, connected=False) as source:
                await until(lambda: source.counts.trouble)
                assert (source.counts.connected, source.counts.connects) == (False, 0)
                assert "certificate" in source.counts.trouble or "closed the connection" in source.counts.trouble
    finally:
        secure.stop()


@pytest.mark.slow
async def test_while_the_intake_waits_no_more_is_read_than_fits_the_connection_is_kept_and_all_comes_afterwards(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "WAITING_BYTES", 200_000)
    intake = RecordingIntake(tmp_path)
    intake.open.clear()
    async with taking(config(broker, keepalive_s=5), intake) as source:
        with broker.publisher() as publish:
            for n in range(5000):
                publish("site/t", stamped(n), qos=n % 2)
        # longer than the broker, and we, wait for a sign of life
        await asyncio.sleep(12)
        assert 300 < source.counts.messages < 1500
        assert source.counts.connected
        intake.open.set()
        await until(lambda: len(came(intake)) == 5000)
        assert source.counts.disconnects == 0
    assert sorted(came(intake)) == list(range(5000))
    assert [n for n in came(intake) if n % 2] == list(range(1, 5000, 2))


async def test_hostile_topics_and_payloads_are_refused_with_the_reason_and_hold_nothing_up(broker: Broker, tmp_path: Path) -> None:
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, max_payload_bytes=10_000), intake) as source:
        with broker.publisher() as publish:
            publish("site//t", "1")
            publish("site/" + "x" * 600, "1")
            publish("site/" + "/".join("abcdefghijklmnopq"), "1")
            publish("site/big", b"[" + b"1," * 10_000 + b"1]")
            publish("site/broken", b'{"value":')
            publish("site/bytes", bytes(range(256)))
            publish("site/inf", b"Infinity")
            publish("site/half", b'{"good":1,"bad":1e999,"ts":1767225600}')
            publish("site/some", b'{"good":1,"a\\u0000b":2,"ts":1767225600}')
            publish("site/empty", b"")
            publish("site/t", stamped(1))
        await until(lambda: source.counts.messages == 11 and values(intake, "site/t") == [1])
    assert [(where[:12], reason.split(": ")[0][:30]) for reason, where, _ in intake.refused] == [
        ("site//t", "tag path 'site//t' has an empt"),
        ("site/xxxxxxx", "tag path 'site/xxxxxxxxxxxxxxx"),
        ("site/a/b/c/d", "tag path 'site/a/b/c/d/e/f/g/h"),
        ("site/big", "the payload has 20003 bytes; a"),
        ("site/broken", "the payload is no JSON"),
        ("site/bytes", "the payload is neither JSON no"),
        ("site/inf", "value"),
        ("site/half", "the payload is no JSON"),
        ("site/some", "a\x00b"),
    ]
    assert intake.of("site/some/good") == [(1767225600_000000, 1.0, 192)]
    assert (source.counts.refused, source.counts.more["empty"], source.counts.samples) == (9, 1, 2)
    # all were acknowledged
    again = RecordingIntake(tmp_path)
    async with taking(config(broker), again):
        with broker.publisher() as publish:
            publish("site/t", stamped(2))
        await until(lambda: came(again))
    assert came(again) == [2]
    assert not again.refused


async def test_a_message_of_which_a_part_is_refused_is_acknowledged_when_both_parts_are_safe(broker: Broker, tmp_path: Path) -> None:
    intake = RecordingIntake(tmp_path)
    intake.settling = False
    async with taking(config(broker), intake) as source:
        with broker.publisher() as publish:
            publish("site/a", b'{"good":1,"x/+":2,"ts":1767225600}')
        await until(lambda: len(intake.unsettled) == 2)
        for left, one in zip((1, 0), list(intake.unsettled), strict=True):
            one()
            with broker.publisher() as publish:
                publish("site/b", b"")
            await until(lambda: source.counts.more["empty"] == 2 - left and source.counts.more["unacknowledged"] == 2 * left)  # noqa: B023


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_retained_messages_are_taken_if_they_carry_a_time_and_else_skipped(broker: Broker, tmp_path: Path, protocol: str) -> None:
    with broker.publisher() as publish:
        publish("site/old", "7", retain=True)
        publish("site/timed", b'{"ts":1767225600,"value":8}', retain=True)
        publish("site/never/timed", b'{"ts":1767225600,"value":9}', retain=True)
        publish("site/always/old", "10", retain=True)
    rules = [
        {"topic": "site/never/#", "retained": "skip"},
        {"topic": "site/always/#", "retained": "take"},
        {"topic": "site/#"},
    ]
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol, rule=rules), intake) as source:
        await until(lambda: source.counts.messages == 4)
        await until(lambda: sorted(came(intake)) == [8, 10])
        assert source.counts.more["retained_skipped"] == 2
        # what is published now is new, retained or not
        with broker.publisher() as publish:
            publish("site/old", "11", retain=True)
        await until(lambda: sorted(came(intake)) == [8, 10, 11])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_topic_that_the_configuration_no_longer_names_is_taken_back_from_the_session(
    broker: Broker, tmp_path: Path, protocol: str
) -> None:
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, protocol, rule=[{"topic": "site/#"}, {"topic": "old/#"}]), intake):
        pass
    async with taking(config(broker, protocol), intake):
        with broker.publisher() as publish:
            publish("old/t", stamped(1))
            publish("site/t", stamped(2))
        await until(lambda: came(intake) == [2])
        assert not intake.refused


async def test_a_shared_subscription_takes_its_part_of_the_messages(broker: Broker, tmp_path: Path) -> None:
    one, other = RecordingIntake(tmp_path / "one"), RecordingIntake(tmp_path / "other")
    rules = [{"topic": "$share/workers/site/+/t", "tag": "plant/{1}"}]
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    async with taking(config(broker, rule=rules), one), taking(config(broker, rule=rules, client_id="second"), other):
        with broker.publisher() as publish:
            for n in range(100):
                publish("site/a/t", stamped(n))
        await until(lambda: sorted(values(one, "plant/a") + values(other, "plant/a")) == list(range(100)))
        assert came(one)
        assert came(other)


async def test_a_broker_that_gives_no_more_than_qos_0_is_told(tmp_path: Path) -> None:
    poor = Broker(tmp_path / "broker", options={"max_qos": 0})
    try:
        intake = RecordingIntake(tmp_path)
        async with taking(config(poor), intake) as source:
            assert source.counts.trouble == "the broker gives site/# with quality of service 0 only"
    finally:
        poor.stop()


async def test_two_workers_with_one_client_id_drive_each_other_out_at_growing_intervals(broker: Broker, tmp_path: Path) -> None:
    intake = RecordingIntake(tmp_path)
    async with (
        taking(config(broker, reconnect_longest_s=30), intake) as first,
        taking(config(broker, reconnect_longest_s=30), intake) as second,
    ):
        await until(lambda: first.counts.disconnects >= 2 and second.counts.disconnects >= 2)
        before = first.counts.disconnects
        # without pauses they would do so a hundred times a second
        await asyncio.sleep(1)
        assert first.counts.disconnects - before <= 2


async def test_a_backlog_that_is_more_than_may_wait_is_taken_in_parts_though_the_broker_sends_it_before_it_answers(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "WAITING_BYTES", 100_000)
    # the socket is read again after several lists only
    monkeypatch.setattr(mqtt_connection, "_LIST_MESSAGES", 20)
    intake = RecordingIntake(tmp_path)
    async with taking(config(broker, "3.1.1"), intake):
        pass
    with broker.publisher() as publish:
        for n in range(5000):
            publish("site/t", stamped(n))
    intake.open.clear()
    async with taking(config(broker, "3.1.1"), intake, connected=False) as source:
        await until(lambda: intake.waiting)
        # what the broker has sent is in the socket, and not in our memory
        await asyncio.sleep(0.5)
        assert source.counts.messages < 1500
        intake.open.set()
        await until(lambda: len(came(intake)) == 5000)
        await until(lambda: source.counts.connected)
        assert source.counts.disconnects == 0
    assert came(intake) == list(range(5000))

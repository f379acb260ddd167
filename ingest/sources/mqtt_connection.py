"""A connection to an MQTT broker that is kept for years: what the MQTT source and the Sparkplug source share.

    class MyConfig(MqttConnectionConfig): ...                    # of mqtt_config: host, port, client_id, TLS …, and the source's own keys

    connection = MqttConnection(config, ["site/#"], self.counts, state=intake.state_dir / "subscriptions.json")

    async def handle(messages: list[Received]) -> None:          # 1 to 1000 messages that came meanwhile, in their order
        for message in messages:
            await intake.put(decode(message), message.settled)   # every message is settled once, in any order

    await connection.run(handle)                                 # until cancelled; reconnects by itself

It promises:
- A message of quality of service 1 is acknowledged to the broker only when it was settled and all that came before it are (MQTT wants acknowledgements in order).
  What is not acknowledged when a connection breaks, or the process is killed, comes again (`dup`): the session is the client id's, and the broker keeps it.
  Settling a message of an earlier connection does nothing: its id may be another message's by now.
- Subscriptions ask for quality of service 1. What was published with 0 comes with 0: it is settled like the others, which then means nothing to the broker.
- `handle` is called by one task, for one list at a time. While it waits, messages gather up to `WAITING_BYTES`, and then the socket is read no further: nothing
  is dropped here, whatever its quality of service. All messages that came are handled, also those of a connection that broke since.
- `counts.connected`, `.connects`, `.disconnects`, `.messages` and `.trouble` are kept here, and in `.more`: `unacknowledged`, `waiting`, `redelivered`.

Times: `arrival_us` is when the message was read, µs since 1970. A message that comes again because its acknowledgement was lost with the connection has the
arrival of the first time, as long as this process lives.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import orjson
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from historian.ingest.backoff import Backoff
from historian.ingest.sources.mqtt_client import ManualClient
from historian.ingest.sources.mqtt_config import MqttConnectionConfig, words
from historian.ingest.sources.source import SourceCounts
from historian.schema.errors import BadInput, Conflict, Unavailable

log = logging.getLogger(__name__)

#: messages that wait for `handle`; beyond, the socket is not read
WAITING_BYTES = 16 * 2**20
#: of one call of `handle`
_LIST_MESSAGES = 1000
_LIST_BYTES = 4 * 2**20
#: what a message takes beside its payload, about
_MESSAGE_BYTES = 500
#: a connection that held for so long was no failure: the next try comes soon
_HELD_S = 5.0


@dataclass(slots=True, eq=False)
class Received:
    """One message. `settled` is an intake's `Settled`: to be called once, on the event loop, when all that came of the message is safe."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    arrival_us: int
    _mid: int
    _pending: _Pending
    _is_settled: bool = False

    def settled(self) -> None:
        self._is_settled = True
        if self.qos:
            self._pending.advance()


class _Pending:
    """The unacknowledged messages of one connection, in the order in which they came; `figures` has how many there are."""

    def __init__(self, figures: dict[str, int]) -> None:
        self.client: ManualClient | None = None
        self._figures = figures
        self._messages: deque[Received] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Received) -> None:
        self._messages.append(message)

    def advance(self) -> None:
        while self._messages and self._messages[0]._is_settled:
            message = self._messages.popleft()
            if self.client is not None:
                self.client.acknowledge(message._mid)
        if self.client is not None:
            self._figures["unacknowledged"] = len(self._messages)

    def close(self) -> dict[int, tuple[int, int]]:
        """Nothing is acknowledged from now on. Returns the content, as a hash, and the arrival of what was not, by message id."""
        self.client = None
        left = {message._mid: (hash((message.topic, message.payload)), message.arrival_us) for message in self._messages}
        self._messages.clear()
        return left


Handle = Callable[[list[Received]], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


class MqttConnection:
    """One client id's connection, made again for as long as `run` runs.

    will          asked for at each connect: what the broker publishes if we are gone without a word
    on_connect    after connecting and subscribing, before messages are handled (unless more came by then than may wait); what it raises as Unavailable ends
                  the connection
    on_lost       after a connection broke and all that came was handled
    on_leave      before `run`, cancelled, says goodbye
    state         a file that remembers the subscriptions, so that those of an earlier configuration are taken back from the broker's session
    """

    def __init__(
        self,
        config: MqttConnectionConfig,
        subscriptions: Sequence[str],
        counts: SourceCounts,
        *,
        will: Callable[[], aiomqtt.Will] | None = None,
        on_connect: Hook | None = None,
        on_lost: Hook | None = None,
        on_leave: Hook | None = None,
        state: Path | None = None,
    ) -> None:
        self._config = config
        self._subscriptions = without_covered(subscriptions)
        self._counts = counts
        self._will = will
        self._on_connect = on_connect
        self._on_lost = on_lost
        self._on_leave = on_leave
        self._state = state
        self._client: ManualClient | None = None
        self._pending = _Pending(counts.more)
        self._before: dict[int, tuple[int, int]] = {}
        self._queue: deque[Received] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._told_lost = False
        self._leaving = False
        counts.more.update(unacknowledged=0, waiting=0, redelivered=0)

    async def run(self, handle: Handle) -> None:
        """Connect and hand over messages until cancelled. Raises BadInput for what no retry can mend: a certificate that cannot be read."""
        tls = self._config.tls.context() if self._config.tls is not None else None
        self._leaving = False
        backoff = Backoff(0.2, self._config.reconnect_longest_s)
        while True:
            began = time.monotonic()
            try:
                await self._session(handle, tls)
            except (aiomqtt.MqttError, Unavailable, OSError, BadInput) as error:
                self._tell_lost(_reason(error, self._config))
            if time.monotonic() - began > _HELD_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    @property
    def is_connected(self) -> bool:
        return self._client is not None and not self._client.lost.done()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        timeout_s: float | None = None,
        expires_s: float | None = None,
    ) -> None:
        """Raises Unavailable if there is no connection, or it breaks before the broker has confirmed (qos 1), or that takes longer than `timeout_s`; Conflict if the
        broker (MQTT 5) says that it has passed the message on to nobody. `expires_s`: in MQTT 5 the broker keeps it for a subscriber so long, in whole seconds."""
        client = self._client
        if client is None or client.lost.done():
            raise Unavailable(f"not connected to the broker {self._config.broker}")
        properties = None
        if expires_s is not None and self._config.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, int(expires_s))
        try:
            refused = await client.published(topic, payload, qos, retain, properties, timeout_s)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise Unavailable(f"the broker {self._config.broker} did not take a message to {topic}: {error}") from None
        if refused is not None:
            raise Conflict(f"the broker {self._config.broker} did not pass on a message to {topic}: {refused}")

    def abort(self, why: str) -> None:
        """Break the connection at once: what was not sent is not sent any more. It is made again as after any other loss."""
        if self._client is not None:
            self._client.abort(why)

    async def _session(self, handle: Handle, tls: ssl.SSLContext | None) -> None:
        """One connection from its first to its last message."""
        self._pending = pending = _Pending(self._counts.more)
        client = self._make_client(pending, tls)
        try:
            await self._enter(client)
            pending.client = self._client = client
            client.lost.add_done_callback(lambda _: self._lost(client))
            await self._opened(client, handle)
            while await self._gathered(client):
                await handle(self._take(client))
            lost = client.lost.exception()
            # before its callback may have run
            self._lost(client)
        except asyncio.CancelledError:
            if self._client is not None and not client.lost.done():
                await self._leave(client)
            raise
        finally:
            self._disconnected()
            self._client = None
            before = pending.close()
            self._counts.more["unacknowledged"] = 0
            # of a connection that broke before its messages came again, those before it still hold
            self._before = before or self._before
            await client.close()
        if self._on_lost is not None:
            await self._on_lost()
        raise lost if isinstance(lost, aiomqtt.MqttError | OSError) else aiomqtt.MqttError(str(lost or "it closed the connection"))

    async def _opened(self, client: ManualClient, handle: Handle) -> None:
        """Subscribe. The broker sends what it kept for us before it answers: what is more than may wait has to be handled meanwhile."""
        opening = asyncio.ensure_future(self._open(client))
        for over in (opening, client.lost):
            over.add_done_callback(lambda _: self._full.set())
        try:
            while not opening.done():
                # until it reads again, and not only until it might
                if client.paused and self._queue:
                    await handle(self._take(client))
                elif client.lost.done():
                    return
                else:
                    self._full.clear()
                    await self._full.wait()
            opening.result()
        finally:
            opening.cancel()
            with suppress(asyncio.CancelledError, aiomqtt.MqttError, Unavailable, OSError):
                await opening

    async def _open(self, client: ManualClient) -> None:
        await self._subscribe(client)
        self._tell_connected()
        if self._on_connect is not None:
            await self._on_connect()

    def _make_client(self, pending: _Pending, tls: ssl.SSLContext | None) -> ManualClient:
        config = self._config
        options: dict[str, object] = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": False}
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = config.session_expiry_s
            properties.ReceiveMaximum = config.receive_maximum
            options = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": False, "properties": properties}

        def on_message(topic: str, payload: bytes, qos: int, retain: bool, dup: bool, mid: int) -> None:
            arrival = time.time_ns() // 1000
            if dup:
                self._counts.more["redelivered"] += 1
                content, first = self._before.get(mid, (0, 0))
                if content == hash((topic, payload)):
                    arrival = first
            message = Received(topic, payload, qos, retain, dup, arrival, mid, pending)
            if qos:
                pending.add(message)
            self._counts.messages += 1
            self._queue.append(message)
            self._waiting_bytes += len(payload) + _MESSAGE_BYTES
            if self._waiting_bytes > WAITING_BYTES:
                client.pause()
                self._full.set()
            self._wake.set()

        client = ManualClient(
            on_message,
            hostname=config.host,
            port=config.port or (1883 if tls is None else 8883),
            identifier=config.client_id,
            username=config.username,
            password=config.secret(),
            keepalive=config.keepalive_s,
            timeout=config.connect_timeout_s,
            tls_context=tls,
            will=self._will() if self._will is not None else None,
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
            **options,
        )
        client._client.connect_timeout = config.connect_timeout_s
        return client

    async def _enter(self, client: ManualClient) -> None:
        """Connect; cancelled, wait for the thread that connects, which would leave an open socket behind."""
        connecting = asyncio.ensure_future(client.__aenter__())
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            client.abandon()
            with suppress(Exception):
                await connecting
            raise

    async def _leave(self, client: ManualClient) -> None:
        self._leaving = True
        with suppress(aiomqtt.MqttError, Unavailable, OSError):
            if self._on_leave is not None:
                await self._on_leave()
            await client.__aexit__(None, None, None)

    async def _subscribe(self, client: ManualClient) -> None:
        """Take back what an earlier configuration asked for, and ask for what this one wants. Waits as long as the connection stands."""
        known = self._remembered()
        gone = sorted(known - set(self._subscriptions))
        if gone:
            await client.unsubscribe(gone, timeout=math.inf)
        # remembered before they are made: one that the broker has and the file has not would stay for ever
        self._remember()
        if not self._subscriptions:
            return
        if self._config.protocol == "5":
            # retained messages come with a new subscription, not again with each connection
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            codes = await client.subscribe([(topic, options) for topic in self._subscriptions], timeout=math.inf)
        else:
            codes = await client.subscribe([(topic, 1) for topic in self._subscriptions], timeout=math.inf)
        values = [code if isinstance(code, int) else code.value for code in codes]
        faults = [
            f"the broker refuses the subscription to {topic}"
            if value >= 128
            else f"the broker gives {topic} with quality of service 0 only"
            for topic, value in zip(self._subscriptions, values, strict=False)
            if value != 1
        ]
        if faults and all(value >= 128 for value in values):
            raise Unavailable(f"{faults[0]}: user {self._config.username!r} may not read it")
        self._counts.trouble = "; ".join(faults[:10])
        if faults:
            log.warning("MQTT broker %s: %s", self._config.broker, self._counts.trouble)

    def _remembered(self) -> set[str]:
        if self._state is None or not self._state.exists():
            return set()
        try:
            kept = orjson.loads(self._state.read_bytes())
            return set(kept["subscriptions"]) if kept["client_id"] == self._config.client_id else set()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return set()

    def _remember(self) -> None:
        if self._state is not None:
            draft = self._state.with_suffix(".tmp")
            draft.write_bytes(orjson.dumps({"client_id": self._config.client_id, "subscriptions": self._subscriptions}))
            draft.replace(self._state)

    async def _gathered(self, client: ManualClient) -> bool:
        """Wait for messages. False when all were taken and the connection is over."""
        while not self._queue:
            if client.lost.done():
                return False
            self._counts.more.update(unacknowledged=len(self._pending), waiting=0)
            self._wake.clear()
            await self._wake.wait()
        return True

    def _take(self, client: ManualClient) -> list[Received]:
        messages: list[Received] = []
        size = 0
        while self._queue and len(messages) < _LIST_MESSAGES and size < _LIST_BYTES:
            message = self._queue.popleft()
            size += len(message.payload) + _MESSAGE_BYTES
            messages.append(message)
        self._waiting_bytes -= size
        if self._waiting_bytes < WAITING_BYTES // 2:
            client.resume()
        self._counts.more.update(unacknowledged=len(self._pending), waiting=len(self._queue))
        return messages

    def _lost(self, client: ManualClient) -> None:
        # at once: `handle` may wait for long before the session ends
        if client is self._client and not self._leaving:
            self._disconnected()
            self._tell_lost(_reason(client.lost.exception() or aiomqtt.MqttError("it closed the connection"), self._config))
        self._wake.set()

    def _disconnected(self) -> None:
        if self._counts.connected:
            self._counts.connected = False
            self._counts.disconnects += not self._leaving

    # One line for each time that it is away, and one when it is back. Where it comes and goes, the pauses between get longer: a connection that did not hold
    # does not reset them.

    def _tell_connected(self) -> None:
        self._counts.connected = True
        self._counts.connects += 1
        if self._told_lost or self._counts.connects == 1:
            log.info("MQTT broker %s: connected as %s", self._config.broker, self._config.client_id)
        self._told_lost = False

    def _tell_lost(self, reason: str) -> None:
        self._counts.trouble = reason
        if not self._told_lost:
            log.warning("%s; trying again", reason)
        self._told_lost = True


def without_covered(filters: Sequence[str]) -> list[str]:
    """The subscriptions without those that another one includes: a broker may send a message once for each that matches."""
    distinct = list(dict.fromkeys(filters))
    return [one for one in distinct if not any(other != one and _covers(other, one) for other in distinct)]


def _covers(wide: str, narrow: str) -> bool:
    levels = narrow.split("/")
    for n, level in enumerate(wide.split("/")):
        if level == "#":
            return True
        if n >= len(levels) or levels[n] == "#" or (level not in ("+", levels[n])):
            return False
    return wide.count("/") + 1 == len(levels)


def _reason(error: BaseException, config: MqttConnectionConfig) -> str:
    """In words, what went wrong with the connection."""
    code = getattr(getattr(error, "rc", None), "value", None)
    if isinstance(error, MqttConnectError):
        if code in (4, 5, 134, 135):
            who = (
                f"user {config.username!r}: wrong password, or the user may not connect"
                if config.username is not None
                else "a client without a user name"
            )
            return f"MQTT broker {config.broker} refuses {who}"
        return f"MQTT broker {config.broker} refuses the connection: {error.rc}"
    if code == 142:
        return f"MQTT broker {config.broker}: another client connected with the client id {config.client_id!r}"
    if code == 128:
        return f"MQTT broker {config.broker}: the connection was lost"
    if isinstance(error, aiomqtt.MqttCodeError) and isinstance(error.rc, int):
        return f"MQTT broker {config.broker}: {paho.error_string(MQTTErrorCode(error.rc)).rstrip('.').lower()}"
    if isinstance(error, Unavailable | BadInput):
        return str(error)
    return f"MQTT broker {config.broker}: {words(error)}"

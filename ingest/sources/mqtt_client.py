"""aiomqtt's client with what a historian needs beside it: acknowledgement by hand, reading that can be paused, and no task for each message.

Only `mqtt_connection.py` uses this. It stands on aiomqtt 2.5 (paho-mqtt 2): what it overrides are the callbacks that aiomqtt gives to paho.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiomqtt
import paho.mqtt.client as paho

# paho logs each failure of a socket as an error: the connection tells it once, in words
_QUIET = logging.getLogger(__name__ + ".paho")
_QUIET.setLevel(logging.CRITICAL)

#: packets read before the other callbacks of the event loop get their turn
_PACKETS_A_TURN = 200
_MISC_S = 1.0

#: topic, payload, quality of service, retained, sent before, message id
OnMessage = Callable[[str, bytes, int, bool, bool, int], None]


class ManualClient(aiomqtt.Client):
    """One connection, used once. Every message goes to `on_message`, on the event loop; none is acknowledged but by `acknowledge`.

    `on_message` must not raise. `lost` is done when the connection is over; with an exception if it broke.
    """

    def __init__(self, on_message: OnMessage, **options: Any) -> None:
        super().__init__(**options, logger=_QUIET)
        self._take = on_message
        self._owner = threading.get_ident()
        self._paused = False
        self._abandoned = False
        self._read_packets = 0
        #: of messages that the broker took and passed on to nobody, by id
        self._refused: dict[int, str] = {}
        self._client.manual_ack_set(True)

    @property
    def lost(self) -> asyncio.Future[None]:
        return self._disconnected

    @property
    def session_present(self) -> bool:
        """Whether the broker had kept a session; known once connected."""
        return self._session_present

    _session_present = False

    @property
    def paused(self) -> bool:
        return self._paused

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK of a message with quality of service 1. Does nothing on a connection that is over."""
        if self._client.socket() is not None and not self.lost.done():
            # a broken socket shows in `lost`
            with suppress(OSError, ValueError):
                self._client.ack(mid, 1)

    def pause(self) -> None:
        """Read nothing more: the broker's packets wait in the socket, and then with the broker. The connection is kept alive."""
        sock = self._client.socket()
        if not self._paused and sock is not None:
            self._paused = True
            self._loop.remove_reader(sock)

    def resume(self) -> None:
        """Read again."""
        if not self._paused:
            return
        self._paused = False
        sock = self._client.socket()
        if sock is not None:
            self._loop.add_reader(sock, self._read)
            # a TLS socket may hold packets already, of which the selector knows nothing
            self._loop.call_soon(self._read)

    async def published(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Any, timeout_s: float | None) -> str | None:
        """Publish, and wait for the confirmation. Returns what is against it in the broker's words (MQTT 5 only), or None."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        if not info.is_published():
            confirmed = asyncio.Event()
            with self._pending_call(info.mid, confirmed, self._pending_publishes):
                await self._wait_for(confirmed.wait(), timeout=timeout_s)
        return self._refused.pop(info.mid, None)

    def abort(self, why: str) -> None:
        """Break the connection, and have the system forget what it has not sent."""
        sock: Any = self._client.socket()
        if sock is not None:
            with suppress(OSError, ValueError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._broke(aiomqtt.MqttError(why))

    def abandon(self) -> None:
        """Make a connect that is under way fail as soon as it can."""
        self._abandoned = True
        self._refuse("abandoned")

    async def close(self) -> None:
        """Close the socket, if it is open, without a DISCONNECT: the broker then publishes the will."""
        self._client._sock_close()
        if not self.lost.done():
            self.lost.set_result(None)
        self.lost.exception()
        task = self._misc_task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _refuse(self, reason: str) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(reason))
            # perhaps nobody waits for it any more
            self._connected.exception()

    def _broke(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_exception(error)
            self.lost.exception()

    def _on_connect(self, client: Any, userdata: Any, flags: paho.ConnectFlags, reason_code: Any, properties: Any = None) -> None:
        self._session_present = flags.session_present
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        # aiomqtt would wait for the CONNACK until its timeout
        self._refuse("it closed the connection before it answered")
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self.lost.done():
            self.lost.exception()

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any = None, properties: Any = None) -> None:
        # 16: nobody has subscribed; from 128 on it was refused
        if mid in self._pending_publishes and reason_code is not None and reason_code.value:
            self._refused[mid] = str(reason_code).lower()
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = message._topic.decode(errors="surrogateescape")
        self._read_packets += 1
        self._take(topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid)

    def _read(self) -> None:
        client = self._client
        try:
            for _ in range(_PACKETS_A_TURN):
                before = self._read_packets
                client.loop_read()
                sock = client.socket()
                if self._paused or sock is None:
                    return
                pending = getattr(sock, "pending", None)
                if self._read_packets == before and not (pending is not None and pending()):
                    return
            if pending is not None:
                self._loop.call_soon(self._read)
        except Exception as error:
            self._broke(error)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:
            self._broke(error)

    # paho calls these from the thread in which aiomqtt connects, and from the event loop. What a thread asks for is looked at again on the loop: by then the socket
    # may be closed, and its number another's.

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._opened, sock)

    def _opened(self, sock: Any) -> None:
        if sock is self._client._sock and sock is not None:
            self._loop.add_reader(sock.fileno(), self._read)
            self._misc_task = self._loop.create_task(self._misc_loop())
        if self._abandoned:
            self._refuse("abandoned")

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._owner:
            self._loop.add_writer(sock, self._write)
        else:
            self._loop.call_soon_threadsafe(self._register_write, sock)

    def _register_write(self, sock: Any) -> None:
        if sock is self._client._sock and sock is not None and self._client.want_write():
            self._loop.add_writer(sock.fileno(), self._write)

    async def _misc_loop(self) -> None:
        while True:
            if self._paused:
                # the answer to our ping is in the socket, behind the messages that wait there
                self._client._ping_t = 0.0
            if self._client.loop_misc() != paho.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(_MISC_S)

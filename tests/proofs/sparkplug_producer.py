"""An edge node that speaks Sparkplug B: `python -m proofs.sparkplug_producer PORT GROUP SAMPLES SECONDS`.

It is born with its metrics t000… and their aliases, publishes its data by alias, 100 samples of one metric a message, and is born again when it is asked to be.
The specification has data go out with QoS 0, for which no broker and no historian can promise anything: here it is 1. It says "all is there" when the broker has
confirmed all, and stays alive: at its death its tags would go stale. The payloads are made by hand, so that nothing is shared with what reads them.
"""

from __future__ import annotations

import struct
import sys
import threading
import time

import paho.mqtt.client as paho

from proofs.mqtt_producer import block, evenly
from proofs.production import Production

ROWS = 100
_AT_ONCE = 500
_DOUBLE, _BOOLEAN, _UINT64 = 10, 11, 8
_REBIRTH = b"Node Control/Rebirth"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def _bytes(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def metric(value: bytes, datatype: int, ms: int, *, name: bytes = b"", alias: int | None = None) -> bytes:
    """A metric as a field of a payload; `value` is its value as a field."""
    named = _bytes(1, name) if name else b""
    aliased = _number(2, alias) if alias is not None else b""
    return _bytes(2, named + aliased + _number(3, ms) + _number(4, datatype) + value)


def double(value: float) -> bytes:
    return varint(13 << 3 | 1) + struct.pack("<d", value)


def payload(metrics: bytes, seq: int | None, ms: int) -> bytes:
    return _number(1, ms) + metrics + (_number(3, seq) if seq is not None else b"")


class EdgeNode:
    """One node of a group, on one connection."""

    def __init__(self, port: int, production: Production) -> None:
        self._production = production
        self._topic = f"spBv1.0/{production.prefix}/{{}}/edge"
        self._seq = 0
        self._newest = [(production.start_us, 0.0)] * production.tags
        self._room = threading.Semaphore(_AT_ONCE)
        self._reborn = threading.Event()
        self.births = 0
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="edge node", clean_session=True)
        client.max_inflight_messages_set(_AT_ONCE)
        client.will_set(self._topic.format("NDEATH"), payload(self._bd_seq(), None, _now_ms()), qos=1)
        client.on_publish = lambda *_: self._room.release()
        client.on_message = lambda _client, _data, message: self._command(message.payload)
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe(self._topic.format("NCMD"), 1)
        self._client = client

    def _bd_seq(self) -> bytes:
        return metric(_number(11, 0), _UINT64, _now_ms(), name=b"bdSeq")

    def _command(self, command: bytes) -> None:
        if _REBIRTH in command:
            self._reborn.set()

    def _send(self, kind: str, metrics: bytes, ms: int) -> None:
        self._room.acquire()
        self._client.publish(self._topic.format(kind), payload(metrics, self._seq, ms), qos=1)
        self._seq = (self._seq + 1) % 256

    def birth(self) -> None:
        """Its newest values, or, before its first data, the first of all."""
        metrics = self._bd_seq() + metric(_number(14, 0), _BOOLEAN, _now_ms(), name=_REBIRTH)
        for tag, path in enumerate(self._production.paths):
            name = path.rpartition("/")[2].encode()
            us, value = self._newest[tag]
            metrics += metric(double(value), _DOUBLE, us // 1000, name=name, alias=tag)
        self._seq = 0
        # no later than its values: of one that is older than the birth, the historian has the tag good from the birth on with one more sample
        self._send("NBIRTH", metrics, min(us for us, _ in self._newest) // 1000)
        self.births += 1

    def data(self, number: int) -> None:
        at, tag = divmod(number, self._production.tags)
        _, ts, value = block(self._production, at)
        rows = list(zip(ts[tag :: self._production.tags].tolist(), value[tag :: self._production.tags].tolist(), strict=True))
        self._newest[tag] = rows[-1]
        metrics = b"".join(metric(double(one), _DOUBLE, us // 1000, alias=tag) for us, one in rows)
        self._send("NDATA", metrics, rows[-1][0] // 1000)

    def run(self, seconds: float) -> None:
        _, ts, value = self._production.numbers(0, self._production.tags)
        self._newest = list(zip(ts.tolist(), value.tolist(), strict=True))
        self.birth()
        for number in evenly(self._production.samples // ROWS, seconds):
            self._reborn_if_asked()
            self.data(number)
        for _ in range(_AT_ONCE):
            self._room.acquire()
        self._room.release(_AT_ONCE)
        print("all is there", flush=True)
        while True:
            self._reborn.wait()
            self._reborn_if_asked()

    def _reborn_if_asked(self) -> None:
        if self._reborn.is_set():
            self._reborn.clear()
            self.birth()
            print(f"born {self.births} times", flush=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    EdgeNode(int(sys.argv[1]), Production(sys.argv[2], int(sys.argv[3]))).run(float(sys.argv[4]))

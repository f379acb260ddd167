"""A publisher: `python -m proofs.mqtt_producer PORT PREFIX SAMPLES [SECONDS]`, which it takes for them, or as fast as it can.

Each message is a JSON array of 100 samples of one tag, in its topic PREFIX/t000…, with QoS 1. It ends with 0 when the broker has confirmed all of them. SAMPLES is a
multiple of 100 for each tag.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from functools import lru_cache

import orjson
import paho.mqtt.client as paho

from proofs.production import Floats, Int64s, Production

ROWS = 100
#: that the broker has not confirmed
_AT_ONCE = 500


def messages(production: Production) -> int:
    return production.samples // ROWS


@lru_cache(1)
def block(production: Production, number: int) -> tuple[Int64s, Int64s, Floats]:
    """Samples number*ROWS*tags and following: ROWS of each tag."""
    return production.numbers(number * ROWS * production.tags, (number + 1) * ROWS * production.tags)


def message(production: Production, number: int) -> tuple[str, bytes]:
    """Topic and payload."""
    at, tag = divmod(number, production.tags)
    _, ts, value = block(production, at)
    rows = [{"ts": t, "value": v} for t, v in zip(ts[tag :: production.tags].tolist(), value[tag :: production.tags].tolist(), strict=True)]
    return production.paths[tag], orjson.dumps(rows)


def evenly(count: int, seconds: float) -> Iterator[int]:
    """0 to count - 1, spread over a time."""
    began = time.monotonic()
    for number in range(count):
        ahead = began + number / count * seconds - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        yield number


def publish(port: int, production: Production, seconds: float) -> None:
    room = threading.Semaphore(_AT_ONCE)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="publisher", clean_session=False)
    client.max_inflight_messages_set(_AT_ONCE)
    client.reconnect_delay_set(1, 1)
    client.on_publish = lambda *_: room.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in evenly(messages(production), seconds):
        room.acquire()
        client.publish(*message(production, number), qos=1)
    for _ in range(_AT_ONCE):
        room.acquire()
    client.disconnect()
    client.loop_stop()
    print(f"the broker has {messages(production)} messages", flush=True)


if __name__ == "__main__":
    publish(int(sys.argv[1]), Production(sys.argv[2], int(sys.argv[3])), float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)

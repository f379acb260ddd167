"""The client without await: the same results, `for` and `async for`, and no thread or connection that stays behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from processes import Serve

import historian
from historian.client import Client, Live
from historian.schema.errors import Unavailable, UnknownTag

US = 1_767_225_600_000_000


@pytest.fixture
def url(serve: Serve) -> str:
    return serve().url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with historian.connect(url) as client:
        yield client


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "historian client"]


def test_a_notebook(client: Client) -> None:
    index = pd.date_range("2026-01-01", periods=60, freq="s", tz="UTC")
    receipt = client.write(pd.DataFrame({"plant/temperature": np.arange(60) / 4}, index=index))
    assert receipt.samples == 60
    client.define({"path": "plant/temperature", "unit": "°C"})
    assert client.tags("plant/#")[0].unit == "°C"
    frame = client.range("plant/temperature", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z").to_pandas()
    assert frame["value"].tolist() == (np.arange(60) / 4).tolist()
    assert client.snapshot().to_pandas()["value"].tolist() == [14.75]
    assert sum(batch.num_rows for batch in client.range_batches("plant/#", US)) == 60
    assert client.committed(receipt.producer) == [(0, 0)]
    assert "status" in client.ready()
    with pytest.raises(UnknownTag):
        client.range("plant/nothing", "-1h")


def test_a_stream_in_a_plain_loop(client: Client) -> None:
    client.write([{"tag": "s/x", "ts": US + n, "value": float(n)} for n in range(10)])
    values = []
    with client.stream("s/#", from_=US) as stream:
        assert [tag.path for tag in stream.tags] == ["s/x"]
        for batch in stream:
            values += batch.column("value").to_pylist()
            if len(values) == 10:
                client.write([{"tag": "s/x", "ts": US + 10, "value": 10.0}])
            if len(values) == 11:
                break
        assert stream.live
        assert stream.cursor > 0
        assert stream.gaps == []
    assert values == [float(n) for n in range(11)]


def test_events_in_a_plain_loop(client: Client) -> None:
    client.write([{"tag": "s/x", "ts": US, "value": 1.0}])
    with client.stream("s/x", from_=US) as stream:
        kinds = []
        for event in stream.events():
            kinds.append(type(event).__name__)
            if isinstance(event, Live):
                break
    assert kinds == ["Opened", "Batch", "Live"]


def test_a_stream_in_an_async_loop_as_notebooks_have_one(client: Client) -> None:
    client.write([{"tag": "s/x", "ts": US, "value": 1.0}])

    async def cell() -> list[float]:
        async with client.stream("s/x", from_=US, to=US + 1) as stream:
            return [value async for batch in stream for value in batch.column("value").to_pylist()]

    assert asyncio.run(cell()) == [1.0]
    # and without await, inside of a loop that runs
    assert asyncio.run(_inside(client)) == 1


async def _inside(client: Client) -> int:
    rows: int = client.range("s/x", US, US + 1).num_rows
    return rows


def test_threads_share_a_client(client: Client) -> None:
    failures: list[Exception] = []

    def work(n: int) -> None:
        try:
            client.write(pa.table({"tag": [f"t/{n}"] * 100, "ts": US + np.arange(100), "value": np.arange(100.0)}))
            assert client.range(f"t/{n}", US, US + 100).num_rows == 100
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(client_threads()) == 1


def test_closing_ends_the_thread_and_a_forgotten_client_too(url: str) -> None:
    client = historian.connect(url)
    assert len(client_threads()) == 1
    client.close()
    client.close()
    assert client_threads() == []
    forgotten = historian.connect(url)
    stream = forgotten.stream("#")
    assert stream.__enter__() is stream
    del forgotten, stream
    gc.collect()
    assert client_threads() == []


def test_a_script_that_closes_nothing_ends_without_a_word(url: str) -> None:
    script = f"import historian; c = historian.connect({url!r}); s = c.stream('#'); s.__enter__(); print(len(c.tags()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_connect_says_at_once_that_there_is_no_server() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 .*historian serve"):
        historian.connect("127.0.0.1:9")
    assert client_threads() == []

"""The asyncio client against a real server: what is written comes back, once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from proxy import Proxy

from historian.client import AsyncClient, TagDefinition
from historian.schema.errors import BadInput, BadSamples, Conflict, HistorianError, Unavailable, UnknownTag
from historian.server.run import Server, serving
from historian.settings import Settings

T0 = datetime(2026, 1, 1, tzinfo=UTC)
US = 1_767_225_600_000_000


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.url) as proxy:
        yield proxy


def ramp(tag: str, n: int) -> pa.Table:
    return pa.table({"tag": [tag] * n, "ts": US + np.arange(n) * 1000, "value": np.arange(n) / 4})


async def test_a_frame_comes_back_as_it_was_written(client: AsyncClient) -> None:
    index = pd.date_range(T0, periods=100, freq="s", unit="us", name="ts")
    frame = pd.DataFrame({"plant/temperature": np.arange(100) / 8, "plant/level": np.arange(100) * 0.1}, index=index)
    receipt = await client.write(frame)
    assert (receipt.samples, receipt.batches, receipt.replayed) == (200, 1, 0)

    table = await client.range("plant/+", T0, T0 + timedelta(minutes=5))
    assert table.schema.names == ["tag", "ts", "value", "quality", "tag_id"]
    back = table.to_pandas().pivot(index="ts", columns="tag", values="value")
    for tag in frame.columns:
        assert back[tag].to_numpy().tolist() == frame[tag].to_numpy().tolist()
    assert (back.index == index).all()


async def test_a_range_of_more_tags_than_an_address_holds(client: AsyncClient) -> None:
    paths = [f"plant/area {n}/a name of some length" for n in range(500)]
    await client.write(pa.table({"tag": paths, "ts": [US] * 500, "value": np.arange(500.0)}))
    table = await client.range(paths, T0, T0 + timedelta(minutes=5), timeout=20)
    assert dict(zip(table["tag"].to_pylist(), table["value"].to_pylist(), strict=True)) == dict(zip(paths, range(500), strict=True))
    with pytest.raises(BadInput, match="timeout"):
        await client.range(paths, T0, timeout=-1)


async def test_all_kinds_come_back_and_can_be_written_again(client: AsyncClient) -> None:
    await client.define(
        [
            {"path": "k/int", "kind": "int"},
            {"path": "k/state", "kind": "digital", "states": {"0": "stopped", "1": "running"}},
            TagDefinition(path="k/text", kind="text"),
        ]
    )
    written = [
        {"tag": "k/float", "ts": T0, "value": 1.25, "quality": 64},
        {"tag": "k/float", "ts": T0 + timedelta(seconds=1), "value": None},
        {"tag": "k/int", "ts": T0, "value": 2**53},
        {"tag": "k/bool", "ts": T0, "value": True},
        {"tag": "k/state", "ts": T0, "value": "running"},
        {"tag": "k/text", "ts": T0, "value": "idle"},
    ]
    assert (await client.write(written)).samples == 6
    table = await client.range("k/#", T0, T0 + timedelta(minutes=1))
    rows = {(r["tag"], r["ts"]): (r["text"] if r["tag"] == "k/text" else r["value"], r["quality"]) for r in table.to_pylist()}
    assert rows[("k/float", T0)] == (1.25, 64)
    value, quality = rows[("k/float", T0 + timedelta(seconds=1))]
    assert np.isnan(value)
    assert quality == 0
    assert rows[("k/int", T0)] == (2**53, 192)
    assert rows[("k/bool", T0)] == (1, 192)
    assert rows[("k/state", T0)] == (1, 192)
    assert rows[("k/text", T0)] == ("idle", 192)
    assert (await client.write(table)).samples == 6
    again = await client.range("k/#", T0, T0 + timedelta(minutes=1))
    assert again.to_pandas().equals(table.to_pandas())


async def test_big_data_go_in_numbered_batches(client: AsyncClient) -> None:
    receipt = await client.write(ramp("big/x", 120_000), producer="notebook")
    assert (receipt.seq, receipt.batches, receipt.samples, receipt.next_seq) == (0, 3, 120_000, 3)
    assert await client.committed("notebook") == [(0, 2)]
    table = await client.range("big/x", US, US + 120_000_000)
    assert table.column("value").to_numpy().tolist() == (np.arange(120_000) / 4).tolist()
    later = await client.write(ramp("big/x", 10), producer="notebook")
    assert later.seq == 3


async def test_another_client_numbers_on(server: Server, client: AsyncClient) -> None:
    await client.write(ramp("a/x", 10), producer="line/1 ü")
    async with AsyncClient(server.url) as other:
        assert (await other.write(ramp("a/x", 20), producer="line/1 ü")).seq == 1
    assert await client.committed("nobody") == []


async def test_the_same_number_counts_once(client: AsyncClient) -> None:
    first = await client.write(ramp("a/x", 120_000), producer="p", seq=7)
    assert (first.seq, first.next_seq, first.replayed) == (7, 10, 0)
    again = await client.write(ramp("a/x", 120_000), producer="p", seq=7)
    assert (again.samples, again.replayed) == (120_000, 3)
    with pytest.raises(Conflict):
        await client.write(ramp("a/y", 5), producer="p", seq=7)


async def test_writes_of_one_producer_at_the_same_time_have_numbers_of_their_own(client: AsyncClient) -> None:
    receipts = await asyncio.gather(*(client.write(ramp(f"a/x{n}", 100 + n), producer="p") for n in range(8)))
    assert sorted(receipt.seq for receipt in receipts) == list(range(8))
    assert await client.committed("p") == [(0, 7)]


async def test_faults_are_told_by_row_and_tag_and_what_was_stored_is_noted(client: AsyncClient) -> None:
    table = ramp("a/x", 50_003)
    value = table.column("value").to_numpy().copy()
    value[50_001] = np.inf
    with pytest.raises(BadSamples) as refused:
        await client.write(table.set_column(2, "value", pa.array(value)), producer="p")
    assert [(fault.row, fault.column) for fault in refused.value.faults] == [(50_001, "value")]
    assert "50000 samples before these are stored: batches 0 to 0 of producer 'p'" in refused.value.__notes__
    # the number of the batch that failed is free
    assert (await client.write(ramp("a/x", 5), producer="p")).seq == 1
    with pytest.raises(BadSamples) as wide:
        await client.write({"ts": [US, US + 1], "w/x": [1.0, 2.0], "w/y": [1.0, float("inf")]})
    assert [(fault.row, fault.column) for fault in wide.value.faults] == [(1, "w/y")]
    with pytest.raises(BadSamples) as wrong_path:
        await client.write([{"tag": "a/+/x", "ts": US, "value": 1.0}])
    assert wrong_path.value.faults[0].column == "tag"


async def test_nothing_to_write_is_no_request() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        assert (await client.write([])).samples == 0
        assert (await client.write(pa.table({"tag": pa.array([], pa.string()), "ts": pa.array([], pa.int64()), "value": []}))).batches == 0


async def test_tags_are_defined_and_found(client: AsyncClient) -> None:
    made = await client.define({"path": "s/l1/flow", "kind": "float", "unit": "m³/h", "low": 0, "high": 40})
    assert (made[0].unit, made[0].high) == ("m³/h", 40.0)
    await client.define([{"path": "s/l1/flow", "description": "Feed"}, {"path": "s/l2/level", "unit": "%"}])
    tags = await client.tags("s/+/flow")
    assert [(tag.path, tag.unit, tag.description) for tag in tags] == [("s/l1/flow", "m³/h", "Feed")]
    assert [tag.path for tag in await client.tags()] == ["s/l1/flow", "s/l2/level"]
    assert (await client.tags()).to_pandas().loc["s/l2/level", "unit"] == "%"
    assert (await client.define(tags))[0] == tags[0]
    with pytest.raises(BadInput, match=r"definition of 'a/\+': path"):
        await client.define({"path": "a/+"})
    await client.write(ramp("s/l1/flow", 1))
    with pytest.raises(Conflict):
        await client.define({"path": "s/l1/flow", "kind": "text"})


async def test_the_snapshot_has_the_newest_sample_of_each_tag(client: AsyncClient) -> None:
    assert (await client.snapshot()).num_rows == 0
    await client.write({"ts": [US, US + 5], "n/x": [1.0, 2.0], "n/y": [3.0, None]})
    newest = await client.snapshot("n/#")
    assert {row["tag"]: row["value"] for row in newest.to_pylist()} == {"n/x": 2.0, "n/y": 3.0}
    assert (await client.snapshot("n/x")).num_rows == 1


async def test_ranges_are_limited_thinned_and_streamed(client: AsyncClient) -> None:
    await client.write(ramp("r/x", 200_000))
    end = US + 200_000_000
    assert (await client.range("r/x", US, end, limit=10)).num_rows == 10
    thinned = await client.range("r/x", US, end, mode="minmax", points=100)
    assert 2 <= thinned.num_rows <= 120
    sizes = [batch.num_rows async for batch in client.range_batches("r/x", US, end)]
    assert sum(sizes) == 200_000
    assert len(sizes) > 1
    empty = await client.range("r/x", "2020-01-01", "2020-01-02")
    assert empty.num_rows == 0
    assert empty.schema.names == ["tag", "ts", "value", "quality", "tag_id"]
    with pytest.raises(UnknownTag, match="r/y"):
        await client.range(["r/x", "r/y"], "-1h")
    with pytest.raises(BadInput, match="end"):
        await client.range("r/x", end, US)
    with pytest.raises(BadInput, match="no time zone"):
        await client.range("r/x", datetime(2026, 1, 1))  # noqa: DTZ001


async def test_expressions_are_calculated_beside_tags(client: AsyncClient) -> None:
    await client.write([{"tag": "x/a", "ts": US + n, "value": float(n)} for n in range(3)])
    table = await client.range("x/a", US, US + 10, expressions=["twice: x/a * 2", "x/a / 0"])
    assert [(row["tag"], row["tag_id"] < 0, row["quality"]) for row in table.to_pylist()[::3]] == [
        ("x/a / 0", True, 0),
        ("twice", True, 192),
        ("x/a", False, 192),
    ]
    assert table.column("value").to_pylist()[3:] == [0, 2, 4, 0, 1, 2]
    with pytest.raises(BadInput, match=r"column 6: something is missing(.|\n)*\^"):
        await client.range([], US, US + 10, expressions=["x/a +"])
    async with client.stream([], US, expressions=["twice: x/a * 2"]) as stream:
        assert [tag.path for tag in stream.tags] == ["twice"]
        assert (await anext(stream)).column("value").to_pylist() == [0, 2, 4]


async def test_a_range_that_is_left_early_frees_the_connection(client: AsyncClient) -> None:
    await client.write(ramp("r/x", 100_000))
    for _ in range(12):
        batches = client.range_batches("r/x", US, US + 200_000_000)
        async for batch in batches:
            assert batch.num_rows
            break
        await batches.aclose()  # type: ignore[attr-defined]
    assert (await client.range("r/x", US, US + 200_000_000)).num_rows == 100_000


async def test_no_server_is_told_at_once_with_what_to_do() -> None:
    async with AsyncClient("http://127.0.0.1:9", retry_s=30) as client:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 .*historian serve"):
                await client.tags()


async def test_a_server_that_is_no_historian_is_told(server: Server) -> None:
    async with AsyncClient(f"{server.url}/v1/nowhere") as client:
        with pytest.raises(HistorianError, match="nothing at"):
            await client.tags()


async def test_a_token_is_sent_and_a_wrong_one_is_told(database: str) -> None:
    async with serving(database, Settings(port=0, token="s3cret")) as guarded:  # type: ignore[arg-type]
        async with AsyncClient(guarded.url, token="s3cret") as client:
            assert await client.tags() == []
            async with client.stream("#") as stream:
                assert list(stream.tags) == []
        async with AsyncClient(guarded.url, token="wrong") as client:
            with pytest.raises(HistorianError, match="token") as refused:
                await client.tags()
            assert refused.value.status == 401
            with pytest.raises(HistorianError, match="token"):
                async with client.stream("#"):
                    pass


async def test_a_write_whose_answer_is_lost_is_sent_again_and_counts_once(proxy: Proxy, client: AsyncClient) -> None:
    async with AsyncClient(proxy.url) as unlucky:
        await unlucky.tags()
        proxy.swallow_answers(1)
        receipt = await unlucky.write(ramp("a/x", 1000), producer="p", seq=0)
        assert (receipt.samples, receipt.replayed) == (1000, 1)
    assert await client.committed("p") == [(0, 0)]
    assert (await client.range("a/x", US, US + 10_000_000)).num_rows == 1000


async def test_a_server_that_goes_away_is_waited_for(proxy: Proxy) -> None:
    async with AsyncClient(proxy.url, retry_s=20) as client:
        await client.tags()
        await proxy.away()
        writing = asyncio.create_task(client.write(ramp("a/x", 10)))
        await asyncio.sleep(0.3)
        assert not writing.done()
        await proxy.back()
        assert (await writing).samples == 10


async def test_patience_has_an_end(proxy: Proxy) -> None:
    async with AsyncClient(proxy.url, retry_s=0.3) as client:
        await client.tags()
        await proxy.away()
        with pytest.raises(Unavailable):
            await client.write(ramp("a/x", 10))


async def test_a_range_that_is_cut_off_is_not_taken_for_the_whole(proxy: Proxy, client: AsyncClient) -> None:
    await client.write(ramp("r/x", 300_000))
    async with AsyncClient(proxy.url) as unlucky:
        await unlucky.tags()
        proxy.cut_after(100_000)
        with pytest.raises(Unavailable, match="cut off"):
            await unlucky.range("r/x", US, US + 400_000_000)

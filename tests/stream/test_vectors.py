"""The test vectors in docs/vectors: our reader reads them, Arrow's own reader reads their payloads, our writer still makes such frames, and what is faulty is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from historian.schema.errors import BadInput
from historian.stream.frames import KEEP, FrameReader, FrameWriter, payload, unpack

VECTORS = Path(__file__).parents[2] / "docs" / "vectors"
SUBSCRIPTIONS = sorted(path.stem for path in VECTORS.glob("*.json") if path.stem != "faulty")
FAULTS = json.loads((VECTORS / "faulty.json").read_text(encoding="utf-8"))["faults"]


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return document


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """As the files have them."""
    rows = table.set_column(1, "ts", table["ts"].cast(pa.int64())).to_pylist()
    return [{name: None if value != value else value for name, value in ({"text": None} | row).items()} for row in rows]


def test_there_are_vectors() -> None:
    assert SUBSCRIPTIONS == ["dictionary", "no-rows", "one-tag", "several-kinds"]
    assert len(FAULTS) > 8


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
def test_a_subscription_is_read(name: str) -> None:
    document = load(name)
    reader = FrameReader()
    payloads = b""
    kept: bytes | None = None
    for frame in document["frames"]:
        data = bytes.fromhex(frame["hex"])
        header, batches = reader.read(data)
        body = bytes(payload(data, kept=kept))
        kept = body if header.flags & KEEP else kept
        payloads += body
        assert (header.flags, header.subscription, header.sequence, header.cursor) == (
            frame["flags"],
            document["subscription"],
            frame["sequence"],
            frame["cursor"],
        )
        assert reader.schema is not None
        assert rows_of(pa.Table.from_batches(batches, reader.schema)) == frame["rows"]
    assert header.last
    assert reader.schema is not None
    assert json.loads((reader.schema.metadata or {})[b"historian.tags"]) == document["tags"]
    # of another library, which knows nothing of frames
    table = pa.ipc.open_stream(payloads).read_all()
    assert rows_of(table) == [row for frame in document["frames"] for row in frame["rows"]]


# those that refer to others are made by more than one subscription (test_sharing.py)
@pytest.mark.parametrize("name", [name for name in SUBSCRIPTIONS if name != "dictionary"])
def test_our_frames_are_such(name: str) -> None:
    """What is written of the same batches is read as the same; its bytes are the Arrow library's and may differ from version to version."""
    document = load(name)
    given, made = FrameReader(), FrameReader()
    writer: FrameWriter | None = None
    for frame in document["frames"]:
        header, batches = given.read(bytes.fromhex(frame["hex"]))
        assert given.schema is not None
        writer = writer or FrameWriter(header.subscription, given.schema, zstd=name == "several-kinds")
        batch = batches[0] if batches else pa.RecordBatch.from_pylist([], given.schema)
        again = writer.frame(batch, cursor=header.cursor, backfill=header.backfill, last=header.last)
        assert unpack(again) == header
        _, back = made.read(again)
        # NaN is not equal to itself
        assert [b.to_pandas().equals(a.to_pandas()) for a, b in zip(batches, back, strict=True)] == [True] * len(batches)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault["about"] for fault in FAULTS])
def test_what_is_faulty_is_refused(fault: dict[str, Any]) -> None:
    reader = FrameReader()
    *good, bad = [bytes.fromhex(frame) for frame in fault["frames"]]
    for frame in good:
        reader.read(frame)
    with pytest.raises(BadInput):
        reader.read(bad)

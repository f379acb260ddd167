"""The outbox against an upstream that fails, answers late, or commits and does not say so, on a schedule that hypothesis draws.

The upstream is a double, which keeps what it is promised of the real ones: a seq counts once, and batches are committed in the order in which they were sent. Spool and
dead letters are real.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.spool import Spool
from historian.ingest.worker import outbox as module
from historian.ingest.worker.dead_letters import DeadLetters
from historian.ingest.worker.messages import Messages
from historian.ingest.worker.outbox import Outbox
from historian.schema.catalogue import TagDefinition
from historian.schema.errors import BadInput, BadSamples, Conflict, Fault, Unavailable

Key = tuple[str, int]
Row = tuple[int, int]
#: what becomes of one try to deliver: whether it is committed, whether the worker is told, and after how many turns of the loop
Fate = tuple[bool, bool, int]


def samples_of(rows: Sequence[Row], first: int, poison: bool = False) -> PathSamples:
    """Each value is the number of its write, counted from `first`; negative: upstream will not have it."""
    n = len(rows)
    value = np.arange(first, first + n, dtype=np.float64)
    if poison:
        value[n // 2] *= -1
    tags = np.array([tag for tag, _ in rows], np.int32)
    return PathSamples(["a", "b", "c"], tags, np.array([ts for _, ts in rows], np.int64), value, np.full(n, 192, np.int16))


def writes_of(samples: PathSamples) -> list[tuple[Key, float]]:
    keys = [(samples.paths[tag], ts) for tag, ts in zip(samples.tag.tolist(), samples.ts.tolist(), strict=True)]
    return list(zip(keys, samples.value.tolist(), strict=True))


class ScriptedUpstream:
    """Each try takes the next of `fates`, and once there are none all goes well. `vague`: refusals do not say which row it was."""

    producer = "test"

    def __init__(self, fates: Sequence[Fate], *, vague: bool = False) -> None:
        self._fates = deque(fates)
        self._vague = vague
        self._order: deque[object] = deque()
        self.rows: dict[Key, float] = {}
        self.ledger: dict[int, list[tuple[Key, float]]] = {}
        self.commits: list[int] = []

    async def next_seq(self) -> int:
        return max(self.ledger, default=-1) + 1

    async def define(self, tags: Sequence[TagDefinition]) -> None:
        return None

    async def close(self) -> None:
        return None

    async def deliver(self, seq: int, samples: PathSamples) -> bool:
        committed, told, turns = self._fates.popleft() if self._fates else (True, True, 0)
        turn = object()
        self._order.append(turn)
        try:
            while turns > 0 or self._order[0] is not turn:
                turns -= 1
                await asyncio.sleep(0)
            if not committed:
                raise Unavailable("as scripted")
            stood = self._commit(seq, samples)
        finally:
            self._order.remove(turn)
        if not told:
            raise Unavailable("committed, as scripted")
        return stood

    def _commit(self, seq: int, samples: PathSamples) -> bool:
        writes = writes_of(samples)
        bad = np.flatnonzero(samples.value < 0).tolist()
        if bad:
            raise BadInput("a value is negative") if self._vague else BadSamples([Fault(row, "value", "negative") for row in bad])
        if seq in self.ledger:
            if self.ledger[seq] != writes:
                raise Conflict(f"seq {seq} has another content")
            return True
        self.ledger[seq] = writes
        self.commits.append(seq)
        self.rows |= dict(writes)
        return False

    def after_replay(self, spool: Spool) -> dict[Key, float]:
        """What would stand here if the worker were killed now, and its spool sent."""
        rows = dict(self.rows)
        for seq, samples in spool.read(None, 10_000):
            if seq not in self.ledger:
                rows |= {key: value for key, value in writes_of(samples) if value >= 0}
        return rows


class Scene:
    """One outbox, its spool and its dead letters. `settled` are the messages that are."""

    def __init__(self, directory: Path, upstream: ScriptedUpstream, *, max_bytes: int | None = None, in_flight: int = 4) -> None:
        self.directory = directory
        self.upstream = upstream
        self.spool = Spool.open(directory / "spool", producer="test", max_bytes=max_bytes)
        self.dead_letters = DeadLetters(directory / "dead", 1 << 30)
        self.messages = Messages(1_000_000, 1_000_000)
        self.outbox = Outbox(upstream, self.spool, self.dead_letters, self.messages.settle, in_flight=in_flight)
        self.settled: list[int] = []
        self.last: dict[Key, float] = {}
        self.early: list[str] = []
        self.sent = 0

    def buried(self) -> list[float]:
        lines = [line for file in sorted((self.directory / "dead").glob("*.jsonl")) for line in file.read_bytes().splitlines()]
        return [orjson.loads(line)["value"] for line in lines]

    async def send(self, samples: PathSamples) -> None:
        number = self.sent
        self.sent += 1
        writes = writes_of(samples)
        self.last |= {key: value for key, value in writes if value >= 0}

        def settled() -> None:
            self.settled.append(number)
            stands = self.upstream.after_replay(self.spool)
            buried = set(self.buried())
            for key, value in writes:
                if value < 0 and value not in buried and value not in self._spooled():
                    self.early.append(f"message {number}: {value} is not among the dead letters")
                if value >= 0 and stands.get(key, -1) < value:
                    self.early.append(f"message {number}: {key} would be {stands.get(key)}, and {value} was said to be safe")

        message = self.messages.open(len(samples), settled)
        await self.outbox.room()
        await self.outbox.prepare()
        self.outbox.start(samples, np.full(len(samples), message, np.int64))

    def _spooled(self) -> set[float]:
        return {value for _, samples in self.spool.read(None, 10_000) for value in samples.value.tolist()}

    async def quiet(self) -> None:
        """Until all is upstream."""
        while len(self.messages) or self.spool.batches or self.outbox.busy:
            assert self.outbox.failed is None
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.0005)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.002)


async def _played(scene: Scene, batches: Sequence[tuple[Sequence[Row], bool, int]]) -> None:
    replaying = asyncio.create_task(scene.outbox.replay())
    first = 1
    try:
        for rows, poison, turns in batches:
            await scene.send(samples_of(rows, first, poison))
            first += len(rows)
            for _ in range(turns):
                await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await scene.quiet()
    finally:
        replaying.cancel()
        await asyncio.gather(replaying, return_exceptions=True)
        scene.spool.close()


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=4, unique=True)
BATCHES = st.lists(st.tuples(ROWS, st.sampled_from([False, False, False, True]), st.integers(0, 6)), min_size=1, max_size=14)
FATES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 12)), max_size=30)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES, fates=FATES, vague=st.booleans(), small=st.booleans())
def test_of_two_writes_the_later_stands_whatever_fails_and_nothing_is_said_to_be_safe_that_a_kill_would_undo(
    batches: list[tuple[list[Row], bool, int]], fates: list[Fate], vague: bool, small: bool
) -> None:
    async def play(directory: Path) -> None:
        upstream = ScriptedUpstream(fates, vague=vague)
        # in two kilobytes there is room for one or two batches
        scene = Scene(directory, upstream, max_bytes=2_000 if small else None)
        await _played(scene, batches)
        assert not scene.early, scene.early
        assert scene.settled == list(range(len(batches))), "messages are settled each once, in their order"
        assert upstream.rows == scene.last
        numbers = iter(range(1, 1000))
        poisoned = set()
        for rows, poison, _ in batches:
            taken = [next(numbers) for _ in rows]
            if poison:
                poisoned.add(-float(taken[len(rows) // 2]))
        assert set(scene.buried()) == poisoned

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory)))

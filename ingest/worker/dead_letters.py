"""The dead-letter file: samples and messages that cannot be stored, with the reason, for a person to look at.

Promise. What `write` or `refuse` was given is on disk when it returns. The files are JSON lines, a new one when the last is large; when all together are at their limit
it raises Busy, and the worker waits for somebody to look: nothing is dropped silently.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from historian.ingest.path_samples import PathSamples
from historian.schema.errors import Busy

_FILE_BYTES = 16 << 20
#: written at a time
_PIECE_BYTES = 1 << 20


class DeadLetters:
    """The files of one worker, in a directory of their own. `samples` and `messages` count what was written since it was opened, `reasons` by reason."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()
        self._whole = False
        self.samples = 0
        self.messages = 0
        self.reasons: Counter[str] = Counter()
        self.trouble = ""
        self.bytes = sum(file.stat().st_size for file in self._files())

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.jsonl"))

    async def write(self, samples: PathSamples, reasons: str | Sequence[str], kind: str) -> None:
        """Keep samples, all for one reason or each for its own; `kind` groups them in the counters. Raises Busy."""
        text = samples.text.to_pylist() if samples.text is not None else [None] * len(samples)
        rows = zip(samples.tag.tolist(), samples.ts.tolist(), samples.value.tolist(), samples.quality.tolist(), text, strict=True)
        now = _iso(time.time_ns() // 1000)
        lines = [
            orjson.dumps(
                {
                    "tag": samples.paths[tag],
                    "ts": _iso(ts),
                    "value": value if np.isfinite(value) else None if np.isnan(value) else str(value),
                    "quality": quality,
                    **({"text": words} if words is not None else {}),
                    "reason": reasons if isinstance(reasons, str) else reasons[n],
                    "refused_at": now,
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for n, (tag, ts, value, quality, words) in enumerate(rows)
        ]
        piece, size = [], 0
        for line in lines:
            piece.append(line)
            size += len(line)
            if size >= _PIECE_BYTES:
                await self._append(b"".join(piece))
                piece, size = [], 0
        if piece:
            await self._append(b"".join(piece))
        self.samples += len(samples)
        self.reasons[kind] += len(samples)

    async def refuse(self, reason: str, where: str, payload: bytes, kind: str) -> None:
        """Keep a message that could not be decoded, whole. Raises Busy."""
        line = {
            "where": where,
            "payload_base64": base64.b64encode(payload).decode(),
            "reason": reason,
            "refused_at": _iso(time.time_ns() // 1000),
        }
        await self._append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self.messages += 1
        self.reasons[kind] += 1

    async def _append(self, lines: bytes) -> None:
        async with self._lock:
            if self.bytes + len(lines) > self._max_bytes:
                self.trouble = f"the dead-letter files in {self.directory} have reached their {self._max_bytes >> 20} MB; look at them and move them away"
                # somebody may have done so by now
                self.bytes = sum(file.stat().st_size for file in self._files())
                if self.bytes + len(lines) > self._max_bytes:
                    raise Busy(self.trouble)
            try:
                await asyncio.to_thread(self._write, lines)
            except OSError as error:
                self.trouble = f"the dead-letter file in {self.directory} cannot be written: {error.strerror or error}"
                raise Busy(self.trouble) from None
            self.bytes += len(lines)
            self.trouble = ""

    def _write(self, lines: bytes) -> None:
        files = self._files()
        file = files[-1] if files and 0 < files[-1].stat().st_size < _FILE_BYTES else None
        if file is not None and not self._whole:
            # a crash may have cut the last line: nothing is written behind half of one
            with file.open("rb") as last:
                last.seek(-1, os.SEEK_END)
                self._whole = last.read(1) == b"\n"
            file = file if self._whole else None
        self._whole = True
        fresh = file is None
        if file is None:
            newest = max((int(name) for name in (known.stem for known in files) if name.isdigit()), default=0)
            file = self.directory / f"{newest + 1:08}.jsonl"
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            end = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(lines):
                    written += os.write(descriptor, lines[written:])
                os.fsync(descriptor)
            except OSError:
                # no half lines
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        if fresh:
            folder = os.open(self.directory, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _iso(us: int) -> str | int:
    """RFC 3339; of what no calendar has, the microseconds."""
    try:
        return str(np.datetime64(us, "us")) + "Z" if -(2**62) < us < 2**62 else us
    except (ValueError, OverflowError):
        return us

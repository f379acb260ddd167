"""Data values of OPC UA as samples of tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.opcua_decode import NO_TIME, NO_VALUE, TEXTS, UNHOLDABLE, Values
from historian.ingest.sources.opcua_nodes import FoundNode
from historian.ingest.sources.opcua_quality import UInt32s, qualities
from historian.schema.catalogue import Kind
from historian.schema.samples import BAD, UNCERTAIN, Int64s

_NUMERIC, _TEXT, _NONE, _INT = 0, 1, 2, 3
_CLASS: dict[Kind | None, int] = {"float": _NUMERIC, "int": _INT, "digital": _NUMERIC, "bool": _NUMERIC, "text": _TEXT, None: _NONE}
_TEXT_TYPES = np.zeros(256, np.bool_)
_TEXT_TYPES[list(TEXTS)] = True


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What became of some data values.

    samples  those that are samples; `node` int64[n], `status` uint32[n] say of each which node it is of, and the status code that it came with
    refused  by node: what it sent that its tag cannot hold, in words, and how often
    """

    samples: PathSamples
    node: Int64s
    status: UInt32s
    refused: dict[int, tuple[str, int]]


class NodeTable:
    """The nodes of one connection, by their number in it (which is their client handle)."""

    def __init__(self, nodes: Sequence[FoundNode]) -> None:
        self.nodes = tuple(nodes)
        self.paths = [node.path for node in nodes]
        self._class = np.array([_CLASS[node.kind] for node in nodes], np.uint8)

    def __len__(self) -> int:
        return len(self.nodes)

    def take(self, values: Values, node: Int64s, arrival_us: int | None) -> Taken:
        """Data values of these nodes, int64[n], in their order. Those without any timestamp get `arrival_us`; without one, they are left out."""
        ts = np.where(values.source != NO_TIME, values.source, values.server)
        if arrival_us is not None:
            ts = np.where(ts != NO_TIME, ts, arrival_us)
        quality = qualities(values.status)
        value, kind = values.value, values.type
        holds = self._class[node]
        there = kind != NO_VALUE
        is_text = _TEXT_TYPES[kind]
        refused = (holds == _NONE) | (kind == UNHOLDABLE) | (there & (is_text != (holds == _TEXT)))
        # a place on the trend where there was a value that cannot be shown; one that is off by a little would be worse
        beyond = values.inexact & (holds == _INT) & ~refused
        if beyond.any():
            value = np.where(beyond, np.nan, value)
            quality = np.where(beyond, BAD, quality).astype(np.int16)
        empty = np.isnan(value) & ~is_text
        if empty.any():
            quality = np.where(empty & (quality >= UNCERTAIN), BAD, quality).astype(np.int16)
        found: dict[int, tuple[str, int]] = {}
        for row in np.flatnonzero(refused | beyond).tolist():
            number = int(node[row])
            reason, count = found.get(number, ("", 0))
            found[number] = (reason or self._reason(values, row, bool(beyond[row]), number), count + 1)
        text = None
        if is_text.any():
            text = pa.array([values.other.get(row) if one else None for row, one in enumerate(is_text.tolist())], pa.string())
        present, tag = np.unique(node, return_inverse=True)
        samples = PathSamples([self.paths[n] for n in present.tolist()], tag.reshape(-1).astype(np.int32), ts, value, quality, text)
        keep: npt.NDArray[np.bool_] = ~refused & (ts != NO_TIME)
        if keep.all():
            return Taken(samples, node, values.status, found)
        return Taken(samples.take(keep), node[keep], values.status[keep], found)

    def _reason(self, values: Values, row: int, beyond: bool, number: int) -> str:
        if beyond:
            return 'an integer beyond ±2^53, which cannot be kept exactly; say kind = "float" for this node to have it rounded'
        what = values.other.get(row) if values.type[row] == UNHOLDABLE else "a text" if _TEXT_TYPES[values.type[row]] else "a number"
        kind = self.nodes[number].kind
        return (
            f"{what or 'a value'}, which {'no tag' if kind is None or values.type[row] == UNHOLDABLE else f'a tag of kind {kind}'} can hold"
        )

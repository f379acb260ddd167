"""Which tags a subscription wants, as they were asked for: paths, and wildcards, whose tags may still be made.

A tag that is made later is found by its samples. Whoever asks notes the place on the live bus, then resolves the names, then takes all that is behind that place. A
tag_id that the answer does not have is either none of ours, or a tag that was made after the names were resolved: then each of its samples has been
committed behind that place, and comes over the bus. Such a tag needs no history, and no seam may be asked about it: a backfill that sees its
samples does not read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from historian.schema.catalogue import Tag
from historian.schema.paths import is_wildcard, wildcard_regex
from historian.schema.samples import Samples

# what a tag_id is to a subscription
_UNKNOWN, _OTHER, _OURS, _BORN = range(4)


@dataclass(frozen=True, slots=True)
class Picked:
    """What is wanted of a notice. `ours`: of tags that a backfill reads; `born`: of tags that none reads; `strangers`: of tags that are not known yet."""

    ours: Samples
    born: Samples
    strangers: Samples


class Wanted:
    """The tags of some names in a time span (µs); one table look-up a sample. `tags` are those that the names had when they were resolved, and those born since.

    What `beside` asks for is left to it.
    """

    def __init__(self, names: Iterable[str], tags: Iterable[Tag], start: int | None, end: int | None, beside: Wanted | None = None) -> None:
        self.names = dict.fromkeys(names)
        self.tags = {tag.tag_id: tag for tag in tags}
        self._start = start
        self._end = end
        self._beside = beside
        self._compile()
        self._index()

    def _compile(self) -> None:
        patterns = [wildcard_regex(name).pattern for name in self.names if is_wildcard(name)]
        self._pattern = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL) if patterns else None

    def _index(self) -> None:
        ids = np.fromiter(self.tags, np.int64, len(self.tags))
        # the last place stands for all ids beyond
        self._table = np.full(int(ids.max(initial=0)) + 2, _OTHER if self._pattern is None else _UNKNOWN, np.int8)
        self._table[ids] = _OURS

    @property
    def follows(self) -> bool:
        """Whether tags that are made later may be wanted."""
        return self._pattern is not None

    def names_path(self, path: str) -> bool:
        """Whether a tag with this path is asked for."""
        return path in self.names or (self._pattern is not None and self._pattern.fullmatch(path) is not None)

    def pick(self, samples: Samples) -> Picked:
        what = self._table[np.minimum(samples.tag_id, len(self._table) - 1)]
        inside = np.ones(len(what), np.bool_)
        if self._start is not None:
            inside = samples.ts >= self._start
        if self._end is not None:
            inside = inside & (samples.ts < self._end)
        if self._pattern is None:
            return Picked(_take(samples, (what == _OURS) & inside), _NONE, _NONE)
        return Picked(*(_take(samples, (what == kind) & inside) for kind in (_OURS, _BORN, _UNKNOWN)))

    def unknown(self, tag_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Those that have to be recognised."""
        unknown: npt.NDArray[np.int32] = tag_ids[self._table[np.minimum(tag_ids, len(self._table) - 1)] == _UNKNOWN]
        return unknown

    def recognise(self, tag_ids: npt.NDArray[np.int32], known: Callable[[int], Tag | None], *, unknown: bool = False) -> list[Tag]:
        """Say what strangers are, as far as they are known. Returns the tags that were born. `unknown`: one that nobody knows is none of ours either."""
        born: list[Tag] = []
        for tag_id in np.unique(tag_ids).tolist():
            if tag_id < len(self._table) - 1 and self._table[tag_id] != _UNKNOWN:
                continue
            tag = known(tag_id)
            if tag is None and not unknown:
                continue
            if tag is None or not self._asks_for(tag):
                self._set(tag_id, _OTHER)
                continue
            self._set(tag_id, _BORN)
            self.tags[tag_id] = tag
            born.append(tag)
        return born

    def rule_out(self, tag_ids: npt.NDArray[np.int32], known: Callable[[int], Tag | None]) -> None:
        """Say of strangers which have nothing to do with these names, as far as they are known."""
        for tag_id in self.unknown(np.unique(tag_ids)).tolist():
            tag = known(tag_id)
            if tag is not None and not self._asks_for(tag):
                self._set(tag_id, _OTHER)

    def remove(self, names: Iterable[str], added: Wanted) -> list[int]:
        """Ask for these names no more. Returns the tag_ids that neither other names nor those added ask for. Only once no seam has anything more to say."""
        for name in names:
            del self.names[name]
        self._compile()
        before = self.tags
        self.tags = {tag_id: tag for tag_id, tag in before.items() if self.names_path(tag.path) or added.names_path(tag.path)}
        self._index()
        return [tag_id for tag_id in before if tag_id not in self.tags]

    def absorb(self, other: Wanted) -> None:
        """Want what another wants too. Only once no seam has anything more to say about either."""
        self.names |= other.names
        self.tags |= other.tags
        self._compile()
        self._index()

    def _asks_for(self, tag: Tag) -> bool:
        return self.names_path(tag.path) and not (self._beside is not None and self._beside.has(tag))

    def has(self, tag: Tag) -> bool:
        """Whether it is one of these, or will be when samples of it come."""
        return tag.tag_id in self.tags or self.names_path(tag.path)

    def _set(self, tag_id: int, what: int) -> None:
        if tag_id >= len(self._table) - 1:
            wider = np.full(2 * tag_id + 2, self._table[-1], np.int8)
            wider[: len(self._table) - 1] = self._table[:-1]
            self._table = wider
        self._table[tag_id] = what


def _take(samples: Samples, keep: npt.NDArray[np.bool_]) -> Samples:
    return samples if keep.all() else samples.take(keep)


_NONE = Samples.empty()

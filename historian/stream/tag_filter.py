"""The samples of some tags, picked out of those of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from historian.schema.catalogue import Tag
from historian.schema.samples import Samples


class TagFilter:
    """Picks the samples of a set of tags; one table look-up a sample."""

    def __init__(self, tags: Sequence[Tag]) -> None:
        ids = np.array([tag.tag_id for tag in tags], np.int64)
        # the last place stands for all ids beyond
        self._wanted = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._wanted[ids] = True

    def pick(self, samples: Samples) -> Samples:
        keep = self._wanted[np.minimum(samples.tag_id, len(self._wanted) - 1)]
        return samples if keep.all() else samples.take(keep)

"""Changes of the tags of an open subscription, one after the other. The tags added get a backfill and a seam of their own, beside the live tail of the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from historian.schema.catalogue import Catalogue, Tag
from historian.schema.errors import BadInput, Busy, HistorianError
from historian.schema.samples import Samples
from historian.stream.backfill import Backfill
from historian.stream.coalesce import coalesce
from historian.stream.events import Changed, Data, Event, Live, Refused, live_data
from historian.stream.gate import Gate
from historian.stream.hub import Hub
from historian.stream.intake import Intake
from historian.stream.joining import Joining
from historian.stream.limits import TagBudget
from historian.stream.part import NOTHING, Part
from historian.stream.request import Request
from historian.stream.sweep import Sweep
from historian.stream.wanted import Wanted

#: changes that wait for the one before them
MAX_CHANGES = 16


class Changes:
    """Of one subscription. `woken` is set when one was asked for; `sent` is told of live samples that the client gets."""

    def __init__(
        self,
        request: Request,
        intake: Intake,
        backfill: Backfill,
        *,
        catalogue: Catalogue,
        hub: Hub,
        sweep: Sweep,
        budget: TagBudget,
        gate: Gate,
        woken: asyncio.Event,
        sent: Callable[[Samples], None],
    ) -> None:
        self._request = request
        self._intake = intake
        self._backfill = backfill
        self._catalogue = catalogue
        self._hub = hub
        self._sweep = sweep
        self._budget = budget
        self._gate = gate
        self._woken = woken
        self._sent = sent
        self._asked: deque[tuple[list[str], list[str]]] = deque()

    def ask(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Ask for these names too, and for those no more. Raises Busy."""
        if len(self._asked) >= MAX_CHANGES:
            raise Busy(f"{MAX_CHANGES} changes of this subscription wait for each other; wait for live before the next")
        self._asked.append((list(add), list(remove)))
        self._woken.set()

    @property
    def can_begin(self) -> bool:
        return bool(self._asked) and self._intake.joining is None

    @property
    def can_go_on(self) -> bool:
        """Whether `go_on` has something."""
        return self._intake.joining is not None and self._intake.joining.ready

    async def begin(self) -> Event:
        """Begin the next change."""
        add: Sequence[str]
        add, remove = self._asked.popleft()
        intake, wanted = self._intake, self._intake.main.wanted
        try:
            unknown = [name for name in remove if name not in wanted.names]
            if unknown:
                raise BadInput(f"this subscription was not asked for {', '.join(map(repr, unknown[:5]))}: remove names as they were given")
            add = [name for name in add if name not in wanted.names]
            place = self._hub.cursor
            found = await self._catalogue.resolve(add)
            new = Wanted(add, (), None, None)
            if not intake.text and (any(tag.kind == "text" for tag in found) or new.follows):
                raise BadInput(
                    "this subscription has no text column, which text tags and wildcards need: subscribe to these under another id"
                )
            # what has come is of the tags as they were, and none of them may be taken for one that is added
            self._hub.deliver()
            while len(intake.main.strangers()):
                await intake.recognise(intake.main)
                self._hub.deliver()
            # from here on nothing is waited for, so that nothing comes between
            kept = Wanted(wanted.names, wanted.tags.values(), None, None)
            gone = kept.remove(remove, new)
            # one that the names kept ask for, and that has no samples yet, comes by them
            added = tuple(tag for tag in found if not kept.has(tag))
            self._budget.check(len(kept.tags) + len(added), len(added) - len(gone))
            part = Part(Wanted(add, added, self._request.start, self._request.end, beside=kept))
            born = intake.take_since(part, place)
        except HistorianError as error:
            return Refused(error)
        self._budget.give_back(len(wanted.remove(remove, new)))
        self._budget.take(len(added))
        intake.main.forget(np.array(gone, np.int32))
        # of those that the client was not told of it is not told that they are gone
        untold = {tag.tag_id for tag in intake.born}
        intake.born = [tag for tag in intake.born if tag.tag_id in wanted.tags]
        intake.joining = Joining(part, self._history(part, added), self._woken.set)
        intake.follow()
        intake.take_born(born)
        return Changed(added, tuple(tag_id for tag_id in gone if tag_id not in untold))

    async def _history(self, part: Part, tags: Sequence[Tag]) -> AsyncGenerator[Samples, None]:
        async with aclosing(self._backfill.frames(part, tags)) as frames:
            async for samples in frames:
                yield samples
        await self._sweep.after_now()

    async def go_on(self) -> AsyncGenerator[Event, None]:
        """The next part of what a change has added, or its end: live with the others."""
        intake, joining = self._intake, self._intake.joining
        assert joining is not None
        samples = joining.take()
        if samples is not None:
            await self._gate.passed()
            yield Data(samples, 0, backfill=True)
            return
        main, part = intake.main, joining.part
        self._hub.deliver()
        # what is strange to one of them must not be recognised by the names of the other
        while len(main.strangers()) or len(part.strangers()):
            await intake.recognise(main)
            await intake.recognise(part)
            self._hub.deliver()
        pieces = part.take()
        main.wanted.absorb(part.wanted)
        main.seam = NOTHING
        intake.joining = None
        intake.follow()
        await joining.aclose()
        for event in intake.announced():
            yield event
        # their places lie behind those of frames that were sent meanwhile; what was sent since is news for nobody who goes on from here with the tags as they were
        for data in live_data(coalesce([samples for piece in pieces for samples in (piece.ours, piece.born)]), 0, 0):
            await self._gate.passed()
            self._sent(data.samples)
            yield replace(data, cursor=intake.taken())
        yield Live(intake.taken())

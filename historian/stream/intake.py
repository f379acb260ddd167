"""What a subscription takes off the live bus and keeps until it is sent.

The hub calls `offer`, `offer_all` and `meet`; the task that iterates the subscription's events calls the rest; nobody else touches the queues. Memory is bounded by
`queue_bytes`, whatever the client does: of more, all that waits is let go, and `missed` remembers what it was. Where the task waits for something to come, and the
transport has given a way to write at once, `offer` writes: no task has to wake up.

Without calculated pens and thinning, once its seam has passed, and while no change is under way, it takes what others of its tags take too, picked and encoded once
(`tick.py`). Otherwise it picks for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import numpy as np

from historian.query.expressions.pens import CalculatedPen
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.errors import BadInput, HistorianError, Unavailable
from historian.schema.samples import Samples
from historian.stream.calculated_pens import CalculatedPens
from historian.stream.entry import Entry
from historian.stream.events import MAX_FRAME_ROWS, Born, Data, Event, Gap
from historian.stream.gate import Gate
from historian.stream.hub import Hub
from historian.stream.joining import Joining
from historian.stream.limits import TagBudget
from historian.stream.missed import Missed
from historian.stream.part import NOTHING, Part, Piece
from historian.stream.request import Request
from historian.stream.tick import Tick
from historian.stream.wanted import Wanted

log = logging.getLogger(__name__)


class Intake:
    """`woken` is set when something has come; a frame that is written at once passes the `gate`; `budget` counts the tags with those of the connection."""

    def __init__(
        self,
        request: Request,
        pens: CalculatedPens,
        *,
        catalogue: Catalogue,
        hub: Hub,
        budget: TagBudget,
        gate: Gate,
        woken: asyncio.Event,
        queue_bytes: int,
    ) -> None:
        self._request = request
        self._pens = pens
        self._catalogue = catalogue
        self._hub = hub
        self._budget = budget
        self._gate = gate
        self._woken = woken
        self._queue_bytes = queue_bytes
        tags = [tag for tag in request.tags if not isinstance(tag, CalculatedPen)]
        names = request.names or [tag.path for tag in tags]
        self.main = Part(Wanted(names, tags, request.start, request.end), pens.pick_arguments)
        #: whether its samples have a text column: a wildcard may match a text tag later
        self.text = self.main.wanted.follows or any(tag.kind == "text" for tag in request.tags)
        #: the tags that a change adds, until they are live with the others
        self.joining: Joining | None = None
        #: what was let go and has not been told
        self.missed: Missed | None = None
        #: why the subscription cannot go on
        self.fault: HistorianError | None = None
        #: tags that were made since and have not been announced
        self.born: list[Tag] = []
        #: whether `events` waits for samples, and has nothing else to bring before them
        self.waiting = False
        #: writes a frame at once, or returns False where it cannot
        self.write_through: Callable[[Data], bool] | None = None
        #: whether it takes what others of its tags take too
        self._shares = False
        #: whether it is offered all that comes, since there may be something of a change, or of a tag that nobody knows yet
        self._offered_all = False

    @property
    def parts(self) -> list[Part]:
        return [self.main] if self.joining is None else [self.main, self.joining.part]

    @property
    def tag_count(self) -> int:
        return sum(len(part.wanted.tags) for part in self.parts)

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""
        return sum(part.nbytes for part in self.parts)

    @property
    def is_pressed(self) -> bool:
        """Whether what waits had better be sent before its time, rather than have it dropped."""
        return self.queued_bytes > self._queue_bytes // 2

    # -- called by the hub

    def offer(self, tick: Tick) -> None:
        """From the hub: write what was committed of the tags that it follows, or keep it."""
        if not self._shares or not self._spans(tick):
            self.offer_all(tick.entries)
        elif not self._written_through(tick):
            self.main.keep(Piece.of_tick(tick))
            self._kept()

    def offer_all(self, entries: Sequence[Entry]) -> None:
        """From the hub: keep what is ours of it."""
        parts = self.parts
        for entry in entries:
            for part in parts:
                self.take_born(part.offer(entry, self._catalogue.by_id))
        self._kept()

    def meet(self, samples: Samples) -> bool:
        """From the hub, before it hands on samples of tags that we have not been asked about: have it know which are ours. False: ask again about these tags."""
        wanted = self.main.wanted
        if not len(wanted.unknown(samples.tag_id)):
            return True
        # a tag is ours from its first sample in the time that was asked for
        strange = wanted.pick(samples).strangers.tag_id
        born = wanted.recognise(strange, self._catalogue.by_id)
        self.take_born(born)
        wanted.rule_out(samples.tag_id, self._catalogue.by_id)
        if len(wanted.unknown(strange)):
            self._follow_all()
        elif born:
            self.follow()
        return not len(wanted.unknown(samples.tag_id))

    def _kept(self) -> None:
        """Something may have been put in a queue."""
        if self.queued_bytes > self._queue_bytes:
            self._drop()
        self._woken.set()

    def _drop(self) -> None:
        """The client is too slow: let go of all that waits, and remember what it was."""
        pieces = [piece for part in self.parts for piece in part.take()]
        if self.missed is None:
            self.missed = Missed(min(piece.first for piece in pieces) - 1)
        for piece in pieces:
            self.missed.add(piece.columns)

    def _spans(self, tick: Tick) -> bool:
        """Whether all of its samples lie in the time that was asked for."""
        request = self._request
        return (request.start is None or tick.first_ts >= request.start) and (request.end is None or tick.last_ts < request.end)

    def _written_through(self, tick: Tick) -> bool:
        # one that could not be written waits in the queue, before this one, until the task has woken up
        if not self.waiting or self.main.queue or self.missed is not None or self.born or self.fault is not None:
            return False
        if self.write_through is None or not self._gate.is_open or len(tick.samples) > MAX_FRAME_ROWS:
            return False
        if not self.write_through(Data(tick.samples, tick.cursor, backfill=False, tick=tick)):
            return False
        self._gate.spend()
        return True

    # -- called by the task of the subscription

    def follow(self) -> None:
        """Tell the hub what is wanted from now on. What it has by now has been offered before."""
        self._hub.deliver()
        wanted = self.main.wanted
        whole = self.joining is None and self._request.max_rate is None and not self._pens
        self._shares = whole and self.main.seam is NOTHING
        if self.joining is not None or (wanted.follows and len(self.main.strangers())):
            self._follow_all()
            return
        self._offered_all = False
        tags = wanted.tags | {tag.tag_id: tag for tag in self._pens.arguments}
        if wanted.follows:
            self._hub.follow_with_new(self, list(tags.values()), text=self.text)
        else:
            self._hub.follow(self, list(tags.values()), text=self.text)

    def _follow_all(self) -> None:
        self._hub.follow_all(self)
        self._offered_all = True

    def live_from_here(self) -> None:
        """The seam has passed: whatever comes is news."""
        self.main.seam = NOTHING
        self.follow()

    async def close(self) -> None:
        """Leave the hub, and let go of all that waits."""
        self._hub.unfollow(self)
        if self.joining is not None:
            await self.joining.aclose()
        self.main.take()

    def taken(self) -> int:
        """The place on the bus up to which the client has, or needs, nothing."""
        self._hub.deliver()
        if self.missed is not None:
            return self.missed.behind
        return self.main.queue[0].first - 1 if self.main.queue else self._hub.cursor

    def take_born(self, tags: Sequence[Tag]) -> None:
        """Tags were made that are ours."""
        if not tags:
            return
        self.born += tags
        self._budget.take(len(tags))
        try:
            self._budget.check(self.tag_count, 0)
        except BadInput as error:
            self.fault = error

    def take_since(self, part: Part, place: int) -> list[Tag]:
        """Take what came behind the place where the names of a part were resolved, as tags may have been made since. Returns those. Raises Unavailable."""
        if not part.wanted.follows:
            return []
        entries = self._hub.since(place)
        if entries is None:
            raise Unavailable("more was written while the wildcards were looked up than the server retains; ask again")
        return [tag for entry in entries for tag in part.offer(entry, self._catalogue.by_id)]

    async def take_entry(self, entry: Entry) -> Piece:
        """What is wanted of an entry that the client has asked to go on from; what strangers are is found out."""
        # what comes is offered as what is known, so that nothing may come between that and what follows
        self._hub.deliver()
        piece, born = self.main.piece(entry, self._catalogue.by_id)
        if born:
            self.follow()
        if len(piece.strangers):
            await self._look_up()
            self._hub.deliver()
            born += self.main.wanted.recognise(piece.strangers.tag_id, self._catalogue.by_id, unknown=True)
            piece = self.main.without_strangers(piece)
            self.follow()
        self.take_born(born)
        return piece

    def announced(self) -> list[Event]:
        """What the client has to be told before it gets samples of tags that were made since."""
        if self.fault is not None:
            raise self.fault
        born, self.born = self.born, []
        return [Born(tuple(born))] if born else []

    async def recognise(self, part: Part) -> None:
        """Find out what the strangers that wait are."""
        while len(tag_ids := part.strangers()):
            await self._look_up()
            # not those that have come meanwhile: the catalogue may have been read before they were made
            self.take_born(part.recognise(tag_ids, self._catalogue.by_id))
        if self._offered_all and self.joining is None:
            self.follow()

    async def take_gap(self) -> Gap | None:
        """What is to be told of what was missed; None where it was nothing of ours."""
        missed, self.missed = self.missed, None
        assert missed is not None
        parts = self.parts
        tag_ids = np.array(sorted(missed.tag_ids), np.int32)
        for part in parts:
            if len(strange := part.wanted.unknown(tag_ids)):
                await self._look_up()
                self._hub.deliver()
                self.take_born(part.wanted.recognise(strange, self._catalogue.by_id, unknown=True))
                self.follow()
        tags = tuple(tag for part in parts for tag in part.wanted.tags.values() if tag.tag_id in missed.tag_ids)
        return Gap(missed.start, missed.end, "slow-client", tags) if tags or self._pens else None

    async def _look_up(self) -> None:
        """Have the catalogue know the tags that other processes have made; a database that is away is waited for."""
        while True:
            try:
                await self._catalogue.refresh()
                return
            except HistorianError as error:
                log.warning("the catalogue could not be read: %s", error)
                await asyncio.sleep(error.retry_after if isinstance(error, Unavailable) else 1)

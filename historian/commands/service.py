"""Commands of one server: checked, written down and committed, and only then answered.

Promise. When `perform` returns, the command is in the audit and on disk: one to a tag of the historian together with the sample that it became, in one transaction; one
to the plant as accepted, until a worker has delivered it or it has expired. What is refused changes nothing but the audit. The same key of the same commander is the
same command, however often and through whichever server it is sent.

Owns two tasks, in `run`: one that hears the doorbell, and one that settles what nobody has delivered in time and lets go of the oldest rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from historian.commands.commanders import Commander, Commanders
from historian.commands.rate import Rate
from historian.commands.values import Checked, check_value
from historian.ingest.writer import Writer
from historian.schema import commands
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.commands import Asked, Command
from historian.schema.connection import Connection, Pool, query, translated
from historian.schema.doorbell import Doorbell
from historian.schema.errors import BadInput, Busy, Conflict, Forbidden, HistorianError, Unavailable, UnknownTag
from historian.schema.ledger import ANONYMOUS, Batch
from historian.schema.paths import MAX_BYTES, check_path
from historian.schema.samples import GOOD, Samples

log = logging.getLogger(__name__)

#: what a command has to be committed, and delivered to the plant
DEFAULT_TIMEOUT_S = 10.0
SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S = 0.1, 3600.0

#: commands that are being committed, and that wait for their turn
AT_ONCE = 2
_WAITING = 100
_AGAIN_S = 0.2
#: a sample of this far ahead would stay the newest one
_AHEAD_US = 60_000_000
#: refusals that are written down, of the whole server: whoever sends them from many addresses must not fill the disk
_REFUSALS_S, _REFUSALS_BURST_S = 1.0, 300.0
_TEND_S, _FORGET_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Who:
    """Who commands: `commander` by the token, if it is one's; `client` is the address."""

    commander: Commander | None
    client: str

    @property
    def name(self) -> str:
        return self.commander.name if self.commander is not None else self.client


@dataclass(frozen=True, slots=True)
class Done:
    """`replayed`: it had been committed before."""

    command: Command
    replayed: bool = False


@dataclass(slots=True)
class CommandCounts:
    """Since the server started."""

    written: int = 0
    accepted: int = 0
    refused: int = 0
    #: refused and not in the audit: too many
    unaudited: int = 0


class _Overtaken(Exception):
    """The tag has a newer sample than this command's would be."""

    def __init__(self, newest: int) -> None:
        self.newest = newest


class _Standing(Exception):
    """Another request with the same key was first."""


class Commands:
    """`pool` is of this alone, so that neither queries nor writes keep a command waiting."""

    def __init__(
        self,
        pool: Pool,
        writer: Writer,
        catalogue: Catalogue,
        commanders: Commanders,
        *,
        a_second: float,
        kept_s: float,
        refused_kept_s: float,
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._catalogue = catalogue
        self.commanders = commanders
        self._rate = Rate(a_second)
        self._refusals = Rate(_REFUSALS_S, _REFUSALS_BURST_S)
        self._kept_s = kept_s
        self._refused_kept_s = refused_kept_s
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self.bell = Doorbell(pool, commands.DOORBELL)
        self.counts = CommandCounts()

    async def run(self) -> None:
        """Until cancelled."""
        listening = asyncio.create_task(self.bell.run())
        try:
            await self._tend()
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def perform(self, tag: str, value: Any, who: Who, *, key: str | None = None, timeout_s: float | None = None) -> Done:
        """Have a value written to a tag.

        Raises Busy (not looked at); Forbidden, BadInput, UnknownTag, Conflict (refused: it is in the audit as that); Unavailable: perhaps it is committed, and the same
        key finds out.
        """
        began = time.monotonic()
        self._rate.count(who.name)
        asked = Asked(tag, value, who.client, who.commander.name if who.commander is not None else None, key)
        try:
            limit_s = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
            if not SHORTEST_TIMEOUT_S <= limit_s <= LONGEST_TIMEOUT_S:
                raise BadInput(f"the timeout of a command is {SHORTEST_TIMEOUT_S:g} to {LONGEST_TIMEOUT_S:g} s, not {limit_s:g}")
            deadline = began + limit_s
            self._check_right(who)
            if key is not None and not commands.is_key(key):
                raise BadInput(f"a key has 1 to 100 visible ASCII characters, unlike {key[:40]!r}")
            async with _in_time(deadline, limit_s, key):
                known, checked = await self._check(asked, who)
                asked = Asked(tag, checked.plain, who.client, asked.commander, key or f"server:{uuid.uuid4().hex}")
                return await self._commit(asked, known, checked, began, deadline)
        except (Forbidden, BadInput, UnknownTag, Conflict) as error:
            self.counts.refused += 1
            await self._write_down(asked, error)
            raise

    async def of(self, command_id: int, wait_s: float = 0.0) -> Command:
        """A command as it stands, or as soon as it is settled, at most so much later. Raises NotFound, Unavailable."""
        return await self.bell.ask(
            lambda: query(self._pool, lambda conn: commands.read(conn, command_id)),
            lambda found: found.outcome != commands.PENDING,
            wait_s=wait_s,
            every_s=_TEND_S,
        )

    # -- how a command is made

    def _check_right(self, who: Who) -> None:
        if self.commanders.closed:
            raise Forbidden(
                "this server takes no commands; to name those who may write to tags, start it with --commanders FILE (docs/commands.md)"
            )
        if who.commander is None or who.commander.may != "command":
            raise Forbidden("this token has no right to write to tags; historian commands grant makes one that has")

    async def _check(self, asked: Asked, who: Who) -> tuple[Tag, Checked]:
        path = check_path(asked.tag)
        # what is writable, and within which limits, as it stands now and not a second ago
        await self._catalogue.refresh()
        tag = self._catalogue.get(path)
        assert who.commander is not None
        if not who.commander.has(path):
            raise Forbidden(f"{who.commander.name} has no right to write to {path!r}; its tags stand in the server's file of commanders")
        if tag is None:
            raise UnknownTag([path])
        if not tag.writable:
            raise Forbidden(f"tag {path!r} is not writable; historian tags set {path} --writable makes it so")
        return tag, check_value(tag, asked.value)

    async def _commit(self, asked: Asked, tag: Tag, checked: Checked, began: float, deadline: float) -> Done:
        """In one transaction, tried again while there is time: the key tells whether a try that broke was committed."""
        assert asked.commander is not None
        assert asked.key is not None
        if self._waiting >= _WAITING:
            raise Busy(f"{self._waiting} commands wait to be committed; send this again in a moment")
        self._waiting += 1
        try:
            async with self._turn:
                while True:
                    try:
                        standing = await query(self._pool, lambda conn: commands.of_key(conn, asked.commander or "", asked.key or ""))
                        if standing is not None:
                            return self._replayed(standing, asked)
                        make = self._to_plant if tag.write_to == "plant" else self._to_historian
                        return Done(await make(asked, tag, checked, began, deadline))
                    except _Standing:
                        continue
                    except Unavailable as error:
                        log.info("a command to %s is tried again: %s", tag.path, error)
                        await asyncio.sleep(_AGAIN_S)
        finally:
            self._waiting -= 1

    @staticmethod
    def _replayed(standing: Command, asked: Asked) -> Done:
        if (standing.tag, standing.value) != (asked.tag, asked.value):
            raise Conflict(f"the key {asked.key!r} is that of another command, {standing.command_id}; a key is used for one")
        return Done(standing, replayed=True)

    async def _to_historian(self, asked: Asked, tag: Tag, checked: Checked, began: float, deadline: float) -> Command:
        """The command, and the sample that it is, by the writer."""
        ts = time.time_ns() // 1000
        while True:
            made: list[Command] = []

            async def beside(conn: Connection, ts: int = ts, made: list[Command] = made) -> None:
                before = await commands.previous(conn, tag)
                if before.ts is not None and before.ts >= ts:
                    raise _Overtaken(before.ts)
                command = await commands.insert(conn, _waited(asked, began), "written", before=before, write_to="historian", ts=ts)
                if command is None:
                    raise _Standing
                made[:] = [command]

            text = None if checked.text is None else pa.array([checked.text], pa.string())
            sample = Samples(
                np.array([tag.tag_id], np.int32), np.array([ts], np.int64), np.array([checked.number]), np.array([GOOD], np.int16), text
            )
            try:
                await self._writer.write([Batch(f"{ANONYMOUS}command:{uuid.uuid4().hex}", 0, sample)], beside=beside)
            except _Overtaken as error:
                # another server's clock may be ahead
                ts = error.newest + 1
                if ts > time.time_ns() // 1000 + _AHEAD_US:
                    raise Conflict(
                        f"tag {tag.path!r} has a sample of a time to come, which would stay its newest; correct that one first"
                    ) from None
                continue
            self.counts.written += 1
            return made[0]

    async def _to_plant(self, asked: Asked, tag: Tag, checked: Checked, began: float, deadline: float) -> Command:
        """The command, for a worker to deliver."""
        with translated():
            async with self._pool.acquire() as conn, conn.transaction():
                before = await commands.previous(conn, tag)
                command = await commands.insert(
                    conn, _waited(asked, began), "accepted", before=before, write_to="plant", expires_s=deadline - time.monotonic()
                )
                if command is None:
                    raise _Standing
                await commands.ring(conn)
        self.counts.accepted += 1
        return command

    async def _write_down(self, asked: Asked, error: HistorianError) -> None:
        """A refusal, in the audit; that it cannot be written must not hide it."""
        if self._refusals.take(""):
            self.counts.unaudited += 1
            log.warning(
                "a command to %.80r by %s from %s was refused, and is not in the audit, one of too many",
                asked.tag,
                asked.commander,
                asked.client,
            )
            return
        path = "".join(c if c.isprintable() else "\ufffd" for c in asked.tag)[:MAX_BYTES]
        key = asked.key if asked.key is not None and commands.is_key(asked.key) else None
        value = asked.value[:4096] if isinstance(asked.value, str) else asked.value
        kept = Asked(path, value, asked.client, asked.commander, key)
        try:
            async with asyncio.timeout(DEFAULT_TIMEOUT_S):
                await query(
                    self._pool, lambda conn: commands.insert(conn, kept, "refused", detail=str(error)[:2000].replace("\x00", "\ufffd"))
                )
        except (HistorianError, TimeoutError) as fault:
            log.error("a refused command to %.80r by %s from %s is not in the audit: %s", path, asked.commander, asked.client, fault)

    async def _tend(self) -> None:
        due = 0.0
        while True:
            try:
                await query(self._pool, commands.expire)
                if time.monotonic() >= due:
                    due = time.monotonic() + _FORGET_S
                    await query(self._pool, lambda conn: commands.forget(conn, kept_s=self._kept_s, refused_kept_s=self._refused_kept_s))
            except HistorianError as error:
                log.debug("upkeep of commands: %s", error)
            except Exception:
                log.exception("upkeep of commands failed")
            await asyncio.sleep(_TEND_S)


@asynccontextmanager
async def _in_time(deadline: float, limit_s: float, key: str | None) -> AsyncIterator[None]:
    """Until a deadline of the monotonic clock. Raises Unavailable after it."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            yield
    except TimeoutError:
        same = "the same key" if key is not None else "GET /v1/commands"
        raise Unavailable(f"the command was not committed within {limit_s:g} s, or that is not known: {same} tells") from None


def _waited(asked: Asked, began: float) -> Asked:
    return replace(asked, waited_s=time.monotonic() - began)

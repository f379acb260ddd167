"""Samples from an OPC UA server: subscriptions, with the server's own timestamps and status codes, and its history for the time in between.

Each connection is a fresh one: the nodes are found, subscribed to, and where the server has a history of them, what lies between the checkpoint and the first value of
the subscription is read from it. A notification is handed over whole; while the intake is held up, nothing more is asked for, the server's queues fill, and what they
lose is read from the history, or counted as lost. docs/ingest/opcua.md says it for those who configure it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from asyncua.ua.uaerrors import UaError

from historian.ingest.backoff import Backoff
from historian.ingest.sources.opcua_checkpoint import Checkpoints
from historian.ingest.sources.opcua_config import BrowseRule, NodeConfig, OpcuaConfig, SecurityConfig
from historian.ingest.sources.opcua_connection import connected, failure, name_of
from historian.ingest.sources.opcua_nodes import FoundNode, Selection, browse, select
from historian.ingest.sources.opcua_samples import NodeTable
from historian.ingest.sources.opcua_security import prepare
from historian.ingest.sources.opcua_session import NodesChanged, Session
from historian.ingest.sources.source import Intake, SourceCounts
from historian.schema.errors import HistorianError

__all__ = ["BrowseRule", "FoundNode", "NodeConfig", "OpcuaConfig", "OpcuaSource", "SecurityConfig", "browse"]

log = logging.getLogger(__name__)

_SAVE_S = 1.0
_SHOWN = 5


class OpcuaSource:
    """One OPC UA server. `counts.more` has

    nodes            that are subscribed to
    nodes_left_out   that the configuration names or finds, and the server does not give
    history_samples  of `samples`, those that were read from the server's history
    history_open     gaps that wait to be filled, or are being filled
    history_failed   gaps that could not be filled: the server refused
    refused_samples  values that no tag can hold; the first of each node and connection is in the dead-letter file
    overflows        times that a queue of the server has, or may have, lost samples of a node
    lost             those of them, and of the times without connection, that no history can make up for
    """

    def __init__(self, config: OpcuaConfig) -> None:
        self.config = config
        self.counts = SourceCounts()
        names = ("nodes", "nodes_left_out", "history_samples", "history_open", "history_failed", "refused_samples", "overflows", "lost")
        self.counts.more = dict.fromkeys(names, 0)
        self._told = False

    async def run(self, intake: Intake) -> None:
        """Take samples until cancelled. Raises BadInput for certificates, keys and password files that cannot be used."""
        await asyncio.to_thread(prepare, self.config.security, self.config.application_uri)
        await asyncio.to_thread(self.config.secret)
        checkpoints = await asyncio.to_thread(Checkpoints, intake.state_dir)
        saver = asyncio.create_task(_save_for_ever(checkpoints))
        backoff = Backoff(0.5, 60.0)
        try:
            while True:
                try:
                    await self._connect(intake, checkpoints, backoff)
                except Exception as error:
                    if self._lost(error):
                        continue
                await asyncio.sleep(backoff.next())
        finally:
            saver.cancel()
            with suppress(asyncio.CancelledError):
                await saver

    async def _connect(self, intake: Intake, checkpoints: Checkpoints, backoff: Backoff) -> None:
        """One connection, until it breaks."""
        async with connected(self.config, intake.state_dir) as connection:
            selection = await select(connection, self.config)
            session = Session(self, connection, selection, intake, checkpoints)
            try:
                await session.run(backoff)
            finally:
                if self.counts.connected:
                    self.counts.connected = False
                    self.counts.disconnects += 1

    def now_connected(self, selection: Selection, refused: dict[int, int], table: NodeTable) -> None:
        """The subscription stands."""
        counts = self.counts
        counts.connected, counts.trouble = True, ""
        counts.connects += 1
        counts.more["nodes"] = len(table) - len(refused)
        counts.more["nodes_left_out"] = len(selection.left_out) + len(refused)
        left_out = [*selection.left_out, *(f"{table.nodes[number].node_id}: {name_of(status)}" for number, status in refused.items())]
        if self._told or counts.connects == 1:
            log.info("connected to %s: %d nodes", self.config.url, counts.more["nodes"])
            if left_out:
                more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
                log.warning("left out of %s: %s%s", self.config.url, "; ".join(left_out[:_SHOWN]), more)
        self._told = False

    def _lost(self, error: Exception) -> bool:
        """A connection ended, or did not come about. Returns whether to connect again at once."""
        first = _first(error)
        if isinstance(first, NodesChanged):
            return True
        if isinstance(first, HistorianError | UaError | OSError | TimeoutError):
            self.counts.trouble = str(failure(first, self.config))
        else:
            # a fault of ours must neither end the worker nor go unseen
            self.counts.trouble = f"{self.config.url}: {type(first).__name__}: {first}"
            log.error("the connection to %s ended by a fault", self.config.url, exc_info=first)
        if not self._told:
            log.warning("not connected: %s; trying again", self.counts.trouble)
            self._told = True
        return False


def _first(error: BaseException) -> BaseException:
    """The error that a group of tasks ended by."""
    while isinstance(error, BaseExceptionGroup):
        leaves: Sequence[BaseException] = error.exceptions
        # what broke the connection breaks every task on it; a fault of ours says more
        error = next((leaf for leaf in leaves if not isinstance(leaf, HistorianError | UaError | OSError | TimeoutError)), leaves[0])
    return error


async def _save_for_ever(checkpoints: Checkpoints) -> None:
    """Write the checkpoints once a second if they have moved, and a last time when cancelled."""
    warned = False
    try:
        while True:
            await asyncio.sleep(_SAVE_S)
            content = checkpoints.content()
            if content is None:
                continue
            try:
                await asyncio.to_thread(checkpoints.write, content)
                warned = False
            except Exception as error:
                checkpoints.failed()
                if not warned:
                    warned = True
                    log.warning("the checkpoint cannot be written: %s; after a restart, more history than needed will be read", error)
    finally:
        content = checkpoints.content()
        if content is not None:
            with suppress(OSError):
                checkpoints.write(content)

"""One WebSocket connection of docs/protocol.md: reads control messages, runs its subscriptions, writes their events as frames.

Owns a task for each subscription and one that sends heartbeats; all are cancelled and awaited before `run` returns. A client that does not read blocks its own
tasks only: what waits for it is bounded in `Subscription`, and a backfill that it does not take within STALLED_S ends the connection.

Backfills take turns with their frames, in the order in which they have one ready: whatever else is to be sent waits for one of them at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from functools import partial

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from historian.query.expressions.pens import calculated
from historian.query.times import parse_time
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool
from historian.schema.cursors import Position, check_name
from historian.schema.errors import BadInput, Busy, Conflict, HistorianError
from historian.stream import messages
from historian.stream.durable import DurableRequest, DurableSubscription
from historian.stream.encoder import Compression, EventEncoder, error_message
from historian.stream.events import Data, Refused
from historian.stream.frames import ARROW, JSON
from historian.stream.gate import STALLED_S
from historian.stream.hub import Hub
from historian.stream.limits import ControlRate, Limits, TagBudget
from historian.stream.messages import BadMessage
from historian.stream.open_subscription import OpenSubscription
from historian.stream.outlet import Outlet
from historian.stream.request import Request
from historian.stream.subscription import Subscription
from historian.stream.sweep import Sweep
from historian.stream.writes import Perform, Writes

log = logging.getLogger(__name__)

SUBPROTOCOLS = (ARROW, JSON)


class Session:
    """The streams of one connection."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        *,
        catalogue: Catalogue,
        hub: Hub,
        sweep: Sweep,
        pool: Pool,
        outlet: Outlet | None = None,
        compression: Compression | None = None,
        queue_bytes: int,
        heartbeat_s: float,
        client: str | None = None,
        limits: Limits | None = None,
        turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        perform: Perform | None = None,
    ) -> None:
        self._ws = ws
        self._client = client
        self._catalogue = catalogue
        self._hub = hub
        self._sweep = sweep
        self._pool = pool
        self._outlet = outlet
        self._compression = compression
        self._queue_bytes = queue_bytes
        self._heartbeat_s = heartbeat_s
        self._binary = ws.ws_protocol == ARROW
        self._subscriptions: dict[int, OpenSubscription] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._faults = 0
        self._limits = limits or Limits()
        self._budget = TagBudget(self._limits.tags)
        self._rate = ControlRate(self._limits.controls_s)
        self._turn = turn
        self._backfilling = asyncio.Lock()
        self._writes = Writes(perform, self._send)

    async def run(self) -> None:
        """Serve the connection until either side closes it."""
        heartbeat = asyncio.create_task(self._beat())
        try:
            async for message in self._ws:
                if message.type == WSMsgType.TEXT:
                    await self._handle(message.data)
                elif message.type == WSMsgType.BINARY:
                    await self._fault(BadMessage("control messages are text; samples are written by POST /v1/write"))
                if self._faults > messages.MAX_FAULTS:
                    await self._ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many faulty control messages")
        except ConnectionError:
            pass
        finally:
            tasks = [heartbeat, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._writes.close()

    async def _beat(self) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(self._heartbeat_s)
                await self._send('{"type":"heartbeat"}')

    async def _send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._ws.send_str(message)
        else:
            await self._ws.send_bytes(message)

    async def _fault(self, error: HistorianError, subscription: int | None = None, request: str | None = None) -> None:
        if isinstance(error, BadMessage):
            subscription = error.subscription if subscription is None else subscription
            request = request or error.request
        self._faults += isinstance(error, BadInput)
        await self._send(error_message(error, subscription, request=request))

    async def _handle(self, text: str) -> None:
        try:
            self._rate.count()
            message = messages.parse(text)
        except BadMessage as error:
            await self._fault(error)
            return
        except Busy as error:
            self._faults += 1
            await self._fault(error)
            return
        if isinstance(message, messages.Heartbeat):
            await self._send('{"type":"heartbeat"}')
            return
        try:
            if isinstance(message, messages.Subscribe):
                await self._subscribe(message)
                return
            if isinstance(message, messages.Write):
                self._writes.put(message)
                return
            subscription = self._subscriptions.get(message.id)
            if subscription is None:
                raise BadMessage(f"there is no subscription {message.id} on this connection", message.id)
            match message:
                case messages.Change():
                    subscription.change(message.add, message.remove)
                case messages.Unsubscribe():
                    await self._unsubscribe(message.id)
                case messages.Pause():
                    subscription.pause()
                case messages.Resume():
                    subscription.resume()
                case messages.Credit():
                    subscription.grant(message.n)
                case messages.Acknowledge():
                    subscription.acknowledge(message.position)
        except HistorianError as error:
            await self._fault(error, message.id, message.type)

    async def _subscribe(self, message: messages.Subscribe) -> None:
        if message.id in self._subscriptions:
            raise Conflict(f"subscription {message.id} is open on this connection; unsubscribe it first, or take another id")
        if len(self._subscriptions) >= self._limits.subscriptions:
            raise BadInput(
                f"{len(self._subscriptions)} subscriptions are open on this connection, and at most {self._limits.subscriptions} may be: "
                "unsubscribe one, or ask for several tags in one"
            )
        now_us = time.time_ns() // 1000
        start = None if message.from_ is None else parse_time(message.from_, now_us)
        end = None if message.to is None else parse_time(message.to, now_us)
        if start is not None and end is not None and end < start:
            raise BadInput(f"to ({message.to}) lies before from ({message.from_})")
        place = self._hub.cursor
        tags = await self._catalogue.resolve(message.tags)
        self._budget.check(len(tags), len(tags))
        if message.durable is not None:
            self._begin(message.id, self._durable(message, check_name(message.durable), tuple(tags), start, now_us))
            return
        pens = await calculated(self._catalogue, message.expressions)
        subscription = Subscription(
            Request(
                (*tags, *pens),
                start,
                end,
                message.mode,
                message.points,
                message.cursor,
                names=tuple(message.tags),
                place=place,
                order=message.order,
                max_rate=message.max_rate,
            ),
            catalogue=self._catalogue,
            hub=self._hub,
            sweep=self._sweep,
            pool=self._pool,
            now_us=now_us,
            queue_bytes=self._queue_bytes,
            turn=self._turn,
            budget=self._budget,
        )
        self._begin(message.id, subscription)

    def _begin(self, subscription_id: int, subscription: OpenSubscription) -> None:
        self._budget.take(subscription.tag_count)
        self._subscriptions[subscription_id] = subscription
        self._tasks[subscription_id] = asyncio.create_task(self._pump(subscription_id, subscription))

    def _durable(
        self, message: messages.Subscribe, name: str, tags: tuple[Tag, ...], start: int | None, now_us: int
    ) -> DurableSubscription:
        async def acknowledged(position: str) -> None:
            await self._send(orjson.dumps({"type": "acknowledged", "id": message.id, "position": position}).decode())

        position = None if message.position is None else Position.parse(message.position)
        return DurableSubscription(
            DurableRequest(name, tuple(message.tags), tags, start, position, self._client),
            hub=self._hub,
            pool=self._pool,
            catalogue=self._catalogue,
            now_us=now_us,
            budget=self._budget,
            turn=self._turn,
            on_acknowledged=acknowledged,
        )

    async def _unsubscribe(self, subscription_id: int) -> None:
        subscription = self._subscriptions.pop(subscription_id)
        task = self._tasks.pop(subscription_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._budget.give_back(subscription.tag_count)

    async def _pump(self, subscription_id: int, subscription: OpenSubscription) -> None:
        encoder = EventEncoder(subscription_id, binary=self._binary, compression=self._compression)
        subscription.write_with(partial(self._write_through, encoder))
        try:
            async with aclosing(subscription.events()) as events:
                async for event in events:
                    if isinstance(event, Refused):
                        self._faults += isinstance(event.error, BadInput)
                    try:
                        if isinstance(event, Data) and event.backfill:
                            async with self._backfilling, asyncio.timeout(STALLED_S):
                                await self._send(encoder.encode(event))
                        else:
                            await self._send(encoder.encode(event))
                    except TimeoutError:
                        await self._abort("the backfill was not read")
                        return
        except ConnectionError:
            return
        except HistorianError as error:
            with suppress(ConnectionError):
                await self._fault(error, subscription_id)
        except Exception:
            log.exception("subscription %d failed", subscription_id)
            with suppress(ConnectionError):
                await self._fault(HistorianError("this subscription failed on the server; its log says why"), subscription_id)
        # ended by itself: the id is free again
        if self._subscriptions.get(subscription_id) is subscription:
            del self._subscriptions[subscription_id]
            del self._tasks[subscription_id]
            self._budget.give_back(subscription.tag_count)

    def _write_through(self, encoder: EventEncoder, data: Data) -> bool:
        """Write a frame, if the client takes what comes. Called amid a publication, which goes on whatever happens here."""
        if self._outlet is None or not self._outlet.open():
            return False
        try:
            self._outlet.write(encoder.encode(data))
        except Exception:
            # the task of the subscription will come upon it too, and end it
            log.exception("a frame could not be written")
            return False
        return True

    async def _abort(self, why: str) -> None:
        log.warning("closing a stream: %s for %.0f s", why, STALLED_S)
        # a client that does not read does not read a close message either
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(5):
                await self._ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=why.encode())

"""A plant as an OPC UA server: `python -m proofs.opcua_server PORT PREFIX SAMPLES LIVE START_US TAGS`.

A variable a tag, below Objects. All but the last LIVE samples of each are in its history from the start; the others come into being ten a second, as values of the
variable and in its history. The history is computed when it is asked for. It says "all is there" after the last.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import Server, ua
from asyncua.server.history import HistoryStorageInterface

from proofs.production import Production

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_PAGE = 10_000
_PAUSE_S = 0.1


def at(us: int) -> datetime:
    return _EPOCH + us * _US


def data_value(us: int, value: float) -> ua.DataValue:
    stamp = at(us)
    return ua.DataValue(ua.Variant(value, ua.VariantType.Double), ua.StatusCode(0), stamp, stamp)


class Recorded(HistoryStorageInterface):
    """The history of a production, of which each tag has so many samples by now."""

    def __init__(self, production: Production, there: int) -> None:
        super().__init__(_PAGE)
        self._production = production
        self._numbers = {path.rpartition("/")[2]: n for n, path in enumerate(production.paths)}
        #: samples of each tag, by its number
        self.there = [there] * production.tags

    async def init(self) -> None: ...

    async def stop(self) -> None: ...

    async def new_historized_node(self, node_id: ua.NodeId, period: timedelta | None, count: int = 0) -> None: ...

    async def save_node_value(self, node_id: ua.NodeId, datavalue: ua.DataValue) -> None: ...

    async def new_historized_event(self, *_: Any, **__: Any) -> None: ...

    async def save_event(self, event: Any) -> None: ...

    async def read_event_history(self, *_: Any) -> Any:
        raise NotImplementedError

    async def read_node_history(
        self, node_id: ua.NodeId, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[ua.DataValue], datetime | None]:
        """As a server that is asked with both ends: what lies between them, oldest first."""
        assert start is not None
        assert end is not None
        made = self._production
        tag = self._numbers[str(node_id.Identifier)]
        first = max(0, -(-(_us(start) - made.start_us) // made.step_us))
        last = min(self.there[tag], (_us(end) - made.start_us) // made.step_us + 1)
        upto = min(last, first + min(nb_values or _PAGE, _PAGE))
        _, ts, value = made.of_tag(tag, first, max(first, upto))
        found = [data_value(us, one) for us, one in zip(ts.tolist(), value.tolist(), strict=True)]
        return found, at(made.start_us + upto * made.step_us) if upto < last else None


def _us(when: datetime) -> int:
    return (when.replace(tzinfo=UTC) - _EPOCH) // _US


async def serve(port: int, production: Production, live: int) -> None:
    each = production.samples // production.tags
    history = Recorded(production, each - live)
    server = Server()
    server.iserver.history_manager.set_storage(history)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:proofs:plant")
    plant = await server.nodes.objects.add_object(ua.NodeId("Plant", index), ua.QualifiedName(production.prefix, index))
    nodes = []
    for tag, path in enumerate(production.paths):
        name = path.rpartition("/")[2]
        _, ts, value = production.of_tag(tag, each - live - 1, each - live)
        node = await plant.add_variable(
            ua.NodeId(name, index), ua.QualifiedName(name, index), ua.Variant(float(value[0]), ua.VariantType.Double)
        )
        await node.write_value(data_value(int(ts[0]), float(value[0])))
        nodes.append(node)
    async with server:
        for node in nodes:
            await server.historize_node_data_change(node, period=None)  # type: ignore[arg-type]
        print("listening", flush=True)
        for n in range(each - live, each):
            await asyncio.sleep(_PAUSE_S)
            for tag, node in enumerate(nodes):
                _, ts, value = production.of_tag(tag, n, n + 1)
                history.there[tag] = n + 1
                await node.write_value(data_value(int(ts[0]), float(value[0])))
        print("all is there", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    port, prefix, samples, live, start_us, tags = sys.argv[1:]
    asyncio.run(serve(int(port), Production(prefix, int(samples), int(tags), int(start_us)), int(live)))

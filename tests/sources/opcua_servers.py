"""A real OPC UA server in the test's own event loop: it can be stopped and started again on its port, and its history outlives that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.history import HistoryDict
from asyncua.server.user_managers import UserManager

from historian.ingest.sources.opcua import OpcuaConfig, OpcuaSource
from historian.ingest.sources.source import Intake

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMESPACE = "urn:test:plant"


DEADLINE_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until this is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def at(us: int) -> datetime:
    """A time by its microseconds since 1970."""
    return EPOCH + timedelta(microseconds=us)


class History(HistoryDict):
    """Outlives its server; gives at most `page` values at a time."""

    def __init__(self, page: int = 10_000) -> None:
        super().__init__(page)
        self.reads = 0

    async def new_historized_node(self, node_id: ua.NodeId, period: timedelta | None, count: int = 0) -> None:
        if node_id not in self._datachanges:
            await super().new_historized_node(node_id, None, 0)

    async def read_node_history(self, *args: Any) -> Any:
        self.reads += 1
        return await super().read_node_history(*args)

    def recorded(self, node: ua.NodeId) -> list[tuple[int, Any]]:
        """(µs, value) of all that is stored of a node."""
        return [((value.SourceTimestamp - EPOCH) // timedelta(microseconds=1), value.Value.Value) for value in self._datachanges[node]]


class Users(UserManager):
    """One user, with a password."""

    def get_user(self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("historian", "right") else None


class PlantServer:
    """Variables below Objects/Plant by their paths. `start` makes those that there are again, with the values that they had last."""

    def __init__(self, *, history: History | None = None, users: bool = False, security: tuple[Path, Path] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"opc.tcp://127.0.0.1:{self.port}/plant"
        self.history = history or History()
        self._users = users
        self._security = security
        self._declared: dict[str, tuple[Any, ua.VariantType, bool]] = {}
        self.nodes: dict[str, Any] = {}
        self.server: Server | None = None
        self.index = 2
        #: called with the server before it listens
        self.furnish: Any = None

    def declare(self, path: str, value: Any, kind: ua.VariantType, *, historize: bool = False) -> None:
        """A variable that is there from the next start on."""
        self._declared[path] = (value, kind, historize)

    def node_id(self, path: str) -> str:
        return f"ns={self.index};s={path}"

    async def start(self) -> None:
        server = Server(user_manager=Users() if self._users else None)
        server.iserver.history_manager.set_storage(self.history)
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name("plant")
        if self._security is not None:
            certificate, key = self._security
            await server.set_application_uri("urn:test:server")
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, ua.SecurityPolicyType.Basic256Sha256_Sign])
            await server.load_certificate(certificate)
            await server.load_private_key(key)
        else:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self.index = await server.register_namespace(NAMESPACE)
        folders = {"": await server.nodes.objects.add_object(ua.NodeId("Plant", self.index), ua.QualifiedName("Plant", self.index))}
        self.folders = folders
        self.nodes = {}
        for path, (value, kind, _) in self._declared.items():
            *levels, name = path.split("/")
            above = ""
            for level in levels:
                here = f"{above}/{level}" if above else level
                if here not in folders:
                    folders[here] = await folders[above].add_object(ua.NodeId(here, self.index), ua.QualifiedName(level, self.index))
                above = here
            node = await folders[above].add_variable(
                ua.NodeId(path, self.index), ua.QualifiedName(name, self.index), ua.Variant(value, kind)
            )
            self.nodes[path] = node
        if self.furnish is not None:
            await self.furnish(self, server)
        await server.start()
        self.server = server
        for path, (_, _, historize) in self._declared.items():
            if historize:
                await server.historize_node_data_change(self.nodes[path], period=None)  # type: ignore[arg-type]

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop()

    async def write(self, path: str, value: Any, us: int | None, *, status: int = 0, server_us: int | None = None) -> None:
        """Give a variable a value with these timestamps and this status. The server publishes it, and stores it if it historizes the variable."""
        assert self.server is not None
        _, kind, historize = self._declared[path]
        self._declared[path] = (value, kind, historize)
        await self.nodes[path].write_value(
            ua.DataValue(
                ua.Variant(value, kind) if value is not None else ua.Variant(),
                ua.StatusCode(status),
                at(us) if us is not None else None,
                at(server_us) if server_us is not None else None,
            )
        )

    async def remember(self, path: str, rows: Sequence[tuple[int, Any]]) -> None:
        """Put values into the history only: what the server saw while nobody was connected."""
        node = self.nodes[path].nodeid if path in self.nodes else ua.NodeId(path, self.index)
        _, kind, _ = self._declared[path]
        await self.history.new_historized_node(node, None)
        for us, value in rows:
            await self.history.save_node_value(node, ua.DataValue(ua.Variant(value, kind), ua.StatusCode(0), at(us), at(us)))


@asynccontextmanager
async def running(config: OpcuaConfig, intake: Intake) -> AsyncIterator[OpcuaSource]:
    """The source as a worker runs it."""
    source = OpcuaSource(config)
    task = asyncio.create_task(source.run(intake))
    try:
        yield source
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

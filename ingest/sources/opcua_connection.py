"""One connection to an OPC UA server: made, used and closed, never mended. Whoever finds it broken opens another.

asyncua's client makes the channel and the session and keeps them alive. Subscriptions are not its own: its publish loop acknowledges what nobody has taken yet, and turns
every value into objects. Here requests go out by themselves, and what is large comes back as bytes for `opcua_decode`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from historian.ingest.sources.opcua_config import OpcuaConfig
from historian.ingest.sources.opcua_decode import to_datetime
from historian.ingest.sources.opcua_messages import History, Publish, decode_history, decode_publish
from historian.ingest.sources.opcua_security import application_uri_of, prepare, remember, secure
from historian.schema.errors import Forbidden, HistorianError, Unauthorized, Unavailable

#: nodes in one request, where the server sets no lower limit
BATCH = 500
_SESSION_MS = 120_000
_CLOSE_S = 3.0

_USER = frozenset({"BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadUserSignatureInvalid"})
_TRUST = frozenset(
    {
        "BadSecurityChecksFailed",
        "BadCertificateUntrusted",
        "BadCertificateInvalid",
        "BadCertificateUriInvalid",
        "BadCertificateTimeInvalid",
        "BadCertificateUseNotAllowed",
    }
)


def name_of(status: int) -> str:
    """The name of a status code."""
    return str(ua.StatusCode(status).name)


class Connection:
    """Requests to one server. All raise UaError, OSError or TimeoutError when the server refuses or is gone: see `failure`."""

    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._batch_read = self._batch_browse = BATCH

    async def prepare(self) -> None:
        """Learn how much the server takes in one request."""
        limits = await self.read(
            [
                (ua.NodeId(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead), ua.AttributeIds.Value),
                (ua.NodeId(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse), ua.AttributeIds.Value),
            ]
        )
        self._batch_read, self._batch_browse = (
            min(BATCH, limit) if isinstance(limit, int) and limit > 0 else BATCH for limit in map(good_value, limits)
        )

    async def namespaces(self) -> list[str]:
        (found,) = await self.read([(ua.NodeId(ObjectIds.Server_NamespaceArray), ua.AttributeIds.Value)])
        value = good_value(found)
        return value if isinstance(value, list) else []

    async def read(self, what: Sequence[tuple[ua.NodeId, ua.AttributeIds]]) -> list[ua.DataValue]:
        """Attributes, in batches."""
        results: list[ua.DataValue] = []
        for first in range(0, len(what), self._batch_read):
            request = ua.ReadRequest()
            request.Parameters.NodesToRead = [ua.ReadValueId(node, attribute) for node, attribute in what[first : first + self._batch_read]]
            results += (await self._answer(request, ua.ReadResponse)).Results
        return results

    async def references(
        self, nodes: Sequence[ua.NodeId], reference: int, *, classes: int = 0, inverse: bool = False
    ) -> list[list[ua.ReferenceDescription]]:
        """What each node refers to by this type of reference or a subtype; nothing for a node that cannot be browsed."""
        results: list[list[ua.ReferenceDescription]] = []
        for first in range(0, len(nodes), self._batch_browse):
            request = ua.BrowseRequest()
            request.Parameters.RequestedMaxReferencesPerNode = 0
            request.Parameters.NodesToBrowse = [
                ua.BrowseDescription(
                    node,
                    ua.BrowseDirection.Inverse if inverse else ua.BrowseDirection.Forward,
                    ua.NodeId(reference),
                    True,
                    classes,
                    ua.BrowseResultMask.All,
                )
                for node in nodes[first : first + self._batch_browse]
            ]
            for result in (await self._answer(request, ua.BrowseResponse)).Results:
                found = list(result.References or ())
                while result.ContinuationPoint:
                    more = ua.BrowseNextRequest()
                    more.Parameters.ContinuationPoints = [result.ContinuationPoint]
                    (result,) = (await self._answer(more, ua.BrowseNextResponse)).Parameters.Results
                    found += result.References or ()
                results.append(found)
        return results

    async def create_subscription(self, interval_ms: float, keepalive: int, lifetime: int) -> ua.CreateSubscriptionResult:
        request = ua.CreateSubscriptionRequest()
        wanted = request.Parameters
        wanted.RequestedPublishingInterval = interval_ms
        wanted.RequestedMaxKeepAliveCount = keepalive
        wanted.RequestedLifetimeCount = lifetime
        # bounds what one response takes in memory
        wanted.MaxNotificationsPerPublish = 20_000
        wanted.PublishingEnabled = True
        return (await self._answer(request, ua.CreateSubscriptionResponse)).Parameters

    async def create_items(self, subscription: int, items: Sequence[ua.MonitoredItemCreateRequest]) -> list[ua.MonitoredItemCreateResult]:
        """One batch of monitored items."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = list(items)
        results: list[ua.MonitoredItemCreateResult] = (await self._answer(request, ua.CreateMonitoredItemsResponse)).Results
        return results

    async def publish(self, acknowledge: Sequence[tuple[int, int]], timeout: float) -> Publish:
        """Wait for the next notifications or the next sign of life, and acknowledge (subscription, sequence) of earlier ones."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [ua.SubscriptionAcknowledgement(*pair) for pair in acknowledge]
        return decode_publish(*await self._bytes(request, timeout))

    async def history(self, node: ua.NodeId, start_us: int, end_us: int, limit: int, continuation: bytes | None) -> History:
        """At most `limit` raw values of one node from `start_us` on, up to `end_us`, oldest first."""
        request = ua.HistoryReadRequest()
        details = ua.ReadRawModifiedDetails()
        details.IsReadModified = False
        details.StartTime, details.EndTime = to_datetime(start_us), to_datetime(end_us)
        details.NumValuesPerNode = limit
        details.ReturnBounds = False
        request.Parameters.HistoryReadDetails = details
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ReleaseContinuationPoints = False
        node_to_read = ua.HistoryReadValueId()
        node_to_read.NodeId = node
        node_to_read.ContinuationPoint = continuation
        request.Parameters.NodesToRead = [node_to_read]
        results = decode_history(*await self._bytes(request, self._timeout))
        if len(results) != 1:
            raise UaError(f"a history of one node was asked for, and {len(results)} came")
        return results[0]

    async def _bytes(self, request: Any, timeout: float) -> tuple[bytes, int]:
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        buffer = await protocol.send_request(request, timeout)
        nodeid_from_binary(buffer)
        struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.check()
        return bytes(buffer), 0

    async def _answer(self, request: Any, kind: Any) -> Any:
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        response = struct_from_binary(kind, await protocol.send_request(request, self._timeout))
        response.ResponseHeader.ServiceResult.check()
        return response


def good_value(found: ua.DataValue) -> Any:
    """The value of an attribute, None if it could not be read."""
    if found.StatusCode is not None and not found.StatusCode.is_good():
        return None
    return found.Value.Value if found.Value is not None else None


@asynccontextmanager
async def connected(config: OpcuaConfig, state_dir: Path | None = None) -> AsyncIterator[Connection]:
    """A connection with an activated session. Raises Unavailable, Unauthorized, Forbidden, NotFound (security that the server does not offer) and BadInput (files)."""
    await asyncio.to_thread(prepare, config.security, config.application_uri)
    password = await asyncio.to_thread(config.secret)
    _quiet()
    client = Client(config.url, timeout=config.timeout_s, watchdog_intervall=max(config.timeout_s, 10.0))
    client.name = client.description = "historian"
    client.application_uri = config.application_uri
    client.session_timeout = _SESSION_MS
    if config.username is not None:
        client.set_user(config.username)
        client.set_password(password or "")
    try:
        try:
            if config.security.mode != "None" and config.security.certificate is not None:
                client.application_uri = await asyncio.to_thread(application_uri_of, config.security.certificate) or config.application_uri
            shown = await secure(client, config.security, state_dir)
            await client.connect()
            if shown is not None and state_dir is not None:
                await asyncio.to_thread(remember, config.security, state_dir, shown)
            connection = Connection(client, config.timeout_s)
            await connection.prepare()
        except (UaError, OSError, TimeoutError, ValueError) as error:
            raise failure(error, config) from None
        yield connection
    finally:
        # a server that is gone does not hold this up
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await client.disconnect()
        client.disconnect_socket()


def failure(error: Exception, config: OpcuaConfig) -> HistorianError:
    """What went wrong between this worker and its server, in words that say what to do. Passes on HistorianError."""
    if isinstance(error, HistorianError):
        return error
    if isinstance(error, UaStatusCodeError):
        code = name_of(error.code)
        if code in _USER:
            who = (
                f"user {config.username!r}: wrong user name or password"
                if config.username is not None
                else "anonymous clients: give a username and a password"
            )
            return Unauthorized(f"{config.url} refuses {who} ({code})")
        if code in _TRUST:
            certificate = f" {config.security.certificate}" if config.security.certificate is not None else ""
            return Forbidden(f"{config.url} does not accept this worker's certificate{certificate}: have the server trust it ({code})")
        return Unavailable(f"{config.url} answers {code}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{config.url} does not answer")
    if isinstance(error, OSError):
        return Unavailable(f"{config.url} cannot be reached: {error.strerror or error or type(error).__name__}")
    return Unavailable(f"{config.url}: {type(error).__name__}: {error}")


def _quiet() -> None:
    # what asyncua says of a lost connection, with a traceback and every second, is said once, by the source
    logger = logging.getLogger("asyncua")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)

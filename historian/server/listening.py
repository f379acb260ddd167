"""The socket that a server listens on, and whether it may."""

from __future__ import annotations

import os
import socket

from historian.schema.errors import BadInput, Conflict
from historian.settings import Settings

#: connections that wait to be accepted
BACKLOG = 1024


def check_exposure(settings: Settings) -> None:
    """Raises BadInput if the settings would let everybody on the network read and write."""
    if not settings.on_loopback and settings.token is None and not settings.allow_anonymous:
        raise BadInput(
            f"{settings.host} is reachable from other machines: set a token (HISTORIAN_TOKEN), or say --allow-anonymous if everybody who reaches it may read and write"
        )


def listen(settings: Settings) -> socket.socket:
    """A bound socket. Raises Conflict if the port is taken, BadInput if the host is none of ours."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadInput(f"host {settings.host!r} is no address of this machine: {error.strerror or error}") from None
    listening = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if isinstance(error, PermissionError):
            raise BadInput(f"port {settings.port} needs rights that this user lacks; take one above 1023 with --port") from None
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); take another port with --port"
        ) from None
    return listening


def url_of(listening: socket.socket, settings: Settings) -> str:
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what it is bound to, told as what one can reach
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    elif settings.host == "localhost":
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

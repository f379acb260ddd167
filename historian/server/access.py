"""Who may use the server: closed by default off loopback, and on loopback closed to pages of other origins.

A page of another site that is open in a browser on this machine can reach loopback: by a cross-origin request (it has an Origin), or by a name of its own that
resolves to 127.0.0.1 (then Host is that name). Both are refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from historian.commands.commanders import Commanders
from historian.schema.errors import Forbidden, Unauthorized
from historian.server.page import is_public
from historian.server.problems import problem_response
from historian.server.services import SERVICES
from historian.settings import Settings, is_loopback

#: need no token: whether the server lives (and the pages)
_OPEN = frozenset({"/healthz", "/readyz"})

#: a browser cannot set headers on a WebSocket: it offers the token, in base64url, as one more subprotocol
TOKEN_SUBPROTOCOL = "historian.token."  # noqa: S105

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " worker-src 'self'; manifest-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def client_of(request: web.Request) -> str:
    """Who asks, to share fairly by: an address; behind a proxy on this machine the one that the proxy names."""
    address = request.remote or ""
    if is_loopback(address):
        return request.headers.get("X-Forwarded-For", address).rpartition(",")[2].strip()[:60]
    return address


def _host_of(netloc: str) -> str:
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _check_host(request: web.Request, settings: Settings) -> None:
    if not settings.on_loopback:
        # the token, or the operator's word that none is needed, guards it there
        return
    # bytes that are no text must not reach the answer
    host = _host_of(request.headers.get("Host", "").encode("ascii", "replace").decode())
    if is_loopback(host) or host in {name.lower() for name in settings.allowed_hosts}:
        return
    raise Forbidden(f"this server is not known as {host[:100]!r}; behind a proxy, start it with --allowed-host {host[:100] or 'NAME'}")


def _check_origin(request: web.Request, settings: Settings) -> None:
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.allowed_origins:
        return
    origin = origin.encode("ascii", "replace").decode()
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        netloc = ""
    if netloc and netloc.lower() == request.headers.get("Host", "").lower():
        return
    raise Forbidden(f"pages of {origin[:100]!r} may not use this server; allow them with --allowed-origin")


def offered_token(request: web.Request) -> str | None:
    """What a request says to be let in, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for offer in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        name = offer.strip()
        if name.startswith(TOKEN_SUBPROTOCOL):
            encoded = name.removeprefix(TOKEN_SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                return None
    return None


def _check_token(request: web.Request, settings: Settings, commanders: Commanders) -> None:
    if settings.token is None or request.path in _OPEN or is_public(request.path):
        return
    offered = offered_token(request)
    if offered is None:
        raise Unauthorized("this server wants a token: Authorization: Bearer …")
    if commanders.find(offered) is not None:
        # who may write to tags may do all that the others may
        return
    if not hmac.compare_digest(offered.encode("utf-8", "surrogateescape"), settings.token.get_secret_value().encode()):
        raise Unauthorized("this is not the server's token")


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses whom it does not know; lets pages of allowed origins read the answers (CORS)."""
    settings = request.app[SERVICES].settings
    try:
        _check_host(request, settings)
        _check_origin(request, settings)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=_cors(request, settings) | {"Access-Control-Max-Age": "600"})
        _check_token(request, settings, request.app[SERVICES].commands.commanders)
    except Unauthorized as error:
        response = problem_response(error)
        response.headers["WWW-Authenticate"] = 'Bearer realm="historian"'
        response.headers.update(_cors(request, settings))
        return response
    return await handler(request)


def _cors(request: web.Request, settings: Settings) -> dict[str, str]:
    origin = request.headers.get("Origin")
    if origin is None or origin not in settings.allowed_origins:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Vary": "Origin",
        "Access-Control-Allow-Methods": "GET, PUT, POST, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, Historian-Producer, Historian-Seq, If-Match, If-None-Match",
        "Access-Control-Expose-Headers": "ETag, Historian-Next, Historian-Replayed, Link, Retry-After",
    }


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: what every answer carries."""
    response.headers["Server"] = "historian"
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.update(_cors(request, request.app[SERVICES].settings))

"""Errors as answers: every failure of a handler becomes an RFC 9457 problem document, and never a stack trace."""

from __future__ import annotations

import asyncio
import logging
import math
import time

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError
from aiohttp.typedefs import Handler

from historian.schema.connection import translate
from historian.schema.errors import BadInput, Busy, HistorianError, NotFound, Unavailable
from historian.server.services import SERVICES

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


def problem_response(error: HistorianError) -> web.Response:
    """The answer that an error becomes."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Busy | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return web.Response(status=error.status, body=orjson.dumps(error.document()), content_type=CONTENT_TYPE, headers=headers)


def as_problem(error: Exception, what: str) -> HistorianError:
    """Our error for any. One that nobody foresaw is logged, and shown without its inside."""
    if isinstance(error, HistorianError):
        return error
    if isinstance(error, PayloadEncodingError | HttpProcessingError):
        return BadInput(f"the body ended too early or is not encoded as its headers say: {error.message}")
    ours = translate(error)
    if ours is not None:
        return ours
    log.error("%s failed", what, exc_info=error)
    return HistorianError("the server failed to answer this; its log says why")


class _Http(HistorianError):
    """An HTTP fault that the router found."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self._document = {"type": "about:blank", "title": title, "status": status, "detail": detail}

    def document(self) -> dict[str, object]:
        return dict(self._document)


def _of_router(error: web.HTTPException, request: web.Request) -> web.Response:
    if error.status == 404:
        return problem_response(NotFound(f"there is nothing at {request.path[:200]}; /openapi.json lists what there is"))
    fault = _Http(error.status, error.reason, error.reason)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        fault = _Http(405, "Method not allowed", f"{request.path[:200]} takes {allowed}, not {error.method}")
    response = web.Response(status=error.status, body=orjson.dumps(fault.document()), content_type=CONTENT_TYPE)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers errors, and takes the time of requests."""
    started = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as error:
        status = error.status
        if error.status < 400:
            raise
        response = _of_router(error, request)
    except (asyncio.CancelledError, ConnectionError):
        status = 499
        raise
    except Exception as error:
        problem = as_problem(error, f"{request.method} {request.path[:200]}")
        status = problem.status
        response = problem_response(problem)
    finally:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "-"
        if route not in ("/v1/stream", "/v1/ingest"):
            # a client's invention must not become a label
            method = request.method if request.method in hdrs.METH_ALL else "other"
            request.app[SERVICES].metrics.requests.labels(method, route, str(status)).observe(time.perf_counter() - started)
    return response

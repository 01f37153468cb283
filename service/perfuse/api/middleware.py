"""What every request passes, as pure ASGI: request id and last resort, local gate, body limit, hot paths."""

from __future__ import annotations

import logging as stdlib_logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from perfuse import ids, logging, metrics
from perfuse.api.auth import check_local
from perfuse.api.problems import UnsupportedMediaType, unforeseen
from perfuse.api.refusals import refusal
from perfuse.errors import PayloadTooLarge, PerfuseError

_log = logging.get(__name__)
_ROOT = stdlib_logging.getLogger()

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_SERVER_ERROR = 500
CLIENT_CLOSED = 499
"""What metrics say of a client that did not wait for its answer."""


@dataclass(slots=True)
class Exchange:
    """One request on its way: its id, its headers (of each name the first), when it came, what was answered."""

    request_id: str
    kind: metrics.Kind
    headers: Mapping[bytes, bytes]
    started: float = field(default_factory=time.perf_counter)
    status: int = 0

    def seconds(self) -> float:
        """Since it came."""
        return time.perf_counter() - self.started

    def header(self, name: bytes) -> str | None:
        """A header by its name in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that `RequestContext` put into the scope."""
    exchange: Exchange = scope["perfuse.exchange"]
    return exchange


class RequestContext:
    """Outermost: accepts or mints the request id, echoes it, counts, and answers what nothing else has caught."""

    def __init__(self, app: ASGIApp, *, meter: metrics.Metrics) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        given = headers.get(b"x-request-id")
        identity = (_acceptable(given) if given else None) or ids.token()
        exchange = scope["perfuse.exchange"] = Exchange(identity, metrics.kind_of(scope["path"]), headers)
        header = (b"x-request-id", identity.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        self._meter.request_begins()
        tokens = bind_contextvars(request_id=identity)
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            self._meter.client_gone(exchange.kind)
            exchange.status = CLIENT_CLOSED
        except Exception as error:  # noqa: BLE001  # the boundary of the process: the client gets an answer
            _log.error("request_failed", exc_info=error, kind=exchange.kind)
            if not exchange.status:
                await refusal(unforeseen(), exchange.kind, identity)(scope, receive, send_with_id)
        finally:
            self._meter.request_ends(exchange.kind, exchange.status, exchange.seconds())
            grave = exchange.status >= _SERVER_ERROR and exchange.kind != "health"
            if grave or _ROOT.isEnabledFor(stdlib_logging.DEBUG):
                level = _log.warning if grave else _log.debug
                level("request_finished", kind=exchange.kind, status=exchange.status, seconds=exchange.seconds())
            reset_contextvars(**tokens)


def _acceptable(given: bytes) -> str | None:
    """The request id that the client gave, if it is one."""
    text = given.decode("latin-1")
    return text if REQUEST_ID.match(text) else None


class LocalGate:
    """For servers without keys: Host and Origin must be this machine, posts must be JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            exchange = exchange_of(scope)
            try:
                check_local(exchange.header(b"host"), exchange.header(b"origin"))
                if scope["method"] == "POST" and exchange.headers.get(b"content-type") != b"application/json":
                    _check_json(exchange.header(b"content-type") or "")
            except PerfuseError as error:
                await refusal(error, exchange.kind, exchange.request_id)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _check_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(
            f"expected content-type application/json, got {content_type!r}",
            hint="add the header `Content-Type: application/json`",
        )


class BodyLimit:
    """Refuses bodies over `limit` bytes: by their declared length at once, else while they arrive."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        declared = exchange.header(b"content-length") or ""
        if declared.isdigit():
            if int(declared) > self._limit:
                error = self._too_large(f"{declared} bytes")
                await refusal(error, exchange.kind, exchange.request_id)(scope, receive, send)
                return
            if b"transfer-encoding" not in exchange.headers:  # the HTTP parser reads no more than declared
                await self._app(scope, receive, send)
                return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._limit:
                    raise self._too_large("more")
            return message

        await self._app(scope, counted, send)

    def _too_large(self, came: str) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the body may have {self._limit} bytes, {came} came",
            hint="send less, or raise --max-body-bytes on the server",
        )


class HotPaths:
    """Innermost: answers the posts that make up the load, past FastAPI, which costs more than their parsing.

    Args:
        app: the application whose endpoints they are; answers everything else.
        endpoints: what answers a post, by exact path.
    """

    def __init__(self, app: ASGIApp, *, endpoints: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        try:
            response = await endpoint(Request(scope, receive))
        except PerfuseError as error:
            exchange = exchange_of(scope)
            response = refusal(error, exchange.kind, exchange.request_id)
        await response(scope, receive, send)

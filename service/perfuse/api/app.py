"""The HTTP application: routes, problems and middleware around a pool of engines and a ledger.

    app = create_app(
        pool=pool, ledger=ledger, inbox=inbox, secret=secret, keyring=keyring, max_body_bytes=1_000_000
    )

Ledger, inbox and pool are opened and closed by whoever made them. The middleware stands around FastAPI, not in its
stack: what `HotPaths` answers does not pass FastAPI's own five layers.
"""

from __future__ import annotations

import functools

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from perfuse import __version__
from perfuse.api import openapi
from perfuse.api.auth import Keyring
from perfuse.api.counted import Counted
from perfuse.api.generate import Front
from perfuse.api.mcp.endpoint import Endpoint
from perfuse.api.middleware import BodyLimit, HotPaths, LocalGate, RequestContext, exchange_of
from perfuse.api.problems import MethodNotAllowed, unforeseen
from perfuse.api.refusals import refusal
from perfuse.api.routes import adapters, diffuse, feedback, generations, health, mcp, memories, models, openai, plan
from perfuse.api.routes import console as console_routes
from perfuse.api.routes import evolution as evolution_routes
from perfuse.api.tracing import Tracing
from perfuse.dispatch.evolution import Worker
from perfuse.dispatch.pool import Pool
from perfuse.errors import NotFound, PerfuseError
from perfuse.ids import Minter
from perfuse.metrics import Metrics
from perfuse.queue.inbox import Inbox
from perfuse.queue.ledger import Ledger

_ROUTERS = (
    diffuse.router,
    plan.router,
    feedback.router,
    adapters.router,
    evolution_routes.router,
    memories.router,
    generations.router,
    models.router,
    health.router,
    openai.router,
    mcp.router,
)
_POSTS = {
    "/diffuse": diffuse.diffuse,
    "/plan": plan.plan,
    "/completions": openai.create_completion,
    "/chat/completions": openai.create_chat_completion,
}
_HOT = _POSTS | {f"/v1{path}": endpoint for path, endpoint in _POSTS.items()}
_METHOD_NOT_ALLOWED = 405


def create_app(
    *,
    pool: Pool,
    ledger: Ledger,
    inbox: Inbox,
    secret: bytes,
    keyring: Keyring,
    max_body_bytes: int,
    evolution: Worker | None = None,
    console: bool = True,
    tracing: Tracing | None = None,
) -> ASGIApp:
    """The application.

    Args:
        pool: computes requests.
        ledger: keeps what was generated; open.
        inbox: keeps feedback; open.
        secret: signs generation ids.
        keyring: the keys; empty: everybody on this machine, and nobody else.
        max_body_bytes: longest request body.
        evolution: carries out orders about what is learned; None: the server does not learn.
        console: whether `/` is the console.
        tracing: makes spans of requests; None: nobody wants any.
    """
    routes = documented_app()
    if console:
        routes.include_router(console_routes.router)
    meter = Metrics(pool.counters)
    routes.state.front = Front(
        pool=pool, ledger=ledger, inbox=inbox, minter=Minter(secret), keyring=keyring, meter=meter, tracing=tracing
    )
    routes.state.evolution = evolution
    routes.state.counted = Counted(evolution)
    routes.state.mcp = Endpoint()
    routes.add_exception_handler(PerfuseError, _refused)
    routes.add_exception_handler(HTTPException, _not_routed)
    routes.add_exception_handler(Exception, _failed)
    app: ASGIApp = BodyLimit(HotPaths(routes, endpoints=_HOT), limit=max_body_bytes)
    if keyring.empty:
        app = LocalGate(app)
    app = RequestContext(app, meter=meter)
    return app if tracing is None else tracing.around(app)


def documented_app() -> FastAPI:
    """The routes alone, enough for `openapi()`."""
    app = FastAPI(
        title="perfuse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=lambda route: route.name,
    )
    for router in _ROUTERS:
        app.include_router(router)
    for router in _ROUTERS:
        app.include_router(router, prefix="/v1", include_in_schema=False)
    app.openapi = functools.cache(functools.partial(openapi.describe, app))  # type: ignore[method-assign]
    return app


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, PerfuseError)
    exchange = exchange_of(request.scope)
    return refusal(error, exchange.kind, exchange.request_id)


def _failed(request: Request, error: Exception) -> Response:
    del error  # raised again by Starlette and logged by `RequestContext`
    return _refused(request, unforeseen())


def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == _METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods_of(path))
        refused = MethodNotAllowed(f"{request.method} is not possible on {path}", hint=f"it takes {allowed}")
        response = _refused(request, refused)
        response.headers["allow"] = allowed
        return response
    return _refused(request, NotFound(f"there is nothing at {path}", hint="see /docs"))


def _methods_of(path: str) -> list[str]:
    """Every method of a path; Starlette's error names only those of the first route that matches."""
    routes = [route for router in (*_ROUTERS, console_routes.router) for route in router.routes]
    bare = path.removeprefix("/v1")
    matching = [route for route in routes if isinstance(route, Route) and route.path_regex.match(bare)]
    return sorted({method for route in matching for method in route.methods or ()})

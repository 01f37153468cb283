"""Liveness, readiness, metrics, version, the reference page and the meaning of problem codes. Open without a key."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from perfuse import __version__, metrics
from perfuse.api.answering import JSON
from perfuse.api.counted import Counted
from perfuse.api.generate import front_of
from perfuse.api.openapi import documented, json_answer, open_to_all, text_answer
from perfuse.api.problems import describe
from perfuse.api.schemas import ProblemKindAnswer, StatusAnswer, VersionAnswer
from perfuse.errors import NotFound, Unavailable
from perfuse.queue.inbox import InboxUnavailable
from perfuse.wire import PROTOCOL

router = APIRouter(tags=["server"])

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>perfuse</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="reference"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body></html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true})\n'
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/livez", openapi_extra=documented(json_answer(StatusAnswer), open_to_all()))
async def livez() -> Response:
    """Whether the front answers."""
    return _json({"status": "alive"})


@router.get("/readyz", openapi_extra=documented(json_answer(StatusAnswer), open_to_all()))
async def readyz(request: Request) -> Response:
    """Whether requests can be served: 503 until an engine has answered its warm-up."""
    front = front_of(request)
    if not front.pool.ready:
        raise Unavailable("no engine is ready yet", hint="models are loading; try again", retry_after=1.0)
    return _json({"status": "ready", "ledger": front.ledger.durability, "inbox": front.inbox.durability})


@router.get("/metrics", openapi_extra=documented(text_answer("Prometheus text format"), open_to_all()))
async def exposition(request: Request) -> Response:
    """Metrics for Prometheus."""
    front = front_of(request)
    try:
        stats = await front.inbox.stats()
    except InboxUnavailable:  # the other metrics are wanted all the more
        front.meter.inbox({})
    else:
        front.meter.inbox({"waiting": stats.waiting, "leased": stats.leased, "dead": stats.dead})
    counted: Counted = request.app.state.counted
    front.meter.evolution(await counted.read())
    return Response(front.meter.exposition(), headers={"content-type": metrics.CONTENT_TYPE})


@router.get("/version", openapi_extra=documented(json_answer(VersionAnswer), open_to_all()))
async def version() -> Response:
    """What runs here."""
    return _json({"version": __version__, "protocol": PROTOCOL})


@router.get("/problems/{code}", openapi_extra=documented(json_answer(ProblemKindAnswer), open_to_all()))
async def problem(code: str) -> Response:
    """What a problem's `code` means; its `type` points here."""
    found = describe(code)
    if found is None:
        raise NotFound(f"no problem has the code {code!r}")
    title, status, meaning = found
    return _json({"code": code, "title": title, "status": status, "meaning": meaning})


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The description of this API."""
    return _json(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The reference page; it loads nothing from other hosts."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})


@router.get("/docs/start.js", include_in_schema=False)
async def docs_start() -> Response:
    """What draws the reference page."""
    return Response(_START, media_type="text/javascript")


@router.get("/docs/{asset}", include_in_schema=False)
async def docs_asset(asset: str) -> Response:
    """A file of the reference page."""
    if asset not in _ASSETS:
        raise NotFound("no such file")
    return FileResponse(_swagger() / asset, media_type=_ASSETS[asset], headers={"cache-control": "max-age=86400"})


def _swagger() -> Path:
    """Where swagger-ui lies: a package that carries it is a dependency, its code is not imported."""
    spec = find_spec("fastapi_offline")
    assert spec is not None, "a dependency of perfuse[serve]"
    assert spec.origin is not None, "an ordinary package"
    return Path(spec.origin).parent / "static"


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)

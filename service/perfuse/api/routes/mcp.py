"""POST /mcp: the tools of agents, as MCP's stateless streamable HTTP."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.generate import front_of
from perfuse.api.mcp.endpoint import Endpoint, Handed
from perfuse.api.middleware import exchange_of

router = APIRouter(tags=["mcp"])


@router.post("/mcp", include_in_schema=False)
async def mcp(request: Request) -> Response:
    """Answer one message. What a tool needs of a key is checked when it is called."""
    front_of(request).keyring.principal(exchange_of(request.scope).header(b"authorization"))
    endpoint: Endpoint = request.app.state.mcp
    return Handed(await endpoint.serving())

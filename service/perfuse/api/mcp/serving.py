"""MCP's messages: the list of tools, and calls with progress, which end when the client leaves."""

from __future__ import annotations

import asyncio
import logging as stdlib_logging
from collections.abc import Callable, Coroutine

import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from starlette.requests import Request

from perfuse import __version__, logging
from perfuse.api.generate import front_of
from perfuse.api.mcp.tools import OFFERS, OnEvent, listed
from perfuse.api.middleware import exchange_of
from perfuse.api.problems import problem_of, unforeseen
from perfuse.dispatch.pool import Event, PreviewEvent
from perfuse.errors import PerfuseError

_log = logging.get(__name__)

Context = ServerRequestContext[dict[str, object], Request]
_NO_LIMIT = 1 << 62
"""Bodies are limited before they come here."""
_INSTRUCTIONS = (
    "A small diffusion model writes Python and plans trajectories, and learns from feedback. Ask with `generate`, "
    "`fill` or `plan`, check the answer, and say with `feedback` what came of it."
)


def manager() -> StreamableHTTPSessionManager:
    """What answers messages, without sessions."""
    stdlib_logging.getLogger("mcp").setLevel(stdlib_logging.WARNING)  # it tells of every message
    tools = listed()
    schemas = {tool.name: tool.input_schema for tool in tools}

    async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        del context, params  # the same for everybody, on one page
        return ListToolsResult(tools=tools)

    server: Server[dict[str, object]] = Server(
        "perfuse",
        version=__version__,
        instructions=_INSTRUCTIONS,
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    return StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=_NO_LIMIT)


async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
    """What a tool gives; what it refuses is for the agent to read, with our code and hint."""
    offer = OFFERS.get(params.name)
    if offer is None:
        raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}; there are {', '.join(OFFERS)}")
    request = context.request
    assert request is not None, "it came over HTTP"
    arguments = params.arguments or {}
    try:
        content = await _told(context, lambda on_event: offer.call(request, arguments, on_event))
    except PerfuseError as error:
        return _refused(request, error)
    except asyncio.CancelledError:
        front_of(request).meter.client_gone("mcp")
        raise
    except Exception as error:  # noqa: BLE001  # the SDK would tell the client and nobody else
        _log.error("request_failed", exc_info=error, kind="mcp")
        return _refused(request, unforeseen())
    return CallToolResult(content=[_text(content)], structured_content=msgspec.json.decode(content))


async def _told(context: Context, run: Callable[[OnEvent | None], Coroutine[object, None, bytes]]) -> bytes:
    """The result of `run`; its steps are told on the way to a client that wants to know."""
    if not context.meta or "progress_token" not in context.meta:
        return await run(None)
    changed = asyncio.Event()
    latest: PreviewEvent | None = None
    told = 0

    def note(happened: Event) -> None:
        nonlocal latest
        if isinstance(happened, PreviewEvent):
            latest = happened
            changed.set()

    work = asyncio.create_task(run(note))
    work.add_done_callback(lambda _: changed.set())
    try:
        while not work.done():
            await changed.wait()
            changed.clear()
            if latest is not None and latest.preview.step > told:
                shown, latest = latest.preview, None
                told = shown.step
                canvas = shown.body.get("canvas")
                await context.session.report_progress(told, shown.of, canvas if isinstance(canvas, str) else None)
        return work.result()
    finally:
        work.cancel()


def _refused(request: Request, error: PerfuseError) -> CallToolResult:
    problem = msgspec.json.encode(problem_of(error, exchange_of(request.scope).request_id))
    return CallToolResult(content=[_text(problem)], is_error=True)


def _text(content: bytes) -> TextContent:
    return TextContent(type="text", text=content.decode())

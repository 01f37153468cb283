"""Where MCP's messages go: loads the SDK with the first of them and keeps what serves them, which has no sessions."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
from importlib.util import find_spec
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perfuse.errors import NotInstalled, Unavailable

_SERVING = "perfuse.api.mcp.serving"


class Serving(Protocol):
    """What answers messages: the SDK's session manager."""

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        ...


class Endpoint:
    """The SDK, once somebody wants it. Used from one event loop."""

    def __init__(self) -> None:
        self._serving: asyncio.Future[Serving] | None = None
        self._task: asyncio.Task[None] | None = None

    async def serving(self) -> Serving:
        """What answers messages.

        Raises:
            NotInstalled: the SDK is not there.
        """
        if find_spec("mcp") is None:
            raise NotInstalled("MCP is not installed on this server", hint="pip install 'perfuse[mcp]' and restart")
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._serve(self._serving), context=contextvars.Context())
        return await asyncio.shield(self._serving)

    async def _serve(self, ready: asyncio.Future[Serving]) -> None:
        """Until the server ends. The import takes a second, in which others are answered."""
        try:
            serving = await asyncio.to_thread(importlib.import_module, _SERVING)
            manager = serving.manager()
            async with manager.run():
                ready.set_result(manager)
                await asyncio.Event().wait()
        finally:
            self._serving = None
            if not ready.done():
                ready.set_exception(Unavailable("MCP could not be loaded", hint="see the server's log"))


class Handed(Response):
    """An answer that the SDK writes."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self._to = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        await self._to.handle_request(scope, receive, send)

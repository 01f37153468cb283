"""GET / and its files: the console, one page for people. Open without a key; what it asks for needs one."""

from __future__ import annotations

import functools
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api import console
from perfuse.errors import NotFound

router = APIRouter(include_in_schema=False)

_FOLDER = Path(console.__path__[0])
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_NOT_MODIFIED = 304


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _asset(request, "index.html")


@router.get("/console/{name}")
async def asset(request: Request, name: str) -> Response:
    """A file of the page."""
    return _asset(request, name)


def _asset(request: Request, name: str) -> Response:
    """A file, or nothing where the client has it already: caches ask whether their copy still holds."""
    found = _files().get(name)
    if found is None:
        raise NotFound(f"the console has no file {name!r}", hint="it begins at /")
    content, tag = found
    headers = {**_HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(content, media_type=_KINDS[Path(name).suffix], headers=headers)


@functools.cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and tag of every file, by name. They are small and stay in memory."""
    contents = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _KINDS}
    return {name: (content, f'"{sha256(content).hexdigest()[:20]}"') for name, content in contents.items()}

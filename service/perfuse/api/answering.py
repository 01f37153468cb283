"""What /diffuse and /plan have in common: who asks, what for, and how the answer goes out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.auth import Principal
from perfuse.api.events import EventStream, Gone, Told, unless_gone
from perfuse.api.generate import Asked, Front, authorised, front_of, generate, read, wants_stream
from perfuse.api.middleware import exchange_of
from perfuse.api.schemas import DiffuseText, PlanTrajectory
from perfuse.errors import Overloaded
from perfuse.queue.ledger import Kind

JSON = "application/json"


class Answer(Response):
    """A JSON answer. Sets its two headers itself, as Starlette's merging takes as long as encoding the answer."""

    def __init__(self, content: bytes) -> None:
        self.status_code = 200
        self.background = None
        self.body = content
        self.raw_headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON.encode())]


async def admitted(request: Request) -> tuple[Front, Principal]:
    """The front and whom the request comes from, before its body is read. Raises Overloaded, among others."""
    principal = authorised(request, "generate")
    front = front_of(request)
    try:
        await front.pool.admit()
    except Overloaded:
        front.meter.shed("overloaded")
        raise
    return front, principal


async def answer(request: Request, kind: Kind, schema: type[DiffuseText | PlanTrajectory]) -> Response:
    """Generate what the body asks for.

    Args:
        request: not yet read.
        kind: which route this is.
        schema: what its body must be.

    Raises:
        PerfuseError: refused or failed.
    """
    front, principal = await admitted(request)
    body = await read(request, schema)
    asked = Asked(kind=kind, body=body, principal=principal, exchange=exchange_of(request.scope))
    if wants_stream(request, body):
        return EventStream(front.meter, asked, Told(front, asked))
    content = await unless_gone(generate(front, asked), request.scope, request.receive)
    if content is None:
        front.meter.client_gone(kind)
        return Gone()
    return Answer(content)

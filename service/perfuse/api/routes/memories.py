"""/memories: texts that are found again by their prompt. Durable when answered; each within its tenant."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse import orders
from perfuse.api.generate import authorised, read
from perfuse.api.idempotency import idempotency_key
from perfuse.api.learned import (
    DeletedAnswer,
    MemoriesAnswer,
    MemoryAnswer,
    MemoryBody,
    ReplaceMemoryBody,
    carried_out,
    described_page,
    page_of,
)
from perfuse.api.openapi import body, documented, json_answer

router = APIRouter(tags=["learn"])

_CREATED = 201


@router.post(
    "/memories", status_code=_CREATED, openapi_extra=documented(body(MemoryBody), json_answer(MemoryAnswer, _CREATED))
)
async def remember(request: Request) -> Response:
    """Keep a text."""
    tenant = authorised(request, "feedback").tenant
    said = await read(request, MemoryBody)
    key = idempotency_key(request, said.idempotency_key)
    order = orders.PutMemory(tenant=tenant, prompt=said.prompt, text=said.text, source=said.source, key=key)
    return await carried_out(request, order, _CREATED)


@router.put("/memories/{memory_id}", openapi_extra=documented(body(ReplaceMemoryBody), json_answer(MemoryAnswer)))
async def replace_memory(request: Request, memory_id: str) -> Response:
    """Put another text in the place of a memory."""
    tenant = authorised(request, "feedback").tenant
    said = await read(request, ReplaceMemoryBody)
    order = orders.PutMemory(tenant=tenant, prompt=said.prompt, text=said.text, source=said.source, memory=memory_id)
    return await carried_out(request, order)


@router.get("/memories", openapi_extra=documented(described_page(), json_answer(MemoriesAnswer)))
async def memories(request: Request) -> Response:
    """The memories of the tenant, a page at a time."""
    tenant = authorised(request, "generate").tenant
    page = page_of(request)
    order = orders.ListMemories(tenant=tenant, limit=page.limit, after=page.after)
    return await carried_out(request, order)


@router.get("/memories/{memory_id}", openapi_extra=documented(json_answer(MemoryAnswer)))
async def memory(request: Request, memory_id: str) -> Response:
    """One memory. Those of other tenants do not exist."""
    tenant = authorised(request, "generate").tenant
    return await carried_out(request, orders.GetMemory(tenant=tenant, memory=memory_id))


@router.delete("/memories/{memory_id}", openapi_extra=documented(json_answer(DeletedAnswer)))
async def forget(request: Request, memory_id: str) -> Response:
    """Forget a memory."""
    tenant = authorised(request, "feedback").tenant
    return await carried_out(request, orders.DeleteMemory(tenant=tenant, memory=memory_id))

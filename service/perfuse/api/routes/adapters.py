"""/adapters: what was learned, and which of it serves."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse import orders
from perfuse.api.generate import authorised, read
from perfuse.api.learned import (
    AdapterAnswer,
    AdaptersAnswer,
    PromoteBody,
    RollBackAnswer,
    RollBackBody,
    carried_out,
    has_body,
    optional_body,
)
from perfuse.api.openapi import body, documented, json_answer

router = APIRouter(tags=["learn"])


@router.get("/adapters", openapi_extra=documented(json_answer(AdaptersAnswer)))
async def adapters(request: Request) -> Response:
    """All adaptations of the tenant."""
    tenant = authorised(request, "generate").tenant
    return await carried_out(request, orders.ListAdaptations(tenant=tenant))


@router.get("/adapters/{adapter_id}", openapi_extra=documented(json_answer(AdapterAnswer)))
async def adapter(request: Request, adapter_id: str) -> Response:
    """One adaptation. Those of other tenants do not exist."""
    tenant = authorised(request, "generate").tenant
    return await carried_out(request, orders.ShowAdaptation(tenant=tenant, adaptation=adapter_id))


@router.post(
    "/adapters/{adapter_id}/promote",
    openapi_extra=documented(body(PromoteBody), optional_body(), json_answer(AdapterAnswer)),
)
async def promote(request: Request, adapter_id: str) -> Response:
    """Make a candidate or canary the champion of its cluster now; the next request is served by it."""
    tenant = authorised(request, "admin").tenant
    said = await read(request, PromoteBody) if has_body(request) else PromoteBody()
    order = orders.Promote(tenant=tenant, adaptation=adapter_id, force=said.force)
    return await carried_out(request, order)


@router.post(
    "/adapters/{adapter_id}/rollback",
    openapi_extra=documented(body(RollBackBody), optional_body(), json_answer(RollBackAnswer)),
)
async def rollback(request: Request, adapter_id: str) -> Response:
    """Take a champion or canary out of service; the champion before it, or the base model, serves the next request."""
    tenant = authorised(request, "admin").tenant
    if has_body(request):
        await read(request, RollBackBody)
    return await carried_out(request, orders.RollBack(tenant=tenant, adaptation=adapter_id))

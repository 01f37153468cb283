"""/evolution: how far learning has come; taking back, and training anew."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse import orders
from perfuse.api.generate import authorised, read
from perfuse.api.learned import (
    EvolutionAnswer,
    RebuildAnswer,
    RebuildBody,
    RevokeAnswer,
    RevokeBody,
    carried_out,
    has_body,
    optional_body,
)
from perfuse.api.openapi import body, documented, json_answer

router = APIRouter(tags=["learn"])


@router.get("/evolution", openapi_extra=documented(json_answer(EvolutionAnswer)))
async def evolution(request: Request) -> Response:
    """Feedback by state, clusters with what serves them, jobs and the inbox."""
    tenant = authorised(request, "generate").tenant
    return await carried_out(request, orders.Status(tenant=tenant))


@router.post("/evolution/revoke", openapi_extra=documented(body(RevokeBody), json_answer(RevokeAnswer)))
async def revoke(request: Request) -> Response:
    """Take back all that a source has given; what was learned from it leaves service before the answer comes."""
    tenant = authorised(request, "admin").tenant
    said = await read(request, RevokeBody)
    return await carried_out(request, orders.Revoke(tenant=tenant, source=said.source))


@router.post(
    "/evolution/rebuild",
    openapi_extra=documented(body(RebuildBody), optional_body(), json_answer(RebuildAnswer)),
)
async def rebuild(request: Request) -> Response:
    """Queue the training of a cluster, or of all, on all the feedback that counts."""
    tenant = authorised(request, "admin").tenant
    said = await read(request, RebuildBody) if has_body(request) else RebuildBody(cluster=None)
    return await carried_out(request, orders.Rebuild(tenant=tenant, cluster=said.cluster))

"""GET /generations/{id}: what was generated, while the ledger keeps it."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import JSON
from perfuse.api.generate import authorised, front_of, recorded
from perfuse.api.openapi import documented, json_answer
from perfuse.api.schemas import GenerationAnswer

router = APIRouter(tags=["generate"])


@router.get("/generations/{generation_id}", openapi_extra=documented(json_answer(GenerationAnswer)))
async def generation(request: Request, generation_id: str) -> Response:
    """The request as it was understood, and its result. Ids of other tenants do not exist."""
    principal = authorised(request, "generate")
    found = await recorded(front_of(request), generation_id, principal.tenant)
    shown = {
        "id": generation_id,
        "kind": found.kind,
        "created": found.created,
        "model": found.model,
        "seed": found.seed,
        "snapshot": found.snapshot,
        "request": found.request,
        "result": found.result,
    }
    return Response(msgspec.json.encode(shown), media_type=JSON)

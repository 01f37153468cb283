"""GET /models: what can be asked for."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import JSON
from perfuse.api.generate import authorised, front_of
from perfuse.api.openapi import documented, json_answer
from perfuse.api.schemas import ModelsAnswer

router = APIRouter(tags=["server"])


@router.get("/models", openapi_extra=documented(json_answer(ModelsAnswer)))
async def models(request: Request) -> Response:
    """The models that are loaded now."""
    authorised(request, "generate")
    return Response(msgspec.json.encode({"models": list(front_of(request).pool.models)}), media_type=JSON)

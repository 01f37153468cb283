"""POST /diffuse: fill, write."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import answer
from perfuse.api.openapi import body, documented, generation_answer, json_answer, stream_answer
from perfuse.api.schemas import DiffuseAnswer, DiffuseText

router = APIRouter(tags=["generate"])


@router.post(
    "/diffuse",
    openapi_extra=documented(body(DiffuseText), json_answer(DiffuseAnswer), stream_answer(), generation_answer()),
)
async def diffuse(request: Request) -> Response:
    """Fill text between a prefix and a suffix, or at the marks of a template, as a prompt says."""
    return await answer(request, "diffuse", DiffuseText)

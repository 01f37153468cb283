"""POST /plan: trajectories."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import answer
from perfuse.api.openapi import body, documented, generation_answer, json_answer, stream_answer
from perfuse.api.schemas import PlanAnswer, PlanTrajectory

router = APIRouter(tags=["generate"])


@router.post(
    "/plan",
    openapi_extra=documented(body(PlanTrajectory), json_answer(PlanAnswer), stream_answer(), generation_answer()),
)
async def plan(request: Request) -> Response:
    """Plan from a state to a goal; the best of several candidates comes back with a verdict."""
    return await answer(request, "plan", PlanTrajectory)

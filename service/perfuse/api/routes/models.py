"""GET /models: what can be asked for. Answers OpenAI's clients, too."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import JSON
from perfuse.api.generate import authorised, front_of
from perfuse.api.openapi import documented, json_answer
from perfuse.api.schemas import ListedModel, ModelsAnswer
from perfuse.errors import UnknownModel

router = APIRouter(tags=["server"])


@router.get("/models", openapi_extra=documented(json_answer(ModelsAnswer)))
async def models(request: Request) -> Response:
    """The models that are loaded now; `data` lists those that write text as OpenAI's clients expect it."""
    authorised(request, "generate")
    loaded = front_of(request).pool.models
    listed = [ListedModel(id=model.name) for model in loaded if model.modality == "text"]
    return Response(msgspec.json.encode({"object": "list", "models": list(loaded), "data": listed}), media_type=JSON)


@router.get("/models/{name}", openapi_extra=documented(json_answer(ListedModel)))
async def retrieve_model(request: Request, name: str) -> Response:
    """One text model, as OpenAI's clients ask for it."""
    authorised(request, "generate")
    for model in front_of(request).pool.models:
        if model.modality == "text" and name in (model.name, model.name.partition("@")[0]):
            return Response(msgspec.json.encode(ListedModel(id=model.name)), media_type=JSON)
    raise UnknownModel(f"no text model {name!r} is loaded", hint="see GET /models")

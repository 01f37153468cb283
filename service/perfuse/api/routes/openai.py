"""POST /completions and /chat/completions: the same generations as /diffuse, for clients of OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import Answer, admitted
from perfuse.api.events import EventStream, Gone, unless_gone
from perfuse.api.generate import Asked, received
from perfuse.api.middleware import exchange_of
from perfuse.api.openai.answers import ChatAnswer, Chunks, CompletionAnswer, Wanted, answer
from perfuse.api.openai.bodies import ChatBody, CompletionBody, parsed
from perfuse.api.openai.errors import ErrorAnswer
from perfuse.api.openapi import body, chunks_answer, documented, error_answer, json_answer

router = APIRouter(tags=["openai"])


@router.post(
    "/completions",
    openapi_extra=documented(
        body(CompletionBody), json_answer(CompletionAnswer), chunks_answer(), error_answer(ErrorAnswer)
    ),
)
async def create_completion(request: Request) -> Response:
    """Continue a prompt, or fill between prompt and suffix; OpenAI's body."""
    return await _answer(request, CompletionBody)


@router.post(
    "/chat/completions",
    openapi_extra=documented(body(ChatBody), json_answer(ChatAnswer), chunks_answer(), error_answer(ErrorAnswer)),
)
async def create_chat_completion(request: Request) -> Response:
    """Write what a conversation asks for; OpenAI's body."""
    return await _answer(request, ChatBody)


async def _answer(request: Request, kind: type[CompletionBody | ChatBody]) -> Response:
    front, principal = await admitted(request)
    said = parsed(await received(request), kind)
    asked = Asked(kind="diffuse", body=said.request(), principal=principal, exchange=exchange_of(request.scope))
    wanted = Wanted(front, asked, said)
    if said.stream:
        return EventStream(front.meter, asked, Chunks(wanted))
    content = await unless_gone(answer(wanted), request.scope, request.receive)
    if content is None:
        front.meter.client_gone(asked.kind)
        return Gone()
    return Answer(content)

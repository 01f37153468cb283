"""What the OpenAI face answers: whole, and chunk by chunk.

A stream carries the settled beginning of each fill: what was sent never changes. The last chunk of an output says why
it ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from perfuse import __version__
from perfuse.api.generate import Asked, Front, Generated, generated, joined, tail_of
from perfuse.api.openai import errors
from perfuse.api.openai.bodies import ChatBody, CompletionBody
from perfuse.api.schemas import TextOutcome, TimingMs
from perfuse.dispatch.pool import AcceptedEvent, Event, PreviewEvent
from perfuse.errors import GenerationFailed, PerfuseError
from perfuse.requests import Attribution, FinishReason, TextResult

_encode = msgspec.json.Encoder().encode

Finish = Literal["stop", "length"]
_FINISHES: dict[FinishReason, Finish] = {"complete": "stop", "syntax": "stop", "length": "length", "deadline": "length"}
_ACCEPTED = b": accepted\n\n"
_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens of what was given, and of all fills."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(slots=True, kw_only=True)
class Provenance:
    """Not OpenAI's: what /diffuse says of a generation. `recorded`: feedback can refer to the id."""

    seed: int
    snapshot: int
    restarts: int
    recorded: bool
    confidence: float
    attribution: tuple[Attribution, ...]
    timing_ms: TimingMs


@dataclass(slots=True, kw_only=True)
class CompletionChoice:
    """One output of a completion."""

    index: int
    text: str
    finish_reason: Finish
    logprobs: None = None


@dataclass(slots=True, kw_only=True)
class AssistantMessage:
    """What was written."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


@dataclass(slots=True, kw_only=True)
class ChatChoice:
    """One output of a chat completion."""

    index: int
    message: AssistantMessage
    finish_reason: Finish
    logprobs: None = None


@dataclass(kw_only=True)
class AnswerHead:
    """What both answers have. `id` is that of the generation: /feedback takes it."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    perfuse: Provenance


@dataclass(kw_only=True)
class CompletionAnswer(AnswerHead):
    """Answer of /completions."""

    choices: tuple[CompletionChoice, ...]


@dataclass(kw_only=True)
class ChatAnswer(AnswerHead):
    """Answer of /chat/completions."""

    choices: tuple[ChatChoice, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of this face."""

    front: Front
    asked: Asked
    body: CompletionBody | ChatBody

    @property
    def echoed(self) -> str:
        """What each text begins with."""
        return self.body.prompt if isinstance(self.body, CompletionBody) and self.body.echo else ""

    def mint(self) -> str:
        """A fresh id of a generation."""
        return self.front.minter.mint(self.asked.principal.tenant)


async def answer(wanted: Wanted) -> bytes:
    """The whole answer as JSON. Raises PerfuseError."""
    made = await generated(wanted.front, wanted.asked, wanted.mint())
    result = made.done.result
    assert isinstance(result, TextResult)
    chat = isinstance(wanted.body, ChatBody)
    head = AnswerHead(
        id=made.id,
        object="chat.completion" if chat else "text_completion",
        created=int(time.time()),
        model=result.model,
        system_fingerprint=_fingerprint(made.done.lsn),
        usage=_usage(result),
        perfuse=_provenance(made, wanted.asked),
    )
    choices = [
        _choice(chat, i, wanted.echoed + output.fill, _FINISHES[output.finish_reason])
        for i, output in enumerate(result.outputs)
    ]
    return joined(_encode(head), _encode({"choices": choices}))


def _choice(chat: bool, index: int, text: str, end: Finish) -> CompletionChoice | ChatChoice:
    if chat:
        return ChatChoice(index=index, message=AssistantMessage(content=text), finish_reason=end)
    return CompletionChoice(index=index, text=text, finish_reason=end)


def _usage(result: TextResult) -> Usage:
    filled = sum(output.tokens for output in result.outputs)
    return Usage(prompt_tokens=result.given_tokens, completion_tokens=filled, total_tokens=result.given_tokens + filled)


def _provenance(made: Generated, asked: Asked) -> Provenance:
    tail, outcome = tail_of(made, asked), made.outcome
    assert isinstance(outcome, TextOutcome)
    return Provenance(
        seed=tail.seed,
        snapshot=tail.snapshot,
        restarts=tail.restarts,
        recorded=tail.recorded,
        confidence=outcome.confidence,
        attribution=outcome.attribution,
        timing_ms=tail.timing_ms,
    )


def _fingerprint(snapshot: int) -> str:
    """What, with model and seed, decides the answer: the program and what it had learned."""
    return f"perfuse-{__version__}-{snapshot}"


class Chunks:
    """A generation as OpenAI's stream of chunks; see `perfuse.api.events.Telling`."""

    def __init__(self, wanted: Wanted) -> None:
        self.changed = asyncio.Event()
        self._wanted = wanted
        self._id = wanted.mint()
        self._created = int(time.time())
        self._chat = isinstance(wanted.body, ChatBody)
        self._model = _loaded(wanted)
        self._snapshot = 0
        self._sent = [""] * wanted.body.n
        self._waiting: list[bytes] = []
        self._settled: Sequence[str] | None = None

    async def run(self) -> bytes:
        """Generate, and give the last chunks. Raises PerfuseError."""
        made = await generated(self._wanted.front, self._wanted.asked, self._id, self._put)
        result = made.done.result
        assert isinstance(result, TextResult)
        last, self._waiting, self._settled = b"".join(self._waiting), [], None
        for index, output in enumerate(result.outputs):
            last += self._rest(index, self._wanted.echoed + output.fill)
            final = index == len(result.outputs) - 1
            more = {"perfuse": _provenance(made, self._wanted.asked)} if final else {}
            last += self._chunk([self._piece(index, {}, _FINISHES[output.finish_reason])], **more)
        if self._wanted.body.with_usage:
            last += self._chunk([], usage=_usage(result))
        return last + _DONE

    def take(self) -> tuple[bytes, bool]:
        """The chunks since the last look, and whether text is among them."""
        self.changed.clear()
        chunks, self._waiting = self._waiting, []
        settled, self._settled = self._settled, None
        told = False
        for index, fill in enumerate(settled or ()):
            text = self._wanted.echoed + fill
            if text.startswith(self._sent[index]) and len(text) > len(self._sent[index]):
                chunks.append(self._rest(index, text))
                told = True
        return b"".join(chunks), told

    def failure(self, error: PerfuseError) -> bytes:
        """The last event of a generation that failed on the way, which OpenAI's clients raise."""
        return b"data: " + errors.encoded(error, self._wanted.asked.exchange.kind) + b"\n\n"

    def _put(self, happened: Event) -> None:
        match happened:
            case AcceptedEvent():
                self._snapshot = happened.lsn
                self._waiting.append(_ACCEPTED)
                if self._chat:
                    begun: dict[str, object] = {"role": "assistant", "content": ""}
                    self._waiting += [self._chunk([self._piece(i, begun, None)]) for i in range(len(self._sent))]
            case PreviewEvent():
                self._settled = _texts(happened.preview.body.get("settled"))
            case _:
                self._settled = None
        self.changed.set()

    def _rest(self, index: int, text: str) -> bytes:
        """The chunk that makes what was sent of an output `text`; nothing if it is that."""
        sent, self._sent[index] = self._sent[index], text
        if not text.startswith(sent):
            raise GenerationFailed(
                "the engine died, and the request that ran again wrote something else", hint="send it again"
            )
        more = text[len(sent) :]
        return self._chunk([self._piece(index, {"content": more}, None)]) if more else b""

    def _piece(self, index: int, delta: dict[str, object], end: Finish | None) -> dict[str, object]:
        """One output's share of a chunk."""
        said = {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        return {"index": index, **said, "finish_reason": end, "logprobs": None}

    def _chunk(self, choices: list[dict[str, object]], **more: object) -> bytes:
        chunk: dict[str, object] = {
            "id": self._id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": _fingerprint(self._snapshot),
            "choices": choices,
        }
        if self._wanted.body.with_usage:
            chunk["usage"] = None
        return b"data: " + _encode({**chunk, **more}) + b"\n\n"


def _texts(value: object) -> list[str] | None:
    """What a preview says is settled, output by output."""
    return [str(text) for text in value] if isinstance(value, list) else None


def _loaded(wanted: Wanted) -> str:
    """The full name of the model that is asked for."""
    asked = wanted.body.model
    return next((one.name for one in wanted.front.pool.models if one.name.partition("@")[0] == asked), asked)

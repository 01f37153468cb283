"""What the OpenAI face takes, and the request of /diffuse that it becomes.

A field is either served, or accepted at the one value at which it changes nothing, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import msgspec
from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

from perfuse.api.problems import MalformedBody, invalid_fields, pointer_of
from perfuse.api.schemas import MAX_SEED, Body, DiffuseText, ModelName
from perfuse.errors import UnsupportedField

Neutral = Mapping[str, tuple[JsonValue, ...]]
"""Fields that are not served, with the values at which they ask for nothing."""
JsonSchema = dict[str, JsonValue]

_SAMPLING: Neutral = {
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "stop": ([],),
}
_COMPLETION: Neutral = {**_SAMPLING, "best_of": (1,)}
_CHAT: Neutral = {
    **_SAMPLING,
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True,),
    "functions": ([],),
    "function_call": ("none",),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
}


def _accepted(schema: JsonSchema, neutral: Neutral) -> None:
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name, values in neutral.items():
        properties[name] = {
            "enum": [*values, None],
            "description": "accepted at this value, at which it changes nothing",
        }


def _text(value: object) -> object:
    """A prompt may be a list of one text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    raise PydanticCustomError(
        "text", "expected a text, or a list of one text; lists of tokens or of several are not served"
    )


def _parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _without_nulls(value: object) -> object:
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


class StreamOptions(Body):
    """How a stream is told."""

    include_usage: bool = Field(default=False, description="count tokens in a last chunk")
    include_obfuscation: Literal[False] = False


class OpenAIBody(Body):
    """What both faces can say."""

    neutral: ClassVar[Neutral] = {}

    model: ModelName = Field(description="a name from /models")
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(None, description="most tokens of the fill")
    n: Annotated[int, Field(ge=1, le=64)] = Field(1, description="number of outputs")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="None: drawn and returned")
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = Field(
        0.0, description="0, which is the default here: the most likely"
    )
    adaptation: Annotated[str, Field(pattern=r"^(auto|none|ad_[0-9a-f]{32})$")] = Field(
        "auto", description="not OpenAI's: as in /diffuse"
    )

    @model_validator(mode="after")
    def _streamed(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options are for streams: `stream` is false")
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _request(self, **given: str | int | None) -> DiffuseText:
        same = {name: getattr(self, name) for name in ("model", "n", "seed", "temperature", "adaptation")}
        # What a stream has sent cannot be taken back, so nothing is written anew there.
        syntax = "check" if self.stream else "auto"
        return DiffuseText.model_validate({"modality": "text", "syntax": syntax, **same, **given})


class CompletionBody(OpenAIBody):
    """Continue `prompt`, up to `suffix` where there is one."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _accepted(schema, _COMPLETION))
    neutral: ClassVar[Neutral] = _COMPLETION

    prompt: Annotated[str, BeforeValidator(_text)] = Field("", description="text before the fill")
    suffix: str = Field("", description="text after the fill")
    instruction: str = Field("", description="not OpenAI's: what to write, in words")
    echo: bool = Field(default=False, description="return the prompt, too")

    def request(self) -> DiffuseText:
        """As /diffuse would be asked."""
        return self._request(prompt=self.instruction, prefix=self.prompt, suffix=self.suffix, length=self.max_tokens)


class TextPart(Body):
    """A part of a message; only texts are served."""

    type: Literal["text"]
    text: str


class Message(Body):
    """One turn of a conversation."""

    role: Literal["developer", "system", "user", "assistant"]
    content: Annotated[list[TextPart], BeforeValidator(_parts), Field(min_length=1)]

    _nulls = model_validator(mode="before")(_without_nulls)

    @property
    def text(self) -> str:
        """Its parts as one."""
        return "".join(part.text for part in self.content)


class ChatBody(OpenAIBody):
    """Write what the conversation asks for."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _accepted(schema, _CHAT))
    neutral: ClassVar[Neutral] = _CHAT

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(None, description="as max_tokens")

    @model_validator(mode="after")
    def _conversation(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise PydanticCustomError("conversation", "the last message must not be the assistant's")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise PydanticCustomError("lengths", "max_tokens and max_completion_tokens differ: send one of them")
        return self

    @property
    def prompt(self) -> str:
        """The texts of all messages, with an empty line between them; a single message is the prompt as it is."""
        return "\n\n".join(message.text for message in self.messages)

    def request(self) -> DiffuseText:
        """As /diffuse would be asked."""
        return self._request(prompt=self.prompt, length=self.max_tokens or self.max_completion_tokens)


BodyT = TypeVar("BodyT", bound=OpenAIBody)


def parsed(raw: bytes, kind: type[BodyT]) -> BodyT:
    """The body of a request; null is as if the field were not there.

    Raises:
        MalformedBody: it is not a JSON object.
        UnsupportedField: it asks for something that is not served.
        InvalidFields: a value is not allowed.
    """
    hint = "send one JSON object in UTF-8"
    try:
        given = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}", hint=hint) from None
    if not isinstance(given, dict):
        raise MalformedBody("the body is not a JSON object", hint=hint)
    served = {name: value for name, value in given.items() if value is not None and not _neutral(kind, name, value)}
    try:
        return kind.model_validate(served)
    except ValidationError as error:
        raise invalid_fields(error) from None


def _neutral(kind: type[OpenAIBody], name: str, value: JsonValue) -> bool:
    """Whether a field asks for nothing. Raises UnsupportedField if it asks for something that is not served."""
    if name in kind.model_fields:
        return False
    allowed = kind.neutral.get(name)
    if allowed is None:
        raise UnsupportedField(f"{name} is not supported here", field=pointer_of((name,)), hint="leave it out")
    if not any(isinstance(value, bool) == isinstance(each, bool) and value == each for each in allowed):
        shown = " or ".join(msgspec.json.encode(each).decode() for each in allowed)
        raise UnsupportedField(f"{name} is supported only as {shown}", field=pointer_of((name,)), hint="leave it out")
    return True

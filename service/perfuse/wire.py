"""What processes say to each other: length-prefixed msgpack frames over a unix socket or TCP.

A frame is a 4-byte big-endian length and one msgpack message; a message is a tagged array. Never pickle.
The engine speaks first with `Hello`; the front then submits. Requests are the records of `perfuse.requests`, carried
raw inside `Submit` so that a front can forward what it need not read.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from perfuse import errors
from perfuse.requests import (
    EmbedRequest,
    EmbedResult,
    Request,
    Result,
    ScoreRequest,
    ScoreResult,
    TextRequest,
    TextResult,
    TrajectoryRequest,
    TrajectoryResult,
)

PROTOCOL = 5
MAX_FRAME = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")

Served = Literal["text", "trajectory"]
"""What models are loaded for, and clients ask for."""
Modality = Literal["text", "trajectory", "embedding", "score"]
"""What an engine computes: also what the learning side reads from text models."""
_REQUESTS: dict[str, type[Request]] = {
    "text": TextRequest,
    "trajectory": TrajectoryRequest,
    "embedding": EmbedRequest,
    "score": ScoreRequest,
}
_RESULTS: dict[str, type[Result]] = {
    "text": TextResult,
    "trajectory": TrajectoryResult,
    "embedding": EmbedResult,
    "score": ScoreResult,
}


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class ModelInfo(msgspec.Struct, frozen=True):
    """A loaded model: `name@version`, what it does, its size and the most it takes."""

    name: str
    modality: Served
    parameters: int
    dtype: str
    limit: int
    """Longest canvas in tokens, or number of plan tokens."""


class Hello(Message, frozen=True):
    """First frame of an engine. `flight` is the path of its flight record (see engine.flight), "" if remote."""

    protocol: int
    build: str
    pid: int
    models: list[ModelInfo]
    backlog_limit: float
    """Seconds of work beyond which the engine refuses."""
    flight: str = ""


class Greet(Message, frozen=True):
    """Front → engine on another host, before anything else: the token that both know."""

    token: str


class Submit(Message, frozen=True):
    """Front → engine: run this request. `solo` asks for batches of this request alone (a suspect after a crash).

    `tenant` is whose request it is: it meets nothing that was learned from another's.
    """

    id: int
    modality: Modality
    request: msgspec.Raw
    priority: int = 0
    deadline_seconds: float | None = None
    """Remaining at sending."""
    previews: bool = False
    solo: bool = False
    tenant: str = ""


class Cancel(Message, frozen=True):
    """Front → engine: nobody waits for this request any more."""

    id: int


class PreviewSeen(Message, frozen=True):
    """Front → engine: the last preview was delivered, send the latest. At most one preview is under way per request."""

    id: int


class Accepted(Message, frozen=True):
    """Engine → front: admitted; a new request would now find `backlog` seconds of work in its way."""

    id: int
    backlog: float
    lsn: int
    """The store snapshot pinned for this request."""


class PreviewFrame(Message, frozen=True):
    """Engine → front: what can be shown at step `step` of about `of`."""

    id: int
    step: int
    of: int
    body: dict[str, object]


class Finished(Message, frozen=True):
    """Engine → front: the result record, raw, and where the time went (seconds)."""

    id: int
    modality: Modality
    result: msgspec.Raw
    queue_seconds: float
    compute_seconds: float


class Problem(Message, frozen=True):
    """Engine → front: the request failed or was refused."""

    id: int
    code: str
    detail: str
    field: str | None = None
    hint: str | None = None
    retry_after: float | None = None


class Heartbeat(Message, frozen=True):
    """Engine → front, every 0.25 s and on every admission change: the state of the compute thread."""

    last_step_age: float
    """Seconds since the compute thread last finished a step or was idle."""
    busy: bool
    backlog: float
    """Seconds of admitted work not yet done."""
    counters: dict[str, float]
    """Monotonic counters and gauges by metric name (see engine.meter)."""


class Drain(Message, frozen=True):
    """Supervisor/front → engine: take no new requests, finish what is admitted, then exit."""


FrontMessage = Greet | Submit | Cancel | PreviewSeen | Drain
EngineMessage = Hello | Accepted | PreviewFrame | Finished | Problem | Heartbeat

_encoder = msgspec.msgpack.Encoder()
_front_decoder: msgspec.msgpack.Decoder[FrontMessage] = msgspec.msgpack.Decoder(FrontMessage)
_engine_decoder: msgspec.msgpack.Decoder[EngineMessage] = msgspec.msgpack.Decoder(EngineMessage)


class PythonCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of the tested function: it returns `expected`, or raises what `raises` names."""

    args: list[object]
    expected: object = None
    raises: str | None = None


class PythonTests(msgspec.Struct, frozen=True, tag_field="kind", tag="python_tests"):
    """Verifies a text: as a Python module it defines `entry_point`, which does what the cases say."""

    entry_point: str
    cases: list[PythonCase]


class JsonSchema(msgspec.Struct, frozen=True, tag_field="kind", tag="json_schema"):
    """Verifies a text: it is JSON of this schema (the subset of keywords that the API admits)."""

    schema: dict[str, object]


class Installed(msgspec.Struct, frozen=True, tag_field="kind", tag="installed"):
    """Verifies a text by a function that another package brings (`perfuse.plugins`)."""

    name: str
    arguments: dict[str, object]


Verifier = PythonTests | JsonSchema | Installed
"""What judges a text."""


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True):
    """What the inbox holds, as JSON: a verdict on a generation, and all there is to know of that generation.

    The item's id is the inbox's. There is one of `reward`, `accepted`, `correction` and `outcome`, or a `verifier` with
    or without a `correction`.

    Attributes:
        received: Unix seconds.
        source: who says so, as the client names it.
        generation: the uuid inside the generation id; `kind` to `result` are its ledger record.
        generated: Unix seconds.
        snapshot: the store's sequence number that the request saw.
        adaptations: ids of those that took part in the answer.
        output: which of the outputs is meant, from 0.
        reward: from -1 to 1.
        correction: the text as it should have been, prefix and suffix included.
        outcome: what came of it, by name.
    """

    version: Literal[1] = 1
    received: float
    tenant: str
    source: str
    generation: str
    kind: Literal["diffuse", "plan"]
    model: str
    seed: int
    generated: float
    snapshot: int
    adaptations: tuple[str, ...]
    request: msgspec.Raw
    result: msgspec.Raw
    output: int
    reward: float | None = None
    accepted: bool | None = None
    correction: str | None = None
    outcome: dict[str, bool | int | float | str] | None = None
    verifier: Verifier | None = None


_item_encoder = msgspec.json.Encoder()
_item_decoder: msgspec.json.Decoder[FeedbackItem] = msgspec.json.Decoder(FeedbackItem)


def pack_feedback(item: FeedbackItem) -> bytes:
    """The item as the inbox holds it."""
    return _item_encoder.encode(item)


def unpack_feedback(data: bytes) -> FeedbackItem:
    """An item of the inbox. Raises msgspec.ValidationError on anything else, items of later versions included."""
    return _item_decoder.decode(data)


def frame(message: Message) -> bytes:
    """The message with its length in front."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frame bodies."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self.limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """Complete frame bodies contained in what has arrived so far.

        Raises:
            ValueError: a frame claims to be longer than the limit; the connection must be closed.
        """
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self.limit:
                msg = f"a frame of {length} bytes came; at most {self.limit} are allowed"
                raise ValueError(msg)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return bodies


def decode_front(body: bytes) -> FrontMessage:
    """A message a front sends. Raises msgspec.ValidationError on anything else."""
    return _front_decoder.decode(body)


def decode_engine(body: bytes) -> EngineMessage:
    """A message an engine sends. Raises msgspec.ValidationError on anything else."""
    return _engine_decoder.decode(body)


def pack(record: Request | Result) -> msgspec.Raw:
    """A request or result as raw msgpack."""
    return msgspec.Raw(_encoder.encode(record))


def unpack_request(modality: Modality, raw: msgspec.Raw) -> Request:
    """The request record of a `Submit`."""
    return msgspec.msgpack.decode(raw, type=_REQUESTS[modality])


def unpack_result(modality: Modality, raw: msgspec.Raw) -> Result:
    """The result record of a `Finished`."""
    return msgspec.msgpack.decode(raw, type=_RESULTS[modality])


def problem_of(identity: int, error: errors.PerfuseError) -> Problem:
    """The error as a message."""
    return Problem(
        id=identity,
        code=error.code,
        detail=error.detail,
        field=error.field,
        hint=error.hint,
        retry_after=error.retry_after,
    )


def error_of(problem: Problem) -> errors.PerfuseError:
    """The message as the error it was; codes this build does not know become GenerationFailed."""
    kind = error_classes().get(problem.code, errors.GenerationFailed)
    return kind(problem.detail, field=problem.field, hint=problem.hint, retry_after=problem.retry_after)


def error_classes() -> dict[str, type[errors.PerfuseError]]:
    """Every class of the tree that this process has imported, by the code it introduces."""
    found: dict[str, type[errors.PerfuseError]] = {}
    pending = [errors.PerfuseError]
    while pending:
        kind = pending.pop()
        if "code" in vars(kind):
            found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found

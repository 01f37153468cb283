"""What pipelines take and give: frozen records without behaviour, the same in a Python process and on the wire.

Plain dataclasses, so that the library works without the server's dependencies; `perfuse.wire` frames them with msgspec.
A pipeline's `estimate` validates them; HTTP schemas (`perfuse.api.schemas`) map onto them once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Sampler = Literal["auto", "verified", "entropy", "threshold", "low_confidence", "ancestral"]
FinishReason = Literal["complete", "deadline", "length", "syntax"]
PlanStatus = Literal["verified", "unverified", "infeasible", "timeout"]


AUTO = "auto"
"""`adaptation`: what was learned for requests like this one."""
NONE = "none"
"""`adaptation`: the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """Fill text: `prefix + fill + suffix`, conditioned on `prompt`.

    `template` (text with `<mask>` or `<mask:N>` marks) is another way to write prefix and suffix.
    `length` is the number of tokens the fill may take (model default if None), `steps` the most forwards (None: as
    many as the sampler wants), `temperature` 0 the most likely token, `guidance` the classifier-free scale (1 = off).
    `adaptation` is "auto" (what was learned for requests like this one), "none" (the base model), or an id.
    """

    prompt: str = ""
    prefix: str = ""
    suffix: str = ""
    template: str | None = None
    length: int | None = None
    language: str = "python"
    model: str | None = None
    sampler: Sampler = "auto"
    steps: int | None = None
    temperature: float = 0.0
    guidance: float = 1.0
    seed: int = 0
    n: int = 1
    adaptation: str = AUTO
    reproducible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOutput:
    """One filled text. `confidence` is the mean probability of the committed tokens, in [0, 1].

    `token_ids` is the whole span, `tokens` how many of them make up the fill.
    """

    text: str
    fill: str
    finish_reason: FinishReason
    confidence: float
    steps_done: int
    forwards: int
    token_ids: tuple[int, ...] = ()
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What was learned and took part in an answer.

    Attributes:
        id: of the adaptation.
        cluster: of the requests that it was learned for.
        state: what it is there: "canary", "champion", …
        distance: cosine distance of the request from the cluster's centre; None where it was asked for by id.
        weight: its share in the answer, in (0, 1].
        gain: accuracy it won at the gate on requests of its cluster; None where that was not measured.
        dataset: hash of the rows it was trained on.
    """

    id: str
    cluster: str
    state: str
    distance: float | None
    weight: float
    gain: float | None
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult:
    """The outputs of a text request, in the order asked for; empty `attribution`: the base model alone.

    `given_tokens` counts those of prompt, prefix and suffix.
    """

    model: str
    outputs: tuple[TextOutput, ...]
    attribution: tuple[Attribution, ...] = ()
    given_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Vectors of prompts, as requests are compared by; the base model computes them, and nothing is random."""

    prompts: tuple[str, ...]
    model: str | None = None
    seed: int = 0
    reproducible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedResult:
    """One vector per prompt: little-endian float32, whitened, of length 1. `embedder` is the hash of what made them."""

    model: str
    embedder: str
    vectors: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """How well `text` fills between `prefix` and `suffix` as `prompt` says; `adaptation` as in `TextRequest`."""

    prompt: str = ""
    prefix: str = ""
    suffix: str = ""
    text: str = ""
    model: str | None = None
    adaptation: str = NONE
    seed: int = 0
    reproducible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """`bits` is -log2 p of the `tokens` of the text, the null that ends it included, each after those before it."""

    model: str
    bits: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A position (x, y) in metres to be reached within `tolerance` metres."""

    position: tuple[float, ...]
    tolerance: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryRequest:
    """Plan a trajectory from `state` (x, y, vx, vy) to `goal` in a named environment."""

    environment: str
    state: tuple[float, ...]
    goal: Goal
    candidates: int = 16
    steps: int = 8
    model: str | None = None
    seed: int = 0
    reproducible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Dense states, one every `dt` seconds: [[x, y, vx, vy], …]."""

    dt: float
    states: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the verifier found on the returned trajectory. `arrival_step` counts steps of `dt`; None = never."""

    collision_free: bool
    arrival_step: int | None
    violations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """How many plans were drawn and how many of them the verifier accepted."""

    sampled: int
    valid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryResult:
    """The best candidate and the verdict on it."""

    model: str
    status: PlanStatus
    trajectory: Trajectory | None
    verification: Verification
    candidates: Candidates
    confidence: float
    steps_done: int
    engine: str = "diffusion"


Request = TextRequest | TrajectoryRequest | EmbedRequest | ScoreRequest
Result = TextResult | TrajectoryResult | EmbedResult | ScoreResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """An intermediate state of a running request: step `step` of about `of`, and what is visible so far."""

    step: int
    of: int
    body: dict[str, object] = field(default_factory=dict)

    @staticmethod
    def of_values(step: int, of: int, values: dict[str, object]) -> Preview:
        """The preview with callables among the values replaced by what they return."""
        return Preview(step=step, of=of, body={k: v() if callable(v) else v for k, v in values.items()})

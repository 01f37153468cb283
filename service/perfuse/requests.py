"""What pipelines take and give: frozen records without behaviour, the same in a Python process and on the wire.

Plain dataclasses, so that the library works without the server's dependencies; `perfuse.wire` frames them with msgspec.
A pipeline's `estimate` validates them; HTTP schemas (`perfuse.api.schemas`) map onto them once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["complete", "deadline", "length", "syntax"]
SyntaxMode = Literal["auto", "repair", "check", "off"]
"""`syntax` of a text request; "auto" repairs where the text that comes out is expected to parse."""
RefinedWidth = Literal["auto", "line", "around", "whole"]
"""How much of the code to be refined is written anew."""
PlanStatus = Literal["verified", "unverified", "infeasible", "timeout"]


AUTO = "auto"
"""`adaptation`: what was learned for requests like this one; `sampler`: the best one that keeps the steps asked for."""
NONE = "none"
"""`adaptation`: the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerOptions:
    """Constants of a sampler, each read by some (`perfuse.diffusion.samplers.OPTIONS`); None: the sampler's default.

    Attributes:
        window: masked tokens a step works on; of a fixed schedule the length of a block.
        bound: nats that a step of "entropy" commits, or that "verified" drafts.
        level: probability that is sure.
        low_level: probability below which "hierarchy" does not cut a run of masks.
        factor: how much doubt "factor" allows.
        edit_level: probability with which "editing" replaces a token.
        eta: how readily ReMDM takes tokens back.
        schedule: how a fixed schedule spends its steps: "cosine", "linear" or "log-linear".
        order_temperature: of the order in which tokens commit; 0: always the best.
        stop_entropy: mean nats below which everything in view is committed once it is stable.
    """

    window: int | None = None
    bound: float | None = None
    level: float | None = None
    low_level: float | None = None
    factor: float | None = None
    edit_level: float | None = None
    eta: float | None = None
    schedule: str | None = None
    order_temperature: float | None = None
    stop_entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """Code that is to be put right, and what went wrong with it.

    Attributes:
        code: the whole program.
        error: the traceback or the compiler's message, whole or its last line.
        width: what is written anew: "line" (the one that the error points to), "around" (two more on each side),
            "whole"; where the error points nowhere, all is. "auto": "whole".
    """

    code: str
    error: str
    width: RefinedWidth = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntaxProblem:
    """Why a text does not parse; `line` and `column` are of the whole text, from 1."""

    message: str
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """Fill text: `prefix + fill + suffix`, conditioned on `prompt`.

    `template` (text with `<mask>` or `<mask:N>` marks) is another way to write prefix and suffix.
    `length` is the number of tokens the fill may take (model default if None), `steps` the most forwards (None: as
    many as the sampler wants), `sampler` one of `perfuse.diffusion.samplers.RULES` or an installed one, `temperature`
    0 the most likely token, `guidance` the classifier-free scale (1 = off). `adaptation` is "auto" (what was learned
    for requests like this one), "none" (the base model), or an id. `guidance_ramp` is the share of the span over which
    the scale rises from 1 to `guidance`. The fill is JSON of `schema` (JSON Schema, as JSON), or matches `regex` from
    beginning to end, where one of them is given. `language` is said to the model and chooses the parser; `syntax` says
    what is done where the whole text does not parse. `refine` takes the place of prefix, suffix and template.
    """

    prompt: str = ""
    prefix: str = ""
    suffix: str = ""
    template: str | None = None
    length: int | None = None
    language: str = "python"
    model: str | None = None
    sampler: str = AUTO
    steps: int | None = None
    temperature: float = 0.0
    guidance: float = 1.0
    guidance_ramp: float = 0.0
    sampler_options: SamplerOptions = SamplerOptions()
    seed: int = 0
    n: int = 1
    adaptation: str = AUTO
    reproducible: bool = False
    schema: str | None = None
    regex: str | None = None
    syntax: SyntaxMode = "auto"
    refine: Refinement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How unusual an output is among those that were right when the model was calibrated; quantiles are in [0, 1).

    Attributes:
        confidence_quantile: how unsure the text is.
        novelty_quantile: how unlike known prompts the prompt is.
        combined: the greater of the two.
        p_value: share of right items as unusual as this one, itself included.
        threshold: of `combined`.
        novel: whether the novelty alone is beyond the threshold: data of this kind is missing.
        should_evolve: whether `combined` is.
        calibrated_on: what the comparison is with.
    """

    confidence_quantile: float
    novelty_quantile: float
    combined: float
    p_value: float
    threshold: float
    novel: bool
    should_evolve: bool
    calibrated_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOutput:
    """One filled text. `confidence` is the mean probability of the committed tokens, in [0, 1].

    `token_ids` is the whole span, `tokens` how many of them make up the fill. `syntax_error`: it was checked and does
    not parse; `finish_reason` then is "syntax" unless the fill did not come to its end. `p_correct` is the calibrated
    chance that the text does what was asked; it and `uncertainty` are None where the model has no calibration, or none
    that holds for the request. `doubt` is −Σ log p of the committed tokens, in nats: what calibrations are made of.
    """

    text: str
    fill: str
    finish_reason: FinishReason
    confidence: float
    steps_done: int
    forwards: int
    token_ids: tuple[int, ...] = ()
    tokens: int = 0
    syntax_error: SyntaxProblem | None = None
    p_correct: float | None = None
    uncertainty: Uncertainty | None = None
    doubt: float = 0.0


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

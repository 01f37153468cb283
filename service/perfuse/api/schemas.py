"""The bodies of HTTP requests and answers. Unknown fields are refused; every number has bounds.

Request bodies are pydantic models, validated straight from the bytes and mapped once onto the records of
`perfuse.requests`. Answers are plain dataclasses: msgspec writes them, pydantic only describes them in openapi.yaml.
Those of every request are not frozen, which would double the time it takes to make one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from perfuse.queue.ledger import Kind
from perfuse.requests import (
    AUTO,
    Attribution,
    Candidates,
    FinishReason,
    Goal,
    PlanStatus,
    RefinedWidth,
    Refinement,
    SamplerOptions,
    SyntaxMode,
    SyntaxProblem,
    TextRequest,
    TextResult,
    Trajectory,
    TrajectoryRequest,
    TrajectoryResult,
    Uncertainty,
    Verification,
)
from perfuse.wire import Served

MAX_SEED = 2**63 - 1
_MINTED_SEED_BITS = 53
"""Minted seeds are exact in JSON readers that know only doubles."""

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class Body(BaseModel):
    """What every request body is: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Common(Body):
    """What every generating request can say."""

    model: ModelName | None = Field(None, description="a name from /models; None: the default of the modality")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="None: drawn and returned")
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)] | None = Field(
        None, description="time after which the best result so far is returned"
    )
    priority: Annotated[int, Field(ge=-10, le=10)] = Field(0, description="higher is sooner")
    reproducible: bool = Field(
        default=False, description="same build, CPU kind, snapshot and seed give the same bytes in any company"
    )
    stream: bool = Field(default=False, description="answer with server-sent events")

    def drawn_seed(self) -> int:
        """The seed asked for, or a fresh one."""
        return secrets.randbits(_MINTED_SEED_BITS) if self.seed is None else self.seed


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SamplerConstants(Body):
    """Constants of a sampler; each is read by some samplers only, and refused by the others. None: the default."""

    window: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="masked tokens a step works on; the length of a block where the steps are fixed"
    )
    bound: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = Field(
        None, description="nats: entropy (a step), verified (a draft)"
    )
    level: Share | None = Field(None, description="probability that is sure: threshold, hierarchy, editing")
    low_level: Share | None = Field(None, description="probability below which hierarchy cuts no run of masks")
    factor: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = Field(
        None, description="how much doubt factor allows"
    )
    edit_level: Annotated[float, Field(ge=0.5, le=1)] | None = Field(
        None, description="probability with which editing replaces a token"
    )
    eta: Share | None = Field(None, description="how readily remdm_cap, _rescale and _loop take tokens back")
    schedule: Literal["cosine", "linear", "log-linear"] | None = Field(
        None, description="how samplers of fixed steps spend them"
    )
    order_temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="of the order in which low_confidence, margin and low_entropy commit"
    )
    stop_entropy: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="mean nats below which everything in view is committed once it is stable"
    )

    def record(self) -> SamplerOptions:
        """The engine's form."""
        return SamplerOptions(**self.model_dump())


class CodeToRefine(Body):
    """Code that does not do what it is to, and what went wrong with it."""

    code: Annotated[str, Field(min_length=1, max_length=65_536)] = Field(description="the whole program")
    error: Annotated[str, Field(min_length=1, max_length=65_536)] = Field(
        description="the traceback or the compiler's message, whole or its last line"
    )
    width: RefinedWidth = Field(
        "auto", description="what is written anew: the line that the error points to, two more around it, or all; auto"
    )

    def record(self) -> Refinement:
        """The engine's form."""
        return Refinement(code=self.code, error=self.error, width=self.width)


class DiffuseText(_Common):
    """Fill text between `prefix` and `suffix` (or at the marks of `template`), as `prompt` says."""

    served_as: ClassVar[Served] = "text"

    modality: Literal["text"]
    prompt: str = Field("", description="what to write, in words")
    prefix: str = Field("", description="text before the fill, returned unchanged")
    suffix: str = Field("", description="text after the fill, returned unchanged")
    template: str | None = Field(None, description="text with <mask> or <mask:N> marks, instead of prefix and suffix")
    length: Annotated[int, Field(ge=1, le=65_536)] | None = Field(None, description="most tokens of the fill")
    language: Annotated[str, Field(min_length=1, max_length=32)] = Field(
        "python",
        description="python, javascript, rust, c, shell, that of an installed parser, or text, which is not parsed",
    )
    sampler: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")] = Field(
        AUTO,
        description="auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, "
        "random, ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop, editing, or the name of an installed one",
    )
    sampler_options: SamplerConstants | None = Field(None, description="constants of the sampler; None: its defaults")
    steps: Annotated[int, Field(ge=1, le=4096)] | None = Field(None, description="most forwards")
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(0.0, description="0: most likely")
    guidance: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(1.0, description="1: off")
    guidance_ramp: Share = Field(0.0, description="share of the span over which guidance rises from 1; 0: at once")
    n: Annotated[int, Field(ge=1, le=64)] = Field(1, description="number of outputs")
    adaptation: Annotated[str, Field(pattern=r"^(auto|none|ad_[0-9a-f]{32})$")] = Field(
        AUTO, description="auto: what was learned for requests like this one; none: the base model; or an id"
    )

    schema_: dict[str, JsonValue] | None = Field(
        None, alias="schema", description="JSON Schema: the fill is JSON that is valid by it"
    )
    regex: Annotated[str, Field(min_length=1, max_length=8192)] | None = Field(
        None, description="pattern that the fill matches from beginning to end"
    )
    syntax: SyntaxMode = Field(
        "auto",
        description="where the whole text does not parse, repair (write the lines anew), check (say so) or off; "
        "auto: repair where it is expected to parse",
    )
    refine: CodeToRefine | None = Field(
        None, description="code to be put right, instead of prefix, suffix and template"
    )

    def record(self, seed: int) -> TextRequest:
        """The engine's request."""
        return TextRequest(
            prompt=self.prompt,
            prefix=self.prefix,
            suffix=self.suffix,
            template=self.template,
            length=self.length,
            language=self.language,
            model=self.model,
            sampler=self.sampler,
            steps=self.steps,
            temperature=self.temperature,
            guidance=self.guidance,
            guidance_ramp=self.guidance_ramp,
            sampler_options=SamplerOptions() if self.sampler_options is None else self.sampler_options.record(),
            seed=seed,
            n=self.n,
            adaptation=self.adaptation,
            reproducible=self.reproducible,
            schema=None if self.schema_ is None else msgspec.json.encode(self.schema_).decode(),
            regex=self.regex,
            syntax=self.syntax,
            refine=None if self.refine is None else self.refine.record(),
        )


class PlanGoal(Body):
    """A position to be reached."""

    position: Annotated[list[Coordinate], Field(min_length=2, max_length=2)] = Field(description="x, y in metres")
    tolerance: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = Field(0.5, description="metres")


class PlanTrajectory(_Common):
    """Plan a trajectory from `state` to `goal`."""

    served_as: ClassVar[Served] = "trajectory"

    domain: Literal["trajectory"]
    environment: Annotated[str, Field(min_length=1, max_length=200)]
    state: Annotated[list[Coordinate], Field(min_length=4, max_length=4)] = Field(description="x, y, vx, vy")
    goal: PlanGoal
    candidates: Annotated[int, Field(ge=1, le=256)] = Field(16, description="plans drawn")
    steps: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="denoising steps")

    def record(self, seed: int) -> TrajectoryRequest:
        """The engine's request."""
        return TrajectoryRequest(
            environment=self.environment,
            state=tuple(self.state),
            goal=Goal(position=tuple(self.goal.position), tolerance=self.goal.tolerance),
            candidates=self.candidates,
            steps=self.steps,
            model=self.model,
            seed=seed,
            reproducible=self.reproducible,
        )


@dataclass(slots=True, kw_only=True)
class TimingMs:
    """Milliseconds waited for a first step, spent computing, and between request and answer."""

    queue: float
    compute: float
    total: float


@dataclass(slots=True, kw_only=True)
class FilledText:
    """One output: `text` is prefix + `fill` + suffix.

    `syntax_error`: `text` was checked and does not parse; null: it parses, or was not checked.
    `confidence` is the mean probability of its tokens, `p_correct` the calibrated chance that it does what was asked;
    null, as `uncertainty`, where the model has no calibration or none that holds for the request.
    """

    text: str
    fill: str
    finish_reason: FinishReason
    confidence: float
    steps_done: int
    forwards: int
    p_correct: float | None
    uncertainty: Uncertainty | None
    syntax_error: SyntaxProblem | None = None


@dataclass(kw_only=True)
class TextOutcome:
    """What was generated. `confidence` is the mean over the outputs, `steps_done` the most of any.

    `attribution` names what was learned and took part; empty: the base model alone.
    """

    outputs: tuple[FilledText, ...]
    confidence: float
    steps_done: int
    attribution: tuple[Attribution, ...]

    @classmethod
    def of(cls, result: TextResult) -> TextOutcome:
        """The part of a result that clients see."""
        outputs = tuple(
            FilledText(
                text=output.text,
                fill=output.fill,
                finish_reason=output.finish_reason,
                confidence=output.confidence,
                steps_done=output.steps_done,
                forwards=output.forwards,
                syntax_error=output.syntax_error,
                p_correct=output.p_correct,
                uncertainty=output.uncertainty,
            )
            for output in result.outputs
        )
        return cls(
            outputs=outputs,
            confidence=sum(output.confidence for output in outputs) / max(1, len(outputs)),
            steps_done=max((output.steps_done for output in outputs), default=0),
            attribution=result.attribution,
        )


@dataclass(kw_only=True)
class PlanOutcome:
    """The best candidate and the verdict on it."""

    status: PlanStatus
    engine: str
    trajectory: Trajectory | None
    verification: Verification
    candidates: Candidates
    confidence: float
    steps_done: int

    @classmethod
    def of(cls, result: TrajectoryResult) -> PlanOutcome:
        """The part of a result that clients see."""
        return cls(
            status=result.status,
            engine=result.engine,
            trajectory=result.trajectory,
            verification=result.verification,
            candidates=result.candidates,
            confidence=result.confidence,
            steps_done=result.steps_done,
        )


@dataclass(kw_only=True)
class Head:
    """How every answer begins."""

    id: str
    model: str


@dataclass(kw_only=True)
class Tail:
    """How every answer ends. `recorded` says whether feedback can refer to the id, `snapshot` what the store held."""

    seed: int
    snapshot: int
    restarts: int
    recorded: bool
    timing_ms: TimingMs


@dataclass(kw_only=True)
class DiffuseAnswer(Tail, TextOutcome, Head):
    """Answer of /diffuse."""


@dataclass(kw_only=True)
class PlanAnswer(Tail, PlanOutcome, Head):
    """Answer of /plan."""


@dataclass(frozen=True, kw_only=True)
class GenerationAnswer:
    """Answer of /generations/{id}: the request as understood, and what came out."""

    id: str
    kind: Kind
    created: float
    model: str
    seed: int
    snapshot: int
    request: dict[str, object]
    result: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class FeedbackAnswer:
    """Answer of /feedback: it is kept durably."""

    feedback_id: str


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """One served model; `limit` is the longest canvas in tokens, or the number of plan tokens."""

    name: str
    modality: Served
    parameters: int
    dtype: str
    limit: int


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A text model as OpenAI's clients list it. When it was made is not known."""

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["perfuse"] = "perfuse"


@dataclass(frozen=True, kw_only=True)
class ModelsAnswer:
    """Answer of /models: all models, and for OpenAI's clients in `data` those that write text."""

    models: tuple[ModelAnswer, ...]
    data: tuple[ListedModel, ...]
    object: Literal["list"] = "list"


@dataclass(frozen=True, kw_only=True)
class StatusAnswer:
    """Answer of /livez and /readyz."""

    status: Literal["alive", "ready"]
    ledger: str | None = None
    inbox: str | None = None


@dataclass(frozen=True, kw_only=True)
class VersionAnswer:
    """Answer of /version."""

    version: str
    protocol: int


@dataclass(frozen=True, kw_only=True)
class ProblemKindAnswer:
    """Answer of /problems/{code}, where the `type` of a problem points."""

    code: str
    title: str
    status: int
    meaning: str

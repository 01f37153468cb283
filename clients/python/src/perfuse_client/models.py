"""What answers and nested fields are made of.

Written by clients/generate.py out of openapi.yaml; do not edit.
"""

from __future__ import annotations

from typing import Annotated, Literal, Optional

from pydantic import ConfigDict, Field

from perfuse_client.record import Record


class AdapterAnswer(Record):
    """Answer of /adapters/{id}: what it was made of, and what the gate measured."""

    id: str
    cluster: str
    kind: Literal["lora"] = "lora"
    state: Literal["candidate", "canary", "champion", "retired", "rejected"]
    reason: str
    outcome: Optional[Literal["promote", "reject", "unproven"]]
    feedback: int
    created: float
    changed: float
    base: str
    parent: Optional[str]
    blob: str
    embedder: str
    dataset: str
    feedback_ids: list[str]
    sources: list[str]
    seed: int
    radius: float
    config: dict[str, object]
    report: Optional[dict[str, object]]


class AdapterBrief(Record):
    """An adaptation: `outcome` is the gate's, null before it; `feedback` is how many items it was trained on."""

    id: str
    cluster: str
    kind: Literal["lora"] = "lora"
    state: Literal["candidate", "canary", "champion", "retired", "rejected"]
    reason: str
    outcome: Optional[Literal["promote", "reject", "unproven"]]
    feedback: int
    created: float
    changed: float


class AdaptersAnswer(Record):
    """Answer of /adapters, the latest first."""

    adapters: list[AdapterBrief]


class Attribution(Record):
    """
    What was learned and took part in an answer.

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
    distance: Optional[float]
    weight: float
    gain: Optional[float]
    dataset: str


class Candidates(Record):
    """How many plans were drawn and how many of them the verifier accepted."""

    sampled: int
    valid: int


class CodeToRefine(Record):
    """Code that does not do what it is to, and what went wrong with it."""

    model_config = ConfigDict(
        extra="forbid",
    )
    code: str
    """the whole program"""
    error: str
    """the traceback or the compiler's message, whole or its last line"""
    width: Literal["auto", "line", "around", "whole"] = "auto"
    """what is written anew: the line that the error points to, two more around it, or all; auto"""


class DeletedAnswer(Record):
    """What is gone."""

    deleted: str


class FeedbackAnswer(Record):
    """Answer of /feedback: it is kept durably."""

    feedback_id: str


class GateAnswer(Record):
    """What the gate decided last in a cluster; `gain` is the change in accuracy."""

    adaptation: str
    state: Literal["candidate", "canary", "champion", "retired", "rejected"]
    outcome: Optional[Literal["promote", "reject", "unproven"]]
    gain: Optional[float]
    p_value: Optional[float]
    reasons: list[str]


class GenerationAnswer(Record):
    """Answer of /generations/{id}: the request as understood, and what came out."""

    id: str
    kind: Literal["diffuse", "plan"]
    created: float
    model: str
    seed: int
    snapshot: int
    request: dict[str, object]
    result: dict[str, object]


class JobAnswer(Record):
    """A training."""

    id: str
    cluster: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    reason: str
    feedback: int
    attempt: int
    adaptation: Optional[str]
    created: float
    changed: float


class ListedModel(Record):
    """A text model as OpenAI's clients list it. When it was made is not known."""

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["perfuse"] = "perfuse"


class MemoryAnswer(Record):
    """A memory; `generation` is the generation it was made of, if any."""

    id: str
    prompt: str
    text: str
    source: str
    generation: Optional[str]
    created: float


class ModelAnswer(Record):
    """One served model; `limit` is the longest canvas in tokens, or the number of plan tokens."""

    name: str
    modality: Literal["text", "trajectory"]
    parameters: int
    dtype: str
    limit: int


class ModelsAnswer(Record):
    """Answer of /models: all models, and for OpenAI's clients in `data` those that write text."""

    models: list[ModelAnswer]
    data: list[ListedModel]
    object: Literal["list"] = "list"


class PlanGoal(Record):
    """A position to be reached."""

    model_config = ConfigDict(
        extra="forbid",
    )
    position: list[float]
    """x, y in metres"""
    tolerance: float = 0.5
    """metres"""


class ProblemKindAnswer(Record):
    """Answer of /problems/{code}, where the `type` of a problem points."""

    code: str
    title: str
    status: int
    meaning: str


class RebuildAnswer(Record):
    """Ids of the jobs that were queued, or are under way already."""

    jobs: list[str]


class RevokeAnswer(Record):
    """What left: ids of adaptations and of jobs under way, numbers of the rest. `jobs` train again on what is left."""

    jobs: list[str]
    retired: list[str]
    cancelled: list[str]
    feedback: int
    memories: int


class RollBackAnswer(Record):
    """What serves the cluster now; null is the base model."""

    cluster: str
    champion: Optional[str]
    previous: Optional[str]
    canary: Optional[str]
    share: float


class SamplerConstants(Record):
    """Constants of a sampler; each is read by some samplers only, and refused by the others. None: the default."""

    model_config = ConfigDict(
        extra="forbid",
    )
    window: Optional[int] = None
    """masked tokens a step works on; the length of a block where the steps are fixed"""
    bound: Optional[float] = None
    """nats: entropy (a step), verified (a draft)"""
    level: Optional[float] = None
    """probability that is sure: threshold, hierarchy, editing"""
    low_level: Optional[float] = None
    """probability below which hierarchy cuts no run of masks"""
    factor: Optional[float] = None
    """how much doubt factor allows"""
    edit_level: Optional[float] = None
    """probability with which editing replaces a token"""
    eta: Optional[float] = None
    """how readily remdm_cap, _rescale and _loop take tokens back"""
    schedule: Optional[Literal["cosine", "linear", "log-linear"]] = None
    """how samplers of fixed steps spend them"""
    order_temperature: Optional[float] = None
    """of the order in which low_confidence, margin and low_entropy commit"""
    stop_entropy: Optional[float] = None
    """mean nats below which everything in view is committed once it is stable"""


class StatusAnswer(Record):
    """Answer of /livez and /readyz."""

    status: Literal["alive", "ready"]
    ledger: Optional[str] = None
    inbox: Optional[str] = None


class SyntaxProblem(Record):
    """Why a text does not parse; `line` and `column` are of the whole text, from 1."""

    message: str
    line: int
    column: int


class TimingMs(Record):
    """Milliseconds waited for a first step, spent computing, and between request and answer."""

    queue: float
    compute: float
    total: float


class Trajectory(Record):
    """Dense states, one every `dt` seconds: [[x, y, vx, vy], …]."""

    dt: float
    states: list[list[float]]


class Uncertainty(Record):
    """
    How unusual an output is among those that were right when the model was calibrated; quantiles are in [0, 1).

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


class Verification(Record):
    """What the verifier found on the returned trajectory. `arrival_step` counts steps of `dt`; None = never."""

    collision_free: bool
    arrival_step: Optional[int]
    violations: list[str] = []


class VersionAnswer(Record):
    """Answer of /version."""

    version: str
    protocol: int


class CaseBody(Record):
    """One call of `entry_point` and what must come of it: `expected` or `raises`."""

    model_config = ConfigDict(
        extra="forbid",
    )
    args: list[object]
    expected: object = None
    """the value to be returned"""
    raises: Optional[str] = None
    """the exception to be raised instead, or a base class of it"""


class ClusterAnswer(Record):
    """Requests that belong together; `size` is how many items of feedback about them can be learned from."""

    cluster: str
    size: int
    champion: Optional[str]
    canary: Optional[str]
    share: float
    last_gate: Optional[GateAnswer]


class EvolutionAnswer(Record):
    """Answer of GET /evolution: `feedback` by state, `stage` of the job under way."""

    inbox: dict[str, object]
    feedback: dict[str, int]
    clusters: list[ClusterAnswer]
    jobs: list[JobAnswer]
    stage: str


class FilledText(Record):
    """
    One output: `text` is prefix + `fill` + suffix.

    `syntax_error`: `text` was checked and does not parse; null: it parses, or was not checked.
    `confidence` is the mean probability of its tokens, `p_correct` the calibrated chance that it does what was
    asked;
    null, as `uncertainty`, where the model has no calibration or none that holds for the request.
    """

    text: str
    fill: str
    finish_reason: Literal["complete", "deadline", "length", "syntax"]
    confidence: float
    steps_done: int
    forwards: int
    p_correct: Optional[float]
    uncertainty: Optional[Uncertainty]
    syntax_error: Optional[SyntaxProblem] = None


class InstalledBody(Record):
    """A verifier that is installed on the server, by its name."""

    model_config = ConfigDict(
        extra="forbid",
    )
    kind: Literal["installed"] = "installed"
    name: str
    arguments: Optional[dict[str, object]] = None
    """what it is told beside the output"""


class JsonSchemaBody(Record):
    """A schema for the output as JSON."""

    model_config = ConfigDict(
        extra="forbid",
    )
    kind: Literal["json_schema"] = "json_schema"
    schema_: Annotated[dict[str, object], Field(alias="schema")]
    """
    keywords: additionalProperties, const, description, enum, exclusiveMaximum, exclusiveMinimum, items, maxItems,
    maxLength, maximum, minItems, minLength, minimum, properties, required, title, type
    """


class MemoriesAnswer(Record):
    """Answer of /memories, by id; `next` is what `after` has to be for more, null at the end."""

    memories: list[MemoryAnswer]
    next: Optional[str]


class PlanAnswer(Record):
    """Answer of /plan."""

    id: str
    model: str
    status: Literal["verified", "unverified", "infeasible", "timeout"]
    engine: str
    trajectory: Optional[Trajectory]
    verification: Verification
    candidates: Candidates
    confidence: float
    steps_done: int
    seed: int
    snapshot: int
    restarts: int
    recorded: bool
    timing_ms: TimingMs


class PythonTestsBody(Record):
    """Tests of the output as a Python module, run in the jail."""

    model_config = ConfigDict(
        extra="forbid",
    )
    kind: Literal["python_tests"] = "python_tests"
    entry_point: str
    """the function to call"""
    cases: list[CaseBody]


class DiffuseAnswer(Record):
    """Answer of /diffuse."""

    id: str
    model: str
    outputs: list[FilledText]
    confidence: float
    steps_done: int
    attribution: list[Attribution]
    seed: int
    snapshot: int
    restarts: int
    recorded: bool
    timing_ms: TimingMs

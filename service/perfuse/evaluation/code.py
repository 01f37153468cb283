"""Measures `code-small` on held-out combinations: executed tests, Wilson intervals, baselines beside it."""

from __future__ import annotations

import ast
import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

import msgspec

from perfuse.evaluation.intervals import wilson
from perfuse.evaluation.load import serving, storm
from perfuse.evaluation.neighbours import NearestSentence
from perfuse.evaluation.twin import complete
from perfuse.models.text import LoadedText, load_text, untrained_text
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import DRAFT_BOUND, ENTROPY_BOUND, TextModel, TextPipeline
from perfuse.requests import TextOutput, TextRequest
from perfuse.training.corpus.tasks import Task, held_out_tasks, training_tasks
from perfuse.training.examples import cut, restyle
from perfuse.training.judging import passes

log = logging.getLogger(__name__)
PRETRAINED = Path(__file__).parent.parent / "pretrained"
TASKS = 550
NEIGHBOURS = 200_000
"""Training sentences the retrieval baseline may choose from."""
UNTRAINED = 100
"""Tasks of the untrained row: it needs most forwards and passes nothing."""

Fill = Callable[[TextRequest], TextOutput]
"""Whoever answers text requests: a pipeline in this process, or a server."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was produced for a task, and at what cost."""

    task: Task
    text: str
    forwards: int


@dataclass(frozen=True, slots=True)
class Rate:
    """How often it passed, of n, with the mean number of forwards."""

    passed: int
    n: int
    forwards: float

    def as_json(self) -> dict[str, object]:
        """The rate with its 95 % Wilson interval, rounded for print."""
        low, high = wilson(self.passed, self.n)
        return {
            "pass_at_1": round(self.passed / max(self.n, 1), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": self.n,
            "mean_forwards": round(self.forwards, 2),
        }


def in_process(
    model: LoadedText, *, window: int | None = None, bound: float = ENTROPY_BOUND, draft_bound: float = DRAFT_BOUND
) -> Fill:
    """Answers requests with the pipeline that the server runs."""
    served = TextModel(model.network, model.tokenizer, model.config.limit, model.config.length)
    pipeline = TextPipeline({model.config.name: served}, window=window, bound=bound, draft_bound=draft_bound)

    def fill(request: TextRequest) -> TextOutput:
        return run_alone(pipeline, request, run=AloneRun(request.seed)).outputs[0]

    return fill


def over_http(model: Path, requests: Sequence[TextRequest]) -> list[TextOutput]:
    """Answers of a server with this model, asked by eight clients at once."""
    bodies = [
        {"modality": "text", "prompt": r.prompt, "prefix": r.prefix, "suffix": r.suffix, "seed": r.seed}
        for r in requests
    ]
    flags = ("--model", str(model), "--max-backlog-seconds", "600")
    with (
        tempfile.TemporaryDirectory(prefix="perfuse-eval-") as folder,
        serving(Path(folder) / "data", *flags) as server,
    ):
        asyncio.run(server.ready())
        answers = asyncio.run(storm(server.port, "/diffuse", bodies, 8))
    return [msgspec.convert(answer.json(), _Answer).outputs[0] for answer in answers]


class _Answer(msgspec.Struct):
    """The part of an HTTP answer that is judged; raises msgspec.ValidationError on a problem."""

    outputs: list[TextOutput]


def keeps_both_sides(gap: Gap, output: TextOutput) -> bool:
    """Whether prefix and suffix came back byte for byte, with the fill between them."""
    text, prefix, suffix = (part.encode() for part in (output.text, gap.prefix, gap.suffix))
    inner = text[len(prefix) : len(text) - len(suffix)]
    return text.startswith(prefix) and text.endswith(suffix) and inner == output.fill.encode()


def judge(attempts: Sequence[Attempt]) -> list[bool]:
    """Whether each attempt passes its task's tests, executed in the jail only.

    Raises:
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    return passes([attempt.task for attempt in attempts], [attempt.text for attempt in attempts])


def rate(attempts: Sequence[Attempt]) -> Rate:
    """Pass rate and mean forwards of judged attempts."""
    passed = sum(judge(attempts))
    return Rate(passed, len(attempts), sum(a.forwards for a in attempts) / max(len(attempts), 1))


def attempt_all(fill: Fill, tasks: Sequence[Task], request: TextRequest) -> list[Attempt]:
    """One attempt per task from its sentence alone; `request` gives everything but the prompt."""
    attempts = []
    for done, task in enumerate(tasks):
        output = fill(replace(request, prompt=task.prompt))
        attempts.append(Attempt(task, output.text, output.forwards))
        if (done + 1) % 50 == 0:
            log.info("%d of %d tasks", done + 1, len(tasks))
    return attempts


def nearest(tasks: Sequence[Task], training: int = NEIGHBOURS) -> list[Attempt]:
    """For each task the code of the training task whose sentence is most like its own, under the asked-for name."""
    known = list(islice(training_tasks(Random("neighbours")), training))
    index = NearestSentence([task.prompt for task in known])
    attempts = []
    for task in tasks:
        found = known[index.find(task.prompt)]
        renamed = found.code.replace(f"def {found.entry_point}(", f"def {task.entry_point}(", 1)
        attempts.append(Attempt(task, renamed, 0))
    return attempts


def parses(text: str) -> bool:
    """Whether `text` is a Python module."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def evaluate_code(
    model: Path = PRETRAINED / "code-small",
    twin: Path = PRETRAINED / "code-small-ar",
    *,
    tasks: int = TASKS,
    baselines: bool = True,
) -> dict[str, object]:
    """`perfuse eval code`: pass@1 on held-out combinations with the default sampler, and five rows beside it.

    Raises:
        CheckpointError: a model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    loaded = load_text(model)
    chosen = held_out_tasks(tasks)
    fill = in_process(loaded)
    attempts = attempt_all(fill, chosen, TextRequest())
    found = rate(attempts).as_json()
    found["syntax_valid"] = round(sum(parses(a.text) for a in attempts) / len(attempts), 4)
    found["baselines"] = code_baselines(loaded, twin, chosen) if baselines else {}
    return found


def code_baselines(loaded: LoadedText, twin: Path, tasks: Sequence[Task]) -> Mapping[str, object]:
    """The rows beside the result."""
    one_by_one = TextRequest(sampler="low_confidence")
    causal = load_text(twin)
    texts = complete(causal, [task.prompt for task in tasks])
    return {
        "entropy_bounded": rate(attempt_all(in_process(loaded), tasks, TextRequest(sampler="entropy"))).as_json(),
        "one_token_per_step": rate(attempt_all(in_process(loaded), tasks, one_by_one)).as_json(),
        "untrained": rate(
            attempt_all(in_process(untrained_text(loaded.config, loaded.tokenizer)), tasks[:UNTRAINED], TextRequest())
        ).as_json(),
        "nearest_neighbour": rate(nearest(tasks)).as_json(),
        "ar_twin": rate([Attempt(task, text, n) for task, (text, n) in zip(tasks, texts, strict=True)]).as_json(),
    }


@dataclass(frozen=True, slots=True)
class Gap:
    """A held-out function with a span cut out; the sentence is shown or not."""

    task: Task
    prompt: str
    prefix: str
    suffix: str


def gaps(tasks: Sequence[Task]) -> list[Gap]:
    """One gap per task: a style (comments with emoji, tabs, CRLF), two cuts anywhere, the sentence for every second."""
    rng = Random("gaps")
    found = []
    for i, task in enumerate(tasks):
        prefix, _, suffix = cut(restyle(task.code, rng), rng)
        found.append(Gap(task, task.prompt if i % 2 == 0 else "", prefix, suffix))
    return found


def evaluate_infill(
    model: Path = PRETRAINED / "code-small", *, tasks: int = TASKS, fill: Fill | None = None
) -> dict[str, object]:
    """`perfuse eval infill`: pass rate with the suffix shown and withheld, and identity of prefix and suffix.

    A withheld suffix is appended to the answer before the tests run. A server with this model is started and asked over
    HTTP, unless `fill` answers.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    cut_up = gaps(held_out_tasks(tasks))
    requests = [TextRequest(prompt=gap.prompt, prefix=gap.prefix, suffix=gap.suffix) for gap in cut_up]
    blind_requests = [replace(request, suffix="") for request in requests]
    if fill is not None:
        answers = [fill(request) for request in [*requests, *blind_requests]]
    else:
        answers = over_http(model, [*requests, *blind_requests])
    seeing, blind = answers[: len(requests)], answers[len(requests) :]
    identical = sum(map(keeps_both_sides, cut_up, seeing))
    shown = [Attempt(gap.task, output.text, output.forwards) for gap, output in zip(cut_up, seeing, strict=True)]
    withheld = [
        Attempt(gap.task, output.text + gap.suffix, output.forwards) for gap, output in zip(cut_up, blind, strict=True)
    ]
    told = slice(0, None, 2), slice(1, None, 2)
    return {
        "identical": round(identical / len(shown), 4),
        "with_suffix": rate(shown).as_json(),
        "suffix_withheld": rate(withheld).as_json(),
        "with_sentence": rate(shown[told[0]]).as_json(),
        "without_sentence": rate(shown[told[1]]).as_json(),
    }

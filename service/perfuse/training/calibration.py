"""Makes a model's calibration: how sure it is where it is right, and how known a prompt is that it knows.

Items are validation tasks, whose combinations the model has not seen and no published figure uses, in an order drawn
once: the calibration has the first `RESERVED` of them, `perfuse eval uncertainty` the others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from perfuse.adaptation.embedding import read_whitening
from perfuse.adaptation.signals import Trace, log_doubt
from perfuse.adaptation.uncertainty import Calibration, Novelty, Seen
from perfuse.errors import InvalidRequest
from perfuse.models.text import LoadedText, load_text
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import TextOutput, TextRequest
from perfuse.store.kit import read_kit
from perfuse.training.corpus import families
from perfuse.training.corpus.tasks import Task, validation_tasks
from perfuse.training.judging import passes
from perfuse.training.kit import EVALUATED, reference_prompts

log = logging.getLogger(__name__)
ITEMS = 1200
RESERVED = 1600
"""Tasks that nothing but a calibration uses."""
DRAWN_TEMPERATURE = 1.0
"""Of the further items that give doubt its errors."""
FAMILIES = ("mirror", "gaps")
"""Kinds that give novelty its errors; no figure about unseen kinds uses them."""
REFERENCE_BYTES = 76_800
"""Of known prompts in the file: 300 of width 256."""
_ALL = 1_000_000


@cache
def _shuffled() -> tuple[Task, ...]:
    tasks = list(validation_tasks(_ALL, EVALUATED))
    Random("calibration 1").shuffle(tasks)
    return tuple(tasks)


def calibration_tasks(count: int) -> Sequence[Task]:
    """The first `count` tasks that are reserved for calibrations. Raises InvalidRequest."""
    if not 1 <= count <= RESERVED:
        raise InvalidRequest(f"items is {count}; expected a number from 1 to {RESERVED}")
    return _shuffled()[:count]


def spare_tasks(count: int, *, from_end: bool = False) -> Sequence[Task]:
    """`count` of the tasks that no calibration uses. Raises InvalidRequest where there are not as many."""
    spare = _shuffled()[RESERVED:]
    if count > len(spare):
        raise InvalidRequest(f"the corpus has {len(spare)} tasks beside those for calibration; {count} were asked for")
    return spare[-count:] if from_end else spare[:count]


class Observed:
    """Answers requests as the server does, one after the other, and says how each answer came to be.

    Args:
        model: what answers.
        whole: the same model as the pipeline has it, with an estimator if outputs are to carry what it says.
    """

    def __init__(self, model: LoadedText, whole: TextModel | None = None) -> None:
        served = whole or TextModel(model.network, model.tokenizer, model.config.limit, model.config.length)
        self._traces: list[Trace] = []
        self._pipeline = TextPipeline({model.config.name: served}, observe=self._traces.append)

    def __call__(self, request: TextRequest) -> tuple[TextOutput, Trace]:
        """The first output, and how it came to be."""
        self._traces.clear()
        result = run_alone(self._pipeline, request, run=AloneRun(request.seed))
        return result.outputs[0], self._traces[0]


def make_calibration(folder: Path, *, items: int = ITEMS) -> Calibration:
    """Write the calibration of the text model in `folder`, and read nothing but it and the corpus.

    A tenth as many items are drawn at `DRAWN_TEMPERATURE`, as many are of kinds that the model does not know.

    Raises:
        CheckpointError: the model is missing or damaged.
        InvalidRequest: the folder has no learning kit, or too few answers are right.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    kit = read_kit(folder)
    if kit is None:
        raise InvalidRequest(f"{folder.name} has no learning kit", hint="make one with `perfuse train kit`")
    tasks = calibration_tasks(items)
    model = load_text(folder)
    answer = Observed(model)
    prompts = reference_prompts(REFERENCE_BYTES // kit.embedder.width)
    states = [answer(TextRequest(prompt=prompt, length=1)) for prompt in prompts]
    novelty = Novelty.of(read_whitening(folder), np.stack([_state(trace) for _, trace in states]))
    hot = TextRequest(temperature=DRAWN_TEMPERATURE)
    strange = [task for name in FAMILIES for task in _of_family(name, max(items // (10 * len(FAMILIES)), 1))]
    known = _seen(answer, novelty, tasks, TextRequest())
    drawn = _seen(answer, novelty, tasks[: -(-items // 10)], hot)
    unknown = _seen(answer, novelty, strange, TextRequest())
    right = sum(item.right for item in known)
    described = f"{right} right answers of {model.config.label} to {items} validation tasks"
    made = Calibration.of(kit.base, described, known, drawn, unknown, novelty)
    made.write(folder)
    return made


def _of_family(name: str, count: int) -> list[Task]:
    return [drawn.task for drawn in families.tasks(families.FAMILIES[name], "feedback", count)]


def _seen(answer: Observed, novelty: Novelty, tasks: Sequence[Task], request: TextRequest) -> list[Seen]:
    """Each task asked and judged; `request` gives everything but the prompt and the seed."""
    texts, told = [], []
    for i, task in enumerate(tasks):
        output, trace = answer(replace(request, prompt=task.prompt, seed=i))
        texts.append(output.text)
        told.append((log_doubt(trace.certainty), novelty.of_state(_state(trace))))
        if (i + 1) % 100 == 0:
            log.info("%d of %d tasks", i + 1, len(tasks))
    return [Seen(*values, right) for values, right in zip(told, passes(tasks, texts), strict=True)]


def _state(trace: Trace) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    assert trace.state is not None
    return trace.state

"""Makes a model's learning kit: whitening of its vectors, how near counts as near, and anchor tasks.

References are sentences of training combinations, because the kit tells what is unlike the model's own tasks. Anchors
are validation tasks: the model has not seen their combinations, and no published figure is measured on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import save

from perfuse.adaptation.embedding import HIDDEN, pooled, prompt_inputs
from perfuse.adaptation.whitening import Vectors, Whitening, reach_of
from perfuse.errors import InvalidRequest
from perfuse.models.call import Call
from perfuse.models.text import LoadedText, load_text
from perfuse.store.files import write_whole
from perfuse.store.kit import ANCHORS_FILE, EMBEDDER_FILE, Anchor, Kit, read_kit
from perfuse.training.corpus.tasks import Case, Task, training_tasks, validation_tasks

PROMPTS = 700
ANCHORS = 1000
EVALUATED = 1000
"""Held-out tasks that published figures are measured on, before and after learning."""
REACH_SHARE = 0.002
"""Of the pairs of references that lie within reach, 0.68 for code-small.

Feedback of four families of `corpus.families` taken in mixed, by 8: two families share 7 % of the clusters, and 25 % at
a share of 0.003 (0.72). A family that words its operation in two ways is two clusters up to 0.85, where a third of the
clusters is shared.
"""
_CASES_BYTES = 190
"""Of an anchor's cases as JSON; two are kept in any case."""


def make_kit(folder: Path, *, prompts: int = PROMPTS, anchors: int = ANCHORS, seed: int = 0) -> Kit:
    """Write the kit of the text model in `folder`; the same bytes for the same model, numbers, seed, CPU and threads.

    Args:
        folder: of the model; the two files of `perfuse.store.kit` are replaced.
        prompts: sentences that the whitening is estimated from.
        anchors: tasks with tests.
        seed: of the sentences; the anchors are always the same.

    Raises:
        CheckpointError: the model is missing or damaged.
        InvalidRequest: there are not as many anchors, or fewer sentences than two.
    """
    if prompts < 2:
        raise InvalidRequest(f"expected at least 2 prompts to estimate a covariance from; got {prompts}")
    lines = "".join(f"{_line(anchor)}\n" for anchor in draw_anchors(anchors))
    embedded = embed(load_text(folder), reference_prompts(prompts, seed))
    white = Whitening.of(embedded)
    reach = reach_of(white.unit(embedded), REACH_SHARE)
    tensors = {"mean": white.mean, "matrix": np.ascontiguousarray(white.matrix)}
    write_whole(folder / ANCHORS_FILE, lines.encode())
    write_whole(folder / EMBEDDER_FILE, save(tensors, metadata={"reach": f"{reach:.4f}"}))
    kit = read_kit(folder)
    assert kit is not None
    return kit


def embed(model: LoadedText, prompts: Sequence[str]) -> Vectors:
    """Vectors `[n, D]` of prompts by the base model, not whitened; one row per forward, so none depends on another."""
    rows = [prompt_inputs(model.tokenizer, prompt) for prompt in prompts]
    outputs = (model.network.forward([Call(model.network, row, want=HIDDEN)])[0] for row in rows)
    return np.stack(
        [pooled(output["hidden"], len(row["tokens"]) - 2) for output, row in zip(outputs, rows, strict=True)]
    )


def reference_prompts(count: int, seed: int = 0) -> list[str]:
    """Distinct sentences of training combinations."""
    tasks, found = training_tasks(Random(f"kit {seed}")), dict[str, None]()
    while len(found) < count:
        found.setdefault(next(tasks).prompt)
    return list(found)


def draw_anchors(count: int) -> list[Anchor]:
    """Validation tasks, templates in equal shares as far as they go.

    Raises:
        InvalidRequest: there are not as many.
    """
    if count < 1:
        raise InvalidRequest(f"expected at least 1 anchor; got {count}")
    drawn = validation_tasks(count, EVALUATED)
    if len(drawn) < count:
        raise InvalidRequest(f"the corpus has {len(drawn)} validation tasks; {count} anchors were asked for")
    return [_anchor(task) for task in drawn]


def _anchor(task: Task) -> Anchor:
    return Anchor(task.prompt, task.code, task.entry_point, tuple(map(_plain, _telling(task.cases))))


def _plain(case: Case) -> dict[str, object]:
    """A case as feedback writes it; keys of an expected dict are sorted, as a set may have given their order."""
    if case.raises:
        return {"args": [*case.arguments], "raises": "ValueError"}
    expected = case.expected
    return {
        "args": [*case.arguments],
        "expected": dict(sorted(expected.items())) if isinstance(expected, dict) else expected,
    }


def _telling(cases: Sequence[Case]) -> list[Case]:
    """Cases that expect different things before those that expect the same, the short before the long, until enough."""
    by_size = sorted(cases, key=_size)
    first = {_outcome(case): case for case in reversed(by_size)}
    ranked = sorted(by_size, key=lambda case: first[_outcome(case)] is not case)
    kept, used = ranked[:2], sum(map(_size, ranked[:2]))
    for case in ranked[2:]:
        if used + _size(case) <= _CASES_BYTES:
            kept.append(case)
            used += _size(case)
    return kept


def _outcome(case: Case) -> str:
    return _json({**_plain(case), "args": []})


def _size(case: Case) -> int:
    return len(_json(_plain(case)).encode())


def _line(anchor: Anchor) -> str:
    return _json(
        {
            "prompt": anchor.prompt,
            "code": anchor.code,
            "entry_point": anchor.entry_point,
            "cases": list(anchor.cases),
        }
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

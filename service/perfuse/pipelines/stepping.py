"""One step of outputs that fill together: what they ask the network in one await, and what each takes of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfuse._native import Structure
from perfuse.adaptation.embedding import pooled
from perfuse.adaptation.router import Router
from perfuse.adaptation.uncertainty import UncertaintyEstimator
from perfuse.diffusion.guidance import guided, ramped
from perfuse.diffusion.samplers import DiscreteSampler
from perfuse.models.call import LOGITS, Call, Network
from perfuse.models.canvas import given
from perfuse.models.lora import Adaptation
from perfuse.models.tokenizer import SEP, TextTokenizer
from perfuse.pipelines.contract import Run
from perfuse.pipelines.filling import Fill, Uniform, asks, inputs, take, view
from perfuse.pipelines.structured import take_structured
from perfuse.requests import TextRequest


@dataclass(frozen=True, slots=True)
class TextModel:
    """A network with its tokenizer.

    Attributes:
        limit: longest canvas in tokens.
        length: tokens of the span if a request does not say.
        router: finds what was learned for a request; None where nothing can be.
        estimator: says how sure a text is; None where the model has no calibration.
    """

    network: Network
    tokenizer: TextTokenizer
    limit: int
    length: int
    router: Router | None = None
    estimator: UncertaintyEstimator | None = None

    @property
    def name(self) -> str:
        """`model@version`."""
        return self.network.name


@dataclass(frozen=True, slots=True)
class Task:
    """What all steps of an output have in common.

    Attributes:
        heads: what stands before the span, with the prompt and, where there is guidance, without it.
        most: steps.
        window: masked tokens a step works on.
        structure: what the fill must be; None where it may be anything.
        want: of each call; the hidden states of its first step are what novelty is measured on.
    """

    model: TextModel
    request: TextRequest
    sampler: DiscreteSampler
    heads: tuple[Tensor, ...]
    adaptation: Adaptation | None
    most: int
    window: int
    structure: Structure | None
    want: frozenset[str] = LOGITS


async def advance(run: Run, rows: Sequence[tuple[Task, Fill]], step: int, uniform: Uniform) -> None:
    """Does step number `step` of each row; all have as many heads.

    Raises:
        DeadlineExceeded, GenerationFailed: see `Run.forward`.
    """
    views = [view(fill, task.sampler, task.window, step, task.most) for task, fill in rows]
    asking = [
        i for i, ((task, fill), seen) in enumerate(zip(rows, views, strict=True)) if asks(fill, task.sampler, seen)
    ]
    heads = len(rows[0][0].heads)
    calls = [
        Call(task.model.network, inputs(task.heads[head], fill, views[i]), task.want, task.adaptation)
        for head in range(heads)
        for i in asking
        for task, fill in (rows[i],)
    ]
    outputs = await run.forward(*calls) if calls else ()
    told: dict[int, Tensor] = {}
    for place, i in enumerate(asking):
        task, fill = rows[i]
        if step == 0 and (prompt := _prompt_tokens(task)) > 0 and "hidden" in task.want:
            fill.state = pooled(outputs[place]["hidden"], prompt)
        logits = outputs[place]["logits"][len(task.heads[0]) - 1 :]
        for bare in task.heads[1:]:
            without = outputs[len(asking) + place]["logits"][len(bare) - 1 :]
            logits = guided(logits, without, _scale(task.request, fill))
        told[i] = logits
        fill.forwards += heads
    for i, ((task, fill), seen) in enumerate(zip(rows, views, strict=True)):
        said_now = told.get(i, fill.told)
        if task.structure is None:
            take(fill, task.sampler, said_now, seen, step, uniform)
        else:
            assert said_now is not None
            take_structured(fill, task.sampler, said_now, seen, step, uniform, task.structure)
        fill.steps += 1


def heads_of(model: TextModel, prompts: Sequence[str], prefix: str, suffix: str) -> tuple[Tensor, ...]:
    """What stands before the span, once for each prompt."""
    *said, before, after = model.tokenizer.encode_batch([*prompts, prefix, suffix])
    return tuple(torch.tensor(given(prompt, before, after)) for prompt in said)


def _prompt_tokens(task: Task) -> int:
    return task.heads[0].tolist().index(SEP) - 1


def _scale(request: TextRequest, fill: Fill) -> float:
    """Guidance of the step, by the share of the span that is settled."""
    settled = 1.0 - float(fill.masked.double().mean())
    return ramped(request.guidance, settled, request.guidance_ramp)

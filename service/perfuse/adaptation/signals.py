"""How unsure a text is, by one number each: functions of what was recorded while it filled.

A signal is higher where the text is less likely to be right. Those of `Trace` cost nothing beside the forwards that
were done anyway; `pseudo_elbo` and `residual_norm` need further ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from perfuse.adaptation.whitening import Vectors
from perfuse.models.tokenizer import MASK
from perfuse.shapes import Float, Float64, Int64

_SMALLEST = 1e-12
"""Probability below which a token counts as this unlikely."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was recorded of one output while it filled, up to the null that ends it.

    Attributes:
        tokens: the span.
        certainty: probability of each token in the step that settled it.
        entropy: of the distribution it was taken from, at temperature 1, in nats.
        revealed: that step, from 0.
        steps: steps in all.
        told_entropy: mean entropy of what each step was told about, in nats.
        state: `[D]` float32, the hidden states of the prompt in the first step, averaged; None where it has no token.
        given: ids before the span.
    """

    tokens: Int64[Tensor, " span"]
    certainty: Float64[Tensor, " span"]
    entropy: Float64[Tensor, " span"]
    revealed: Int64[Tensor, " span"]
    steps: int
    told_entropy: tuple[float, ...]
    state: Vectors | None
    given: Int64[Tensor, " given"]


def log_doubt(certainty: Float64[Tensor, " span"]) -> float:
    """−Σ log p of the settled tokens: MSP, one minus the product of the reveal confidences, on a scale without end.

    1 − Π p = 1 − e^(−x) is a rising function of it, so the two rank alike; it does not round to 0 or 1.
    """
    return float(-certainty.clamp(min=_SMALLEST).log().sum())


def late_entropy(entropy: Float64[Tensor, " span"], revealed: Int64[Tensor, " span"], steps: int) -> float:
    """Σ w H of the revealed tokens, w = (step + 1) / steps: late steps weigh more (TRE, preprints 202606.2166)."""
    weights = (revealed.double() + 1.0) / max(steps, 1)
    return float((weights * entropy).sum())


def mean_entropy(told: tuple[float, ...]) -> float:
    """Mean over the steps of the mean entropy of the positions that a step was told about; 0 without steps."""
    return math.fsum(told) / max(len(told), 1)


CONFIDENCE: Mapping[str, Callable[[Trace], float]] = {
    "msp": lambda trace: log_doubt(trace.certainty),
    "tre": lambda trace: late_entropy(trace.entropy, trace.revealed, trace.steps),
    "step_entropy": lambda trace: mean_entropy(trace.told_entropy),
}
"""Signals of how sure the text itself is, by name; without further forwards."""


def residual_norm(logits: Float[Tensor, "masked vocabulary"], tokens: Int64[Tensor, " masked"]) -> float:
    """‖x − E x̂‖ / √(Σ (1 − Σ p²)), over one-hot vectors: what the first step predicts against what came out.

    ‖e_y − p‖² = 1 − 2 p_y + Σ p² at each position; its expectation, were p the truth, is 1 − Σ p², which takes the
    place of the expected noise level. 1 where the text is as surprising as the first step said it would be.
    """
    weights = logits.double().softmax(dim=-1)
    squares = weights.square().sum(dim=-1)
    told = weights.gather(1, tokens[:, None])[:, 0]
    expected = float((1.0 - squares).sum())
    return math.sqrt(float((1.0 - 2.0 * told + squares).clamp(min=0.0).sum()) / max(expected, _SMALLEST))


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A further row: `inputs` of a `TextNetwork`, and where in it (`places`) which `tokens` are asked for, by weight.

    Attributes:
        weight: of each −log p in the estimate.
    """

    inputs: Mapping[str, Tensor]
    places: Int64[Tensor, " masked"]
    tokens: Int64[Tensor, " masked"]
    weight: float


def first_step_probe(trace: Trace, window: int) -> Probe:
    """The row of the first step: the given text and a window of masks."""
    size = min(window, len(trace.tokens))
    return _row(trace, 0, torch.ones(size, dtype=torch.bool), 1.0)


def bound_probes(trace: Trace, window: int, uniforms: Float64[Tensor, "draws span"]) -> list[Probe]:
    """Rows of the pseudo-ELBO: the output again, each window of it masked in part behind the text before it.

    −log p(x) ≤ E Σ_windows (1 / t) Σ_masked −log p(x_i | rest), each token masked with probability t (MDLM, arXiv
    2406.07524). Per draw and window t is stratified: draw d of D has t = (d + 1) / D.
    """
    probes = []
    for draw, row in enumerate(uniforms):
        t = (draw + 1) / len(uniforms)
        for start in range(0, len(trace.tokens), window):
            masked = row[start : start + window] < t
            if bool(masked.any()):
                probes.append(_row(trace, start, masked, 1.0 / (t * len(uniforms))))
    return probes


def _row(trace: Trace, start: int, masked: Tensor, weight: float) -> Probe:
    """The window at `start` with masks, behind the settled text: the layout of `pipelines.filling.inputs`."""
    head, end = len(trace.given), start + len(masked)
    span = trace.tokens[:end].clone()
    places = start + masked.nonzero()[:, 0]
    targets = span[places]
    span[places] = MASK
    order = torch.cat((torch.zeros_like(trace.given), torch.arange(1, end + 1).clamp(max=start + 1)))
    return Probe({"tokens": torch.cat((trace.given, span)), "order": order}, head + places, targets, weight)


def surprise(logits: Float[Tensor, "length vocabulary"], probe: Probe) -> float:
    """Weighted Σ −log p of what the probe asks for, in nats."""
    told = logits[probe.places].double().log_softmax(dim=-1).gather(1, probe.tokens[:, None])
    return float(-told.sum()) * probe.weight

"""Each signal against its formula, and the rows of further passes against the layout of a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from perfuse.adaptation.signals import (
    CONFIDENCE,
    Trace,
    bound_probes,
    first_step_probe,
    late_entropy,
    log_doubt,
    mean_entropy,
    residual_norm,
    surprise,
)
from perfuse.models.tokenizer import MASK


def trace(tokens: list[int], given: list[int]) -> Trace:
    n = len(tokens)
    return Trace(
        tokens=torch.tensor(tokens),
        certainty=torch.linspace(0.5, 1.0, n, dtype=torch.float64),
        entropy=torch.linspace(0.7, 0.0, n, dtype=torch.float64),
        revealed=torch.arange(n),
        steps=n,
        told_entropy=(0.5, 0.25),
        state=np.zeros(2, np.float32),
        given=torch.tensor(given),
    )


def test_log_doubt_ranks_like_one_minus_the_product_and_knows_no_infinity() -> None:
    certainty = torch.tensor([0.5, 0.8], dtype=torch.float64)
    assert 1 - math.exp(-log_doubt(certainty)) == pytest.approx(1 - 0.4)
    assert log_doubt(torch.zeros(1, dtype=torch.float64)) == pytest.approx(-math.log(1e-12))


def test_late_steps_weigh_more() -> None:
    entropy = torch.tensor([1.0, 1.0], dtype=torch.float64)
    assert late_entropy(entropy, torch.tensor([0, 3]), 4) == pytest.approx(0.25 + 1.0)
    assert late_entropy(entropy, torch.tensor([3, 3]), 4) > late_entropy(entropy, torch.tensor([0, 0]), 4)


def test_the_mean_over_steps() -> None:
    assert mean_entropy((0.5, 0.25)) == 0.375
    assert mean_entropy(()) == 0.0


def test_every_signal_of_a_trace_is_a_number() -> None:
    found = {name: of(trace([5, 6, 7], [2, 3])) for name, of in CONFIDENCE.items()}
    assert set(found) == {"msp", "tre", "step_entropy"}
    assert all(math.isfinite(value) and value > 0 for value in found.values())


def test_the_residual_is_one_on_average_where_the_network_is_right_about_its_doubt() -> None:
    logits = torch.randn(4000, 7, generator=torch.Generator().manual_seed(0))
    drawn = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert residual_norm(logits, drawn) == pytest.approx(1.0, abs=0.03)
    assert residual_norm(logits, logits.argmin(-1)) > 1.2
    assert residual_norm(logits, logits.argmax(-1)) < 0.9


def attended(order: Tensor) -> Tensor:
    return order[None, :] <= order[:, None]


def test_the_first_step_shows_the_given_text_and_masks() -> None:
    probe = first_step_probe(trace([5, 6, 7], [2, 3]), 2)
    assert probe.inputs["tokens"].tolist() == [2, 3, MASK, MASK]
    assert probe.inputs["order"].tolist() == [0, 0, 1, 1]
    assert (probe.places.tolist(), probe.tokens.tolist()) == ([2, 3], [5, 6])


def test_a_window_is_masked_behind_what_is_settled_and_sees_nothing_behind_it() -> None:
    uniforms = torch.tensor([[0.6, 0.6, 0.2], [0.6, 0.6, 0.2]], dtype=torch.float64)
    probes = bound_probes(trace([5, 6, 7], [2, 3]), 2, uniforms)
    # draw 0 has t = 0.5: only the last token; draw 1 has t = 1: all, window by window.
    assert [probe.inputs["tokens"].tolist() for probe in probes] == [
        [2, 3, 5, 6, MASK], [2, 3, MASK, MASK], [2, 3, 5, 6, MASK],
    ]  # fmt: skip
    assert [probe.weight for probe in probes] == [1.0, 0.5, 0.5]
    last = probes[0].inputs["order"]
    assert last.tolist() == [0, 0, 1, 2, 3]
    assert attended(last)[-1].all()
    assert not attended(last)[:4, 4].any()


def test_the_estimate_is_the_sum_of_the_masked_nats_in_expectation() -> None:
    """A network that gives each token its own probability p_i whatever it sees: −log p = Σ −log p_i."""
    tokens, vocabulary = [0, 1, 2, 3, 4], 5
    logits = torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(2))
    exact = float(-logits.log_softmax(-1)[range(5), tokens].sum())
    made = trace(tokens, [9])
    uniforms = torch.rand(6000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    total = 0.0
    for probe in bound_probes(made, 2, uniforms):
        rows = torch.zeros(len(probe.inputs["tokens"]), vocabulary)
        rows[1:] = logits[: len(rows) - 1]
        total += surprise(rows, probe)
    assert total == pytest.approx(exact, rel=0.05)

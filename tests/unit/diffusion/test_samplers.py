"""Samplers against brute force over their definitions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.core import POST_STEPS, DiffusionCore
from perfuse.diffusion.guidance import guided, ramped
from perfuse.diffusion.samplers import FIXED, OPTIONS, RULES, Chooser, DiscreteSampler, Guess, Rule, predict
from perfuse.diffusion.schedules import Kind
from perfuse.errors import PluginFailed

MASK = 1


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]])
    guess = predict(logits, None, 0.0)
    assert guess.tokens.tolist() == [1, 0]
    assert guess.confidence.tolist() == pytest.approx(logits.softmax(-1).amax(-1).tolist())
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(guess.entropy, expected, atol=1e-6)


def test_inverse_cdf_draws_the_tempered_distribution() -> None:
    row = torch.tensor([0.0, 1.0, 2.0, -1.0])
    grid = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    guess = predict(row.expand(50_000, 4), grid, 0.7)
    share = torch.bincount(guess.tokens, minlength=4).double() / 50_000
    wanted = (row.double() / 0.7).softmax(-1)
    assert torch.allclose(share, wanted, atol=1e-4)
    assert torch.allclose(guess.confidence.double(), wanted[guess.tokens], atol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_the_ends_of_the_uniforms_give_tokens_of_the_vocabulary(uniform: float) -> None:
    guess = predict(torch.tensor([[-1e4, 0.0, -1e4]]), torch.tensor([uniform], dtype=torch.float64), 1.0)
    assert guess.tokens.tolist() == [1]


def test_a_temperature_without_uniforms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^temperature is 0.5, expected uniforms to draw with; none came$"):
        predict(torch.zeros(1, 3), None, 0.5)


def test_margins_are_the_lead_of_the_most_likely_token() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    first, second = logits.softmax(-1).topk(2).values.unbind(-1)
    for temperature, uniforms in ((0.0, None), (0.7, torch.full((5,), 0.5, dtype=torch.float64))):
        margin = predict(logits, uniforms, temperature, margins=True).margin
        assert margin is not None
        assert torch.allclose(margin, first - second, atol=1e-6)
    assert predict(logits, None, 0.0).margin is None


@pytest.mark.parametrize(
    ("rule", "purpose"), [("ancestral", "reveal"), ("remdm_cap", "reveal"), ("random", "order"), ("verified", "")]
)
def test_rules_that_draw_need_noise_and_verified_needs_settled_text(rule: str, purpose: str) -> None:
    message = f"the rule is {rule}, expected uniforms to {purpose} by; none came"
    if rule == "verified":
        message = "the rule is verified, which commits what settled text says; nothing to choose here"
    with pytest.raises(ValueError, match=f"^{message}$"):
        DiscreteSampler(rule).choose(predict(torch.zeros(2, 3), None, 0.0), 2)


def test_dream_orders_by_probability_by_margin_or_by_entropy() -> None:
    shares = [[0.72, 0.2, *[0.016] * 5, 0.0], [0.65, *[0.05] * 7], [0.7, 0.3, *[0.0] * 6]]
    logits = torch.tensor(shares).clamp(min=1e-9).log()
    chosen = {}
    for rule in ("low_confidence", "margin", "low_entropy"):
        sampler = DiscreteSampler(rule)
        chosen[rule] = sampler.choose(sampler.predict(logits, None), 3).tolist()
    assert chosen == {
        "low_confidence": [True, False, False],
        "margin": [False, True, False],
        "low_entropy": [False, False, True],
    }


@pytest.mark.parametrize(("schedule", "counts"), [("log-linear", [4] * 4), ("cosine", [3, 6, 5, 2])])
def test_a_schedule_says_how_many_commit_in_each_step(schedule: Kind, counts: list[int]) -> None:
    sampler, masked, seen = DiscreteSampler("low_confidence", schedule=schedule), 16, []
    for left in range(4, 0, -1):
        seen.append(int(sampler.choose(predict(torch.zeros(masked, 3), None, 0.0), left, of=4).sum()))
        masked -= seen[-1]
    assert seen == counts


GUESS = Guess(torch.tensor([5, 6, 7]), torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1.0, 0.1, 0.5]))


def chooses(*positions: int) -> Chooser:
    return lambda guess, left: torch.tensor([i in positions for i in range(len(guess.tokens))])


@pytest.mark.parametrize(("chosen", "at_least", "expected"), [((0,), 1, [0]), ((), 1, [1]), ((0,), 2, [0, 1, 2])])
def test_a_chooser_decides_and_the_most_confident_make_up_the_number(
    chosen: tuple[int, ...], at_least: int, expected: list[int]
) -> None:
    sampler = DiscreteSampler("mine", chooser=chooses(*chosen))
    assert sampler.choose(GUESS, 4, at_least=at_least).nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("chooser", "message"),
    [
        (lambda guess, left: guess.confidence, "gave torch.float32 [3]; expected torch.bool [3]"),
        (lambda guess, left: torch.ones(2, dtype=torch.bool), "gave torch.bool [2]; expected torch.bool [3]"),
        (lambda guess, left: [True] * 3, "gave list; expected torch.bool [3]"),
        (lambda guess, left: 1 // 0, "failed: ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_what_a_chooser_must_not_do_is_said(chooser: Chooser, message: str) -> None:
    with pytest.raises(PluginFailed) as raised:
        DiscreteSampler("mine", chooser=chooser).choose(GUESS, 4)
    assert raised.value.detail == f"the sampler 'mine' {message}"


@given(st.floats(0.0, 4.0))
def test_guidance_at_scale_one_is_the_conditional_model(scale: float) -> None:
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    assert torch.allclose(guided(conditional, unconditional, 1.0), conditional)
    expected = (1 - scale) * unconditional + scale * conditional
    assert torch.allclose(guided(conditional, unconditional, scale), expected, atol=1e-5)


@given(st.floats(1.0, 9.0), st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_the_scale_rises_from_one_in_a_line(scale: float, settled: float, ramp: float) -> None:
    assert ramped(scale, settled, 0.0) == scale
    assert ramped(scale, 0.0, ramp) == 1.0
    assert ramped(scale, max(settled, ramp), ramp) == pytest.approx(scale)
    assert ramped(scale, ramp / 2, ramp) == pytest.approx(1 + (scale - 1) / 2)


ALL = [rule for rule in RULES if rule != "verified"]
SURE = torch.randn(40, 9, generator=torch.Generator().manual_seed(3))
SURE[:, MASK] = -torch.inf


def constants(rule: Rule, draw: st.DrawFn) -> dict[str, object]:
    """Values for what a rule reads."""
    kinds: dict[str, st.SearchStrategy[object]] = {
        "schedule": st.sampled_from(["cosine", "linear", "log-linear"]),
        "factor": st.floats(0.1, 3.0),
        "bound": st.floats(0.0, 3.0),
        "order_temperature": st.sampled_from([0.0, 0.5]),
        "stop_entropy": st.sampled_from([None, 0.5, 9.0]),
        "edit_level": st.floats(0.2, 1.0),
    }
    return {name: draw(kinds.get(name, st.floats(0.0, 1.0))) for name in OPTIONS[rule]}


@st.composite
def samplers(draw: st.DrawFn) -> DiscreteSampler:
    rule = draw(st.sampled_from(ALL))
    steps, temperature = draw(st.sampled_from([None, 1, 3, 20])), draw(st.sampled_from([0.0, 1.0]))
    return DiscreteSampler(rule, temperature=temperature, steps=steps, **constants(rule, draw))  # type: ignore[arg-type]


@given(samplers(), st.lists(st.sampled_from([MASK, MASK, 2, 7]), max_size=12), st.integers(0, 99))
def test_every_sampler_fills_every_mask_within_its_steps_and_writes_nothing_else(
    sampler: DiscreteSampler, canvas: list[int], seed: int
) -> None:
    before = torch.tensor(canvas, dtype=torch.long)
    core = DiffusionCore(lambda rows: [SURE[: len(row)] * (1 + (row == 2).sum()) for row in rows], sampler)
    done, again = (core.generate([before, before[:3]], seed=seed)[0] for _ in range(2))
    masks = int((before == MASK).sum())
    assert not (done.tokens == MASK).any()
    assert torch.equal(done.tokens[before != MASK], before[before != MASK])
    limit = masks + 1 + POST_STEPS if sampler.rule == "editing" else masks
    assert done.forwards <= (sampler.steps or masks if sampler.rule in FIXED and masks else limit)
    assert torch.equal(done.tokens, again.tokens)


def test_every_rule_but_verified_has_its_constants_named() -> None:
    assert set(OPTIONS) == set(RULES)
    named = {name for options in OPTIONS.values() for name in options}
    assert named <= set(DiscreteSampler.__dataclass_fields__)


def test_a_forward_that_would_be_the_same_is_not_computed_again() -> None:
    """x0 caching: 4 masks need at most 4 forwards in however many steps; nothing else about the sample changes."""
    asked: list[int] = []

    def denoiser(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        asked.append(len(rows))
        return [SURE[: len(row)] for row in rows]

    sampler = DiscreteSampler("ancestral", steps=500, temperature=1.0)
    (done,) = DiffusionCore(denoiser, sampler).generate([torch.full((4,), MASK)], seed=3)
    assert done.forwards == sum(asked) <= 4


def test_a_stable_text_is_committed_before_its_steps_are_spent() -> None:
    certain = torch.zeros(8, 9).index_fill_(1, torch.tensor(5), 30.0)
    canvas = torch.full((8,), MASK)
    forwards = {}
    for bound in (None, 0.01):
        core = DiffusionCore(lambda rows: [certain for _ in rows], DiscreteSampler("margin", stop_entropy=bound))
        (done,) = core.generate([canvas])
        assert done.tokens.tolist() == [5] * 8
        forwards[bound] = done.forwards
    assert forwards == {None: 8, 0.01: 2}


def test_editing_replaces_what_the_network_is_sure_is_wrong() -> None:
    """The first token is placed wrongly as long as the second is masked; with the second it is known."""

    def denoiser(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        told = []
        for row in rows:
            logits = torch.zeros(2, 9)
            logits[0, 5 if row[1] == MASK else 6] = 3.0 if row[1] == MASK else 9.0
            logits[1, 7] = 2.9
            told.append(logits)
        return told

    canvas = torch.tensor([MASK, MASK])
    for edit_level, expected in ((0.9, [6, 7]), (1.0, [5, 7])):
        sampler = DiscreteSampler("editing", level=0.7, edit_level=edit_level)
        (done,) = DiffusionCore(denoiser, sampler).generate([canvas])
        assert done.tokens.tolist() == expected

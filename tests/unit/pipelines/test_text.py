"""The text pipeline over a network that knows the answer: nothing but the span is ever written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfuse.diffusion.samplers import REVISING, RULES
from perfuse.errors import CanvasTooLong, InvalidRequest, NothingToFill, PerfuseError, UnknownModel
from perfuse.models.call import Call, Output
from perfuse.models.canvas import settled_text
from perfuse.models.tokenizer import EOS, MASK, NULL, SEP, TextTokenizer
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import DRAFT_WINDOW, WINDOW, TextModel, TextPipeline
from perfuse.requests import Preview, SamplerOptions, TextRequest, TextResult
from plugged import importable, installed

CODE = "def double(values):\n    return [value * 2 for value in values]\n"
NARROW: dict[str, Any] = {"sampler_options": SamplerOptions(window=WINDOW)}


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train([CODE] * 4 + ["Double every value."] * 4, 320)


@dataclass(eq=False)
class Oracle:
    """Knows `answer`: a mask is told its own token, any other position the next one.

    Surer the further left; `sure` is the logit of the first position. A mask at a place in `lies` is told nonsense.
    """

    answer: list[int]
    vocabulary: int
    sure: float = 20.0
    fall: float = 0.0
    name: str = "oracle@3"
    reproducible_rows: int = 4
    lies: frozenset[int] = frozenset()
    prompted: bool = False  # knows nothing where there is no prompt
    seen: list[list[int]] = field(default_factory=list)
    orders: list[list[int]] = field(default_factory=list)

    def key(self, call: Call) -> Hashable:
        return len(call.inputs["tokens"])

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        outputs: list[Output] = []
        for call in calls:
            tokens = call.inputs["tokens"]
            self.seen.append(tokens.tolist())
            self.orders.append(call.inputs["order"].tolist())
            logits = torch.zeros(len(tokens), self.vocabulary)
            start = int((tokens == EOS).nonzero()[0]) + 1  # the tests with an oracle give no prefix
            for place in range(start - 1, len(tokens)):
                masked = int(tokens[place]) == MASK
                i = place - start if masked else place - start + 1
                if i < len(self.answer) and not (self.prompted and int(tokens[1]) == SEP):
                    token = (self.answer[i] + 7) % self.vocabulary if masked and i in self.lies else self.answer[i]
                    logits[place, token] = max(self.sure - self.fall * i, 1.0)
            outputs.append({"logits": logits})
        return outputs


def build(tokenizer: TextTokenizer, answer: str = CODE, span: int = 48, **fields: Any) -> tuple[Oracle, TextPipeline]:
    ids = tokenizer.encode(answer)
    oracle = Oracle(ids + [NULL] * (span - len(ids)), tokenizer.size, **fields)
    return oracle, TextPipeline({"oracle": TextModel(oracle, tokenizer, limit=256, length=span)})


def fill(pipeline: TextPipeline, request: TextRequest, **options: object) -> TextResult:
    return run_alone(pipeline, request, run=AloneRun(request.seed, **options))  # type: ignore[arg-type]


def refused(pipeline: TextPipeline, request: TextRequest) -> tuple[type[PerfuseError], str, str | None, str | None]:
    with pytest.raises(PerfuseError) as caught:
        pipeline.estimate(request)
    return type(caught.value), caught.value.detail, caught.value.field, caught.value.hint


def windows(tokenizer: TextTokenizer) -> int:
    """Steps of a sure network: a window each up to the first null behind the code, with which all nulls follow."""
    return -(-(len(tokenizer.encode(CODE)) + 1) // WINDOW)


def test_a_sure_network_fills_a_window_per_forward_and_stops_at_the_end_of_the_text(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(prompt="Double every value.", sampler="entropy")).outputs
    assert output.text == output.fill == CODE
    needed = windows(tokenizer)
    assert needed < -(-48 // WINDOW)
    assert (output.finish_reason, output.steps_done, output.forwards) == ("complete", needed, needed)
    assert output.confidence > 0.99


def test_a_fixed_schedule_goes_block_by_block_and_leaves_out_what_is_behind_the_end(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(sampler="low_confidence", length=48)).outputs
    assert output.text == CODE
    code = len(tokenizer.encode(CODE))
    assert code + 1 <= output.forwards < 48
    head = len(oracle.seen[0]) - WINDOW
    assert {len(row) - head for row in oracle.seen} == {WINDOW * (1 + block) for block in range(windows(tokenizer))}


def test_settled_text_does_not_see_the_window(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer)
    fill(pipeline, TextRequest(prompt="Double every value.", sampler="entropy"))
    first, second = oracle.orders[:2]
    given = len(first) - WINDOW
    assert first == [0] * given + [1] * WINDOW
    assert second == [0] * given + list(range(1, WINDOW + 1)) + [WINDOW + 1] * (len(second) - given - WINDOW)


def test_a_verified_draft_costs_one_forward_and_brings_one_token_more(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(prompt="Double every value.", sampler="verified", **NARROW)).outputs
    assert (output.text, output.finish_reason) == (CODE, "complete")
    needed = len(tokenizer.encode(CODE)) + 1
    # the first forward tells one token; each later one verifies the 15 drafted behind it and tells one more
    assert output.forwards == 1 + -(-(needed - 1) // WINDOW)
    given = len(oracle.seen[0]) - WINDOW
    assert oracle.orders[1] == [0] * given + list(range(1, WINDOW + 1)) + [WINDOW + 1] * WINDOW
    oracle.seen.clear()
    fill(pipeline, TextRequest(prompt="Double every value."))
    assert len(oracle.seen[0]) - given == DRAFT_WINDOW


@given(lies=st.frozensets(st.integers(0, 40)), temperature=st.sampled_from([0.0, 0.7]), seed=st.integers(0, 9))
def test_whatever_is_drafted_the_settled_text_has_the_last_word(
    tokenizer: TextTokenizer, lies: frozenset[int], temperature: float, seed: int
) -> None:
    request = TextRequest(temperature=temperature, seed=seed)
    _, honest = build(tokenizer, sure=6.0)
    _, lying = build(tokenizer, sure=6.0, lies=lies)
    (expected,), (output,) = fill(honest, request).outputs, fill(lying, request).outputs
    assert output.token_ids == expected.token_ids
    assert output.confidence == expected.confidence
    assert output.forwards >= expected.forwards


def test_an_unsure_network_takes_more_forwards_and_says_so(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer, sure=11.0, fall=0.1)
    (output,) = fill(pipeline, TextRequest(sampler="entropy")).outputs
    assert output.text == CODE
    assert 3 <= output.forwards < 48
    assert output.confidence < 0.99


@pytest.mark.parametrize("sampler", [rule for rule in RULES if rule != "verified"])
@pytest.mark.parametrize("steps", [1, 3, 7, 60])
def test_every_sampler_keeps_the_step_budget(tokenizer: TextTokenizer, sampler: str, steps: int) -> None:
    oracle, pipeline = build(tokenizer, sure=4.0, fall=0.05)
    (output,) = fill(pipeline, TextRequest(sampler=sampler, steps=steps, seed=3)).outputs
    assert output.steps_done <= steps
    assert MASK not in output.token_ids
    assert len(oracle.seen) == output.forwards


def test_a_sampler_of_another_package_fills_within_the_budget(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    _, pipeline = build(tokenizer, sure=11.0, fall=0.1)
    with importable(installed(tmp_path, "perfuse-frontier")):
        (output,) = fill(pipeline, TextRequest(sampler="frontier")).outputs
        (hurried,) = fill(pipeline, TextRequest(sampler="frontier", steps=2)).outputs
        assert [demand.kind for demand in pipeline.estimate(TextRequest(sampler="frontier"))] == ["text/frontier"]
    assert output.text == CODE
    assert 1 < output.forwards < 48
    assert hurried.steps_done <= 2
    assert MASK not in hurried.token_ids


def test_a_sampler_that_there_is_not_is_refused(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    assert refused(pipeline, TextRequest(sampler="frontier")) == (
        InvalidRequest,
        f"no sampler is named 'frontier'; expected one of auto, {', '.join(RULES)}",
        "/sampler",
        "leave out `sampler` for the default",
    )


@pytest.mark.parametrize(
    ("asked", "detail", "field"),
    [
        (
            TextRequest(sampler="threshold", sampler_options=SamplerOptions(eta=0.1)),
            "the sampler 'threshold' has no option 'eta'; its options are window, level, stop_entropy",
            "/sampler_options/eta",
        ),
        (
            TextRequest(sampler_options=SamplerOptions(level=0.5)),
            "the sampler 'verified' has no option 'level'; its options are window, bound",
            "/sampler_options/level",
        ),
        (
            TextRequest(sampler="remdm_cap", sampler_options=SamplerOptions(eta=1.5)),
            "eta is 1.5; expected a number from 0 to 1",
            "/sampler_options/eta",
        ),
        (
            TextRequest(sampler="random", sampler_options=SamplerOptions(window=0)),
            "window is 0; expected a number from 1 to 256",
            "/sampler_options/window",
        ),
        (
            TextRequest(sampler="margin", sampler_options=SamplerOptions(schedule="sine")),
            "no schedule is named 'sine'; expected one of cosine, linear, log-linear",
            "/sampler_options/schedule",
        ),
        (
            TextRequest(sampler="verified", guidance_ramp=0.5),
            "guidance_ramp is 0.5 with the sampler 'verified', which takes as many steps as it needs",
            "/guidance_ramp",
        ),
        (TextRequest(guidance_ramp=2.0), "guidance_ramp is 2.0; expected a number from 0 to 1", "/guidance_ramp"),
    ],
)
def test_options_that_a_sampler_does_not_read_or_that_are_out_of_range_are_refused(
    tokenizer: TextTokenizer, asked: TextRequest, detail: str, field: str
) -> None:
    _, pipeline = build(tokenizer)
    assert refused(pipeline, asked)[:3] == (InvalidRequest, detail, field)


def test_options_reach_the_sampler(tokenizer: TextTokenizer) -> None:
    """The oracle's doubt is the same everywhere; what is asked for decides how much of it is taken at once."""

    def forwards(sampler: str, **options: Any) -> int:
        _, pipeline = build(tokenizer, sure=9.0)
        request = TextRequest(sampler=sampler, sampler_options=SamplerOptions(**options), seed=1, length=40)
        (output,) = fill(pipeline, request).outputs
        return output.forwards

    assert forwards("threshold", level=0.9) < forwards("threshold", level=1.0)
    assert forwards("entropy", bound=9.0) < forwards("entropy", bound=0.0)
    assert forwards("factor", factor=9.0) < forwards("factor", factor=0.01)
    assert forwards("threshold", level=0.9, window=48) < forwards("threshold", level=0.9, window=4)
    assert forwards("low_confidence", stop_entropy=5.0) < forwards("low_confidence")


@pytest.mark.parametrize(("schedule", "masks"), [(None, [16, 12, 8, 4]), ("cosine", [16, 13, 7, 2])])
def test_a_schedule_spends_the_steps(tokenizer: TextTokenizer, schedule: str | None, masks: list[int]) -> None:
    oracle, pipeline = build(tokenizer)
    options = SamplerOptions(schedule=schedule)
    fill(pipeline, TextRequest(sampler="margin", length=16, steps=4, sampler_options=options))
    assert [row.count(MASK) for row in oracle.seen] == masks


def test_remasking_takes_back_and_still_ends_in_its_steps(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer, sure=3.0)
    options = SamplerOptions(eta=0.9)
    request = TextRequest(sampler="remdm_cap", steps=80, temperature=1.0, seed=2, sampler_options=options)
    (output,) = fill(pipeline, request).outputs
    masks = [row.count(MASK) for row in oracle.seen]
    head = len(oracle.seen[0]) - WINDOW
    again = [
        i for i, (before, after) in enumerate(zip(oracle.seen, oracle.seen[1:], strict=False))
        if any(a == MASK != b for a, b in zip(after[head:], before[head:], strict=False))
    ]  # fmt: skip
    assert again
    assert max(masks) <= 3 * WINDOW
    assert MASK not in output.token_ids
    assert output.forwards <= output.steps_done <= 80


def test_a_step_that_changes_nothing_costs_no_forward(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(sampler="ancestral", steps=2000, length=12, seed=4)).outputs
    assert output.forwards == len(oracle.seen) <= 12 < output.steps_done <= 16 * 12


def test_editing_repairs_what_the_window_told_wrongly(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer, lies=frozenset({3, 20}))
    (wrong,) = fill(pipeline, TextRequest(sampler="threshold")).outputs
    (right,) = fill(pipeline, TextRequest(sampler="editing")).outputs
    assert wrong.text != CODE
    assert right.text == CODE
    assert right.forwards <= wrong.forwards + 3


def test_guidance_that_rises_begins_with_none(tokenizer: TextTokenizer) -> None:
    """Without the prompt the oracle knows nothing, so guidance sharpens what it says with it."""
    forwards = {}
    for ramp in (0.0, 1.0):
        _, pipeline = build(tokenizer, sure=4.0, prompted=True)
        request = TextRequest(prompt="Double.", sampler="entropy", guidance=4.0, guidance_ramp=ramp)
        forwards[ramp] = fill(pipeline, request).outputs[0].forwards
    assert forwards[0.0] < forwards[1.0]


def test_guidance_costs_a_second_call_without_the_prompt(tokenizer: TextTokenizer) -> None:
    oracle, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(prompt="Double every value.", guidance=2.0, sampler="entropy")).outputs
    assert output.forwards == 2 * windows(tokenizer)
    assert len(oracle.seen[0]) > len(oracle.seen[1])
    assert output.text == CODE


def test_temperature_draws_differently_by_seed_and_output_and_equally_again(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer, sure=2.0)
    first = fill(pipeline, TextRequest(temperature=1.0, n=2, seed=1))
    assert first.outputs[0].text != first.outputs[1].text
    assert fill(pipeline, TextRequest(temperature=1.0, n=2, seed=1)) == first
    assert fill(pipeline, TextRequest(temperature=1.0, n=2, seed=2)) != first


@given(
    prefix=st.text(max_size=30),
    suffix=st.text(max_size=30),
    seed=st.integers(0, 1000),
    sampler=st.sampled_from(["auto", *RULES]),
)
def test_infilling_never_touches_prefix_or_suffix(
    tokenizer: TextTokenizer, prefix: str, suffix: str, seed: int, sampler: str
) -> None:
    oracle, pipeline = build(tokenizer, sure=1.0)
    request = TextRequest(prefix=prefix, suffix=suffix, length=6, seed=seed, temperature=1.0, sampler=sampler)  # type: ignore[arg-type]
    (output,) = fill(pipeline, request).outputs
    assert output.text == prefix + output.fill + suffix
    assert len(output.token_ids) == 6
    for before, after in zip(oracle.seen, oracle.seen[1:], strict=False):
        assert sampler in REVISING or len(before) <= len(after)
        assert sampler in REVISING or all(b in (a, MASK) for a, b in zip(after, before, strict=False))


def test_a_template_is_another_way_to_write_prefix_and_suffix(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    a = fill(pipeline, TextRequest(template="a = <mask:5>\nb", seed=1, temperature=1.0))
    b = fill(pipeline, TextRequest(prefix="a = ", suffix="\nb", length=5, seed=1, temperature=1.0))
    assert a == b


def test_a_span_without_nulls_says_that_it_ran_into_its_length(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    (output,) = fill(pipeline, TextRequest(length=4)).outputs
    assert output.finish_reason == "length"
    assert CODE.startswith(output.text)


def test_a_deadline_gives_what_is_committed(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer, sure=5.0, fall=0.05)
    ticks = iter(range(100))
    (output,) = fill(pipeline, TextRequest(sampler="entropy"), deadline=3.0, clock=lambda: float(next(ticks))).outputs
    assert output.finish_reason == "deadline"
    assert output.steps_done == 4
    assert MASK in output.token_ids


def test_previews_show_the_masked_canvas_as_it_fills(tokenizer: TextTokenizer) -> None:
    shown: list[Preview] = []
    _, pipeline = build(tokenizer, sure=9.0, fall=0.1)
    fill(pipeline, TextRequest(suffix="# end", sampler="entropy"), on_preview=shown.append)
    canvases = [str(preview.body["canvas"]) for preview in shown]
    masks = [canvas.count("\u2591") for canvas in canvases]
    assert masks == sorted(masks, reverse=True)
    assert masks[-1] == 0
    assert all(canvas.endswith("# end") for canvas in canvases)
    assert [preview.step for preview in shown] == list(range(1, len(shown) + 1))


def test_previews_show_drafts_that_are_not_verified_yet(tokenizer: TextTokenizer) -> None:
    shown: list[Preview] = []
    _, pipeline = build(tokenizer)
    fill(pipeline, TextRequest(sampler="verified", **NARROW), on_preview=shown.append)
    told = tokenizer.decode(tokenizer.encode(CODE)[:WINDOW])
    assert str(shown[0].body["canvas"]) == told + "\u2591" * (48 - WINDOW)


@settings(max_examples=40)
@given(
    sampler=st.sampled_from(["auto", *RULES]),
    temperature=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 9),
    window=st.sampled_from([None, 1, 5, 48]),
)
def test_what_a_preview_says_is_settled_never_changes(
    tokenizer: TextTokenizer, sampler: str, temperature: float, seed: int, window: int | None
) -> None:
    shown: list[Preview] = []
    _, pipeline = build(tokenizer, sure=6.0, fall=0.05, lies=frozenset({3, 20}))
    options = SamplerOptions(window=window, eta=0.9 if sampler in ("remdm_cap", "remdm_rescale") else None)
    request = TextRequest(sampler=sampler, temperature=temperature, seed=seed, n=2, sampler_options=options)
    outputs = fill(pipeline, request, on_preview=shown.append).outputs
    for index, output in enumerate(outputs):
        told = [preview.body["settled"][index] for preview in shown]  # type: ignore[index]
        for before, after in zip(told, [*told[1:], output.fill], strict=True):
            assert after.startswith(before)
        assert told[-1] == output.fill


def test_settled_text_does_not_end_inside_a_character(tokenizer: TextTokenizer) -> None:
    bear = tokenizer.encode("a\N{BEAR FACE}b")
    begun = [settled_text(tokenizer, [*bear[:count], MASK]) for count in range(len(bear) + 1)]
    assert begun == ["", *["a"] * (len(bear) - 2), "a\N{BEAR FACE}", "a\N{BEAR FACE}b"]
    assert settled_text(tokenizer, [*bear[:2], NULL]) == "a\N{REPLACEMENT CHARACTER}"  # it ends there for good


def test_tokens_are_counted_without_marks(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    request = TextRequest(prompt="Double every value.", suffix="# end", n=2)
    result = fill(pipeline, request)
    assert result.given_tokens == sum(map(len, tokenizer.encode_batch([request.prompt, request.suffix])))
    assert [output.tokens for output in result.outputs] == [len(tokenizer.encode(CODE))] * 2


def test_models_are_chosen_by_name_or_by_name_and_version(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    for model in (None, "oracle", "oracle@3"):
        assert fill(pipeline, TextRequest(model=model)).model == "oracle@3"
    assert refused(pipeline, TextRequest(model="oracle@2")) == (
        UnknownModel,
        "no text model 'oracle@2' is loaded; loaded are oracle@3",
        "/model",
        "leave out `model` for the default, or see GET /models",
    )


def test_a_canvas_longer_than_the_model_is_refused(tokenizer: TextTokenizer) -> None:
    _, pipeline = build(tokenizer)
    assert refused(pipeline, TextRequest(length=300)) == (
        CanvasTooLong,
        "the canvas has 303 tokens (3 given, 300 to fill); model 'oracle@3' takes at most 256",
        "/length",
        "shorten prompt, prefix and suffix, or ask for fewer tokens",
    )
    kind, detail, field_, _ = refused(pipeline, TextRequest(prompt="0" * 300))
    assert (kind, detail, field_) == (
        CanvasTooLong,
        "the canvas has 304 tokens (303 given, 1 to fill); model 'oracle@3' takes at most 256",
        "/prompt",
    )


@pytest.mark.parametrize(
    ("request_", "kind", "detail", "field_", "hint"),
    [
        (
            TextRequest(steps=0),
            InvalidRequest,
            "steps is 0; expected a number from 1 to 4096",
            "/steps",
            "leave out `steps` for its default",
        ),
        (
            TextRequest(steps=4, sampler="verified"),
            InvalidRequest,
            "steps is 4 with the sampler 'verified', which takes as many steps as it needs",
            "/steps",
            "leave out `steps`, or choose another sampler",
        ),
        (
            TextRequest(temperature=float("nan")),
            InvalidRequest,
            "temperature is nan; expected a number from 0 to 10",
            "/temperature",
            "leave out `temperature` for its default",
        ),
        (
            TextRequest(language="cobol"),
            InvalidRequest,
            "language 'cobol' is not served; expected one of python, javascript, rust, c, shell, text",
            "/language",
            None,
        ),
        (
            TextRequest(template="no hole"),
            NothingToFill,
            "the template holds no <mask>; expected exactly one",
            "/template",
            "write <mask> or <mask:24> where text is to be filled in",
        ),
        (
            TextRequest(template="<mask:0>"),
            NothingToFill,
            "the mask has 0 tokens; expected at least 1",
            "/template",
            "write <mask:24>",
        ),
        (
            TextRequest(template="<mask> and <mask:3>"),
            InvalidRequest,
            "the template holds 2 masks; expected exactly one",
            "/template",
            "send one request per mask",
        ),
        (
            TextRequest(template="<mask>", prefix="a"),
            InvalidRequest,
            "a template came together with a prefix or suffix; expected one or the other",
            "/template",
            "write the prefix and suffix around <mask> in the template",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_full(
    tokenizer: TextTokenizer,
    request_: TextRequest,
    kind: type[PerfuseError],
    detail: str,
    field_: str,
    hint: str | None,
) -> None:
    _, pipeline = build(tokenizer)
    assert refused(pipeline, request_) == (kind, detail, field_, hint)

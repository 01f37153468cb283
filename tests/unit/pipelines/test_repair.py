"""Text that does not parse is filled anew where the parser stopped, over networks whose mistakes are known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfuse.diffusion.samplers import RULES
from perfuse.errors import InvalidRequest
from perfuse.models.call import Call, Output
from perfuse.models.tokenizer import EOS, MASK, NULL, SEP, TextTokenizer
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.repair import LEAST_STEPS
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import Preview, Refinement, SyntaxProblem, TextRequest, TextResult

RIGHT = """def double(values):
    result = []
    for value in values:
        result.append(value * 2)
    return result
"""
WRONG = RIGHT.replace("values:\n", "values\n")
BROKEN = "def double(values:\n    return ]\n"
TOKENIZER = TextTokenizer.train([RIGHT] * 4 + ["Double every value."] * 4, 330)
PROBLEM = SyntaxProblem(message="SyntaxError: expected ':'", line=3, column=24)


@dataclass(eq=False)
class Writer:
    """Writes `first` where nothing stands around the span, and otherwise what `right` has there.

    With `second`, that is what it writes when nothing stands around for the second time.
    """

    first: str
    right: str = RIGHT
    second: str | None = None
    name: str = "writer@1"
    reproducible_rows: int = 4
    asked: list[tuple[str, str]] = field(default_factory=list)

    def key(self, call: Call) -> Hashable:
        return len(call.inputs["tokens"])

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        return [{"logits": self._logits(call.inputs["tokens"], call.inputs["order"])} for call in calls]

    def _logits(self, tokens: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        ids = tokens.tolist()
        start = int((order == 0).sum())
        suffix = TOKENIZER.decode(ids[ids.index(SEP) + 1 : ids.index(EOS)])
        prefix = TOKENIZER.decode(ids[ids.index(EOS) + 1 : start])
        if (prefix, suffix) not in self.asked:
            self.asked.append((prefix, suffix))
        words = self.first
        if (prefix or suffix) and self.right.startswith(prefix) and self.right.endswith(suffix):
            words = self.right[len(prefix) : len(self.right) - len(suffix)]
        elif self.second is not None and len(self.asked) > 1:
            words = self.second
        answer = TOKENIZER.encode(words)
        logits = torch.zeros(len(ids), TOKENIZER.size)
        for place in range(start - 1, len(ids)):
            i = place - start + (ids[place] != MASK)
            logits[place, answer[i] if i < len(answer) else NULL] = 20.0
        return logits


def fill(network: Writer, request: TextRequest, **options: object) -> TextResult:
    pipeline = TextPipeline({"writer": TextModel(network, TOKENIZER, limit=400, length=96)})
    return run_alone(pipeline, request, run=AloneRun(request.seed, **options))  # type: ignore[arg-type]


def test_the_line_at_fault_is_written_anew_and_the_rest_is_kept() -> None:
    network = Writer(WRONG)
    (output,) = fill(network, TextRequest(prompt="Double every value.")).outputs
    assert (output.text, output.finish_reason, output.syntax_error) == (RIGHT, "complete", None)
    (first, (prefix, suffix)) = network.asked
    assert first == ("", "")
    assert RIGHT.startswith(prefix)
    assert RIGHT.endswith(suffix)
    assert "for value in values" not in prefix + suffix
    (alone,) = fill(Writer(RIGHT), TextRequest(prompt="Double every value.")).outputs
    assert alone.forwards < output.forwards <= alone.forwards + LEAST_STEPS
    assert output.token_ids[: output.tokens] + (NULL,) * (96 - output.tokens) == output.token_ids
    assert output.confidence > 0.99


@pytest.mark.parametrize("sampler", ["auto", *RULES])
def test_every_sampler_mends(sampler: str) -> None:
    (output,) = fill(Writer(WRONG), TextRequest(prompt="Double.", sampler=sampler)).outputs
    assert (output.text, output.finish_reason) == (RIGHT, "complete") or sampler.startswith(("remdm", "ancestral"))


def test_what_is_only_checked_is_told_with_its_place() -> None:
    (output,) = fill(Writer(WRONG), TextRequest(prompt="Double.", syntax="check")).outputs
    assert (output.text, output.finish_reason, output.syntax_error) == (WRONG, "syntax", PROBLEM)
    (output,) = fill(Writer(WRONG), TextRequest(prompt="Double.", syntax="off")).outputs
    assert (output.text, output.finish_reason, output.syntax_error) == (WRONG, "complete", None)
    (output,) = fill(Writer(WRONG), TextRequest(prompt="Double.", language="text")).outputs
    assert (output.text, output.finish_reason, output.syntax_error) == (WRONG, "complete", None)


def test_what_cannot_be_mended_is_never_passed_over_in_silence() -> None:
    network = Writer(BROKEN, right="")
    (output,) = fill(network, TextRequest(prompt="Double.")).outputs
    assert output.finish_reason == "syntax"
    assert output.syntax_error is not None
    (checked,) = fill(Writer(BROKEN), TextRequest(prompt="Double.", syntax="check")).outputs
    assert output.steps_done <= checked.steps_done + max(checked.steps_done, LEAST_STEPS)


def test_all_is_written_anew_where_the_lines_are_of_no_help() -> None:
    (output,) = fill(Writer(WRONG, right="", second=RIGHT), TextRequest(prompt="Double.")).outputs
    assert (output.text.rstrip(), output.finish_reason) == (RIGHT.rstrip(), "complete")


def test_a_text_that_ran_into_its_length_says_so_with_its_fault() -> None:
    (output,) = fill(Writer(RIGHT), TextRequest(prompt="Double.", length=8)).outputs
    assert output.finish_reason == "length"
    assert output.syntax_error is not None


def test_prefix_and_suffix_stay_and_fragments_are_not_judged() -> None:
    prefix, suffix = RIGHT[:20], RIGHT[-18:]
    network = Writer("    result = (\n", right="x")
    (output,) = fill(network, TextRequest(prefix=prefix, suffix=suffix)).outputs
    assert output.text == prefix + output.fill + suffix
    assert output.finish_reason == "syntax"
    assert all(asked.startswith(prefix) and behind.endswith(suffix) for asked, behind in network.asked)
    (output,) = fill(Writer("x"), TextRequest(prefix=")", suffix="(")).outputs
    assert (output.finish_reason, output.syntax_error) == ("complete", None)
    (output,) = fill(Writer("x"), TextRequest(prefix=")", suffix="(", syntax="check")).outputs
    assert output.finish_reason == "syntax"


def test_nothing_is_called_settled_before_it_is_judged() -> None:
    shown: list[Preview] = []
    fill(Writer(WRONG), TextRequest(prompt="Double.", n=2), on_preview=shown.append)
    told = [preview.body["settled"] for preview in shown]
    assert told[-1] == [RIGHT, RIGHT]
    assert all(each == ["", ""] for each in told[:-1])
    assert shown[-1].body["canvas"] == RIGHT
    assert all(RIGHT[:20] in str(preview.body["canvas"]) for preview in shown[-3:])


def test_a_deadline_ends_the_repair_and_says_what_is_wrong() -> None:
    request, ticks = TextRequest(prompt="Double."), count()
    (unmended,) = fill(Writer(WRONG), replace(request, syntax="check")).outputs
    deadline = float(unmended.steps_done)
    (output,) = fill(Writer(WRONG), request, deadline=deadline, clock=lambda: float(next(ticks))).outputs
    assert output.steps_done == unmended.steps_done + 1
    assert (output.text, output.finish_reason, output.syntax_error) == (WRONG, "syntax", PROBLEM)


@settings(max_examples=15, deadline=None)
@given(steps=st.integers(1, 40), seed=st.integers(0, 99), temperature=st.sampled_from([0.0, 1.0]))
def test_steps_are_kept_and_runs_repeat(steps: int, seed: int, temperature: float) -> None:
    request = TextRequest(prompt="Double.", steps=steps, seed=seed, temperature=temperature, n=2)
    result = fill(Writer(WRONG), request)
    assert all(output.steps_done <= steps for output in result.outputs)
    assert fill(Writer(WRONG), request) == result


def test_guidance_goes_on_in_the_repair() -> None:
    (output,) = fill(Writer(WRONG), TextRequest(prompt="Double.", guidance=2.0)).outputs
    assert output.text == RIGHT
    assert output.forwards == 2 * output.steps_done


def test_code_to_be_refined_is_shown_with_its_error() -> None:
    error = f"SyntaxError: {PROBLEM.message} (m.py, line 3)"
    network = Writer(RIGHT)
    refine = Refinement(code=WRONG, error=error)
    (output,) = fill(network, TextRequest(prompt="Double.", refine=refine)).outputs
    assert (output.text, output.fill, network.asked) == (RIGHT, RIGHT, [("", "")])
    network = Writer(RIGHT)
    refine = Refinement(code=WRONG, error=error, width="line")
    (output,) = fill(network, TextRequest(prompt="Double.", refine=refine)).outputs
    line = "    for value in values:\n"
    assert (output.text, output.fill) == (RIGHT, line)
    assert network.asked == [tuple(RIGHT.split(line))]


@pytest.mark.parametrize(
    ("request_", "detail", "field_", "hint"),
    [
        (
            TextRequest(refine=Refinement(code="x", error="e"), prefix="a"),
            "refine came together with prefix; the code to be refined is all there is",
            "/prefix",
            "leave out `prefix`",
        ),
        (
            TextRequest(refine=Refinement(code="x", error="e"), template="<mask>"),
            "refine came together with template; the code to be refined is all there is",
            "/template",
            "leave out `template`",
        ),
        (
            TextRequest(refine=Refinement(code=" ", error="e")),
            "the code to be refined is empty",
            "/refine/code",
            "leave out `refine`",
        ),
        (
            TextRequest(syntax="check", language="text"),
            "syntax is 'check' and the language 'text' has no parser",
            "/syntax",
            'leave out `syntax`, or say "off"',
        ),
        (
            TextRequest(syntax="repair", regex="a+"),
            "syntax is 'repair' beside a schema or regex",
            "/syntax",
            'leave out `syntax`, or say "off"',
        ),
        (
            TextRequest(syntax="always"),  # type: ignore[arg-type]
            "syntax 'always' is not served; expected one of auto, repair, check, off",
            "/syntax",
            None,
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_full(
    request_: TextRequest, detail: str, field_: str, hint: str | None
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fill(Writer(RIGHT), request_)
    assert (caught.value.detail, caught.value.field, caught.value.hint) == (detail, field_, hint)

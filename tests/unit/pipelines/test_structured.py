"""Text with a structure: whatever the network says, whatever the sampler, what comes out is valid."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfuse.diffusion.samplers import RULES
from perfuse.errors import CanvasTooLong, CanvasTooShort, InvalidRequest, PerfuseError, UnsupportedConstraint
from perfuse.models.call import Call, Output
from perfuse.models.tokenizer import EOS, MASK, NULL, TextTokenizer
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.sampling import UNSTRUCTURED
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import Preview, SamplerOptions, TextRequest, TextResult

TEXTS = ['{"name": "apples", "count": 7, "tags": ["a", "b"]}', "def double(values):\n    return values * 2\n"]
TOKENIZER = TextTokenizer.train(TEXTS * 4, 330)
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "count": {"type": "integer", "minimum": -5, "maximum": 90},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "grün"]}, "maxItems": 3},
        "weight": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
    },
    "required": ["name", "count"],
    "additionalProperties": False,
}
ASKED = json.dumps(SCHEMA)
KEEPING = [rule for rule in RULES if rule not in UNSTRUCTURED]


@dataclass(eq=False)
class Noise:
    """Says anything, by what it is shown; with `answer` it knows a text (as next token, and at masks)."""

    answer: Sequence[int] = ()
    sharp: float = 3.0
    name: str = "noise@1"
    reproducible_rows: int = 4

    def key(self, call: Call) -> Hashable:
        return len(call.inputs["tokens"])

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        return [{"logits": self._logits(call.inputs["tokens"])} for call in calls]

    def _logits(self, tokens: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(int((tokens * torch.arange(1, len(tokens) + 1)).sum()))
        logits = torch.randn(len(tokens), TOKENIZER.size, generator=generator) * self.sharp
        start = int((tokens == EOS).nonzero()[0]) + 1
        for place in range(start - 1, len(tokens) if self.answer else 0):
            i = place - start + (int(tokens[place]) != MASK)
            logits[place, self.answer[i] if i < len(self.answer) else NULL] += 20.0
        return logits


def build(network: Noise | None = None, length: int = 64) -> TextPipeline:
    return TextPipeline({"noise": TextModel(network or Noise(), TOKENIZER, limit=160, length=length)})


def fill(request: TextRequest, network: Noise | None = None, **options: object) -> TextResult:
    return run_alone(build(network), request, run=AloneRun(request.seed, **options))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(
    sampler=st.sampled_from(KEEPING),
    stop=st.booleans(),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    seed=st.integers(0, 2**32),
    length=st.integers(20, 70),
    steps=st.none() | st.integers(1, 9),
    guidance=st.sampled_from([1.0, 2.0]),
)
def test_what_comes_out_is_valid(
    sampler: str, stop: bool, temperature: float, seed: int, length: int, steps: int | None, guidance: float
) -> None:
    request = TextRequest(
        prompt="apples",
        prefix="x = ",
        suffix="\n",
        schema=ASKED,
        sampler=sampler,
        temperature=temperature,
        seed=seed,
        length=max(length, 40),
        steps=None if sampler == "verified" else steps,
        guidance=guidance,
        n=2,
        sampler_options=SamplerOptions(stop_entropy=100.0 if stop and sampler != "verified" else None),
    )
    for output in fill(request).outputs:
        value = json.loads(output.fill)
        jsonschema.validate(value, SCHEMA)
        assert json.dumps(value, ensure_ascii=False) == output.fill
        assert output.text == f"x = {output.fill}\n"
        assert (output.finish_reason, MASK in output.token_ids) == ("complete", False)


@pytest.mark.parametrize("sampler", sorted(UNSTRUCTURED))
def test_a_sampler_that_cannot_keep_a_structure_is_refused(sampler: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build().estimate(TextRequest(schema=ASKED, sampler=sampler))
    able = "auto, verified, entropy, threshold, factor, hierarchy, low_confidence, low_entropy, random, ancestral"
    assert str(caught.value) == f"the sampler {sampler!r} cannot keep a structure; expected one of {able}"
    assert caught.value.field == "/sampler"


@pytest.mark.parametrize("sampler", KEEPING)
def test_a_pattern_matches_the_whole_fill(sampler: str) -> None:
    pattern = r"def [a-z]+\((x|xs)\):\n    return [^\n]*é\n"
    (output,) = fill(TextRequest(regex=pattern, sampler=sampler, temperature=1.0, seed=3)).outputs
    assert re.fullmatch(pattern, output.fill)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("text", [TEXTS[1], TEXTS[0] * 9])
def test_a_structure_that_allows_everything_changes_nothing(text: str, temperature: float) -> None:
    network = Noise(TOKENIZER.encode(text), sharp=3.5)
    # of a wider window this noise fills bytes that are no UTF-8, which no structure allows
    options = SamplerOptions(window=16)
    free = TextRequest(temperature=temperature, seed=5, length=40, sampler="verified", sampler_options=options)
    (loose,) = fill(free, network).outputs
    (bound,) = fill(replace(free, regex=r"(?s).*"), network).outputs
    end = bound.token_ids.index(NULL) if NULL in bound.token_ids else None
    assert (bound.token_ids[:end], bound.forwards) == (loose.token_ids[:end], loose.forwards)
    assert end is None or loose.token_ids[end] == NULL


def test_a_network_that_knows_a_valid_text_writes_it() -> None:
    wanted = '{"name": "apples", "count": 7, "tags": ["a", "b"]}'
    (output,) = fill(TextRequest(schema=ASKED), Noise(TOKENIZER.encode(wanted), sharp=1.0)).outputs
    assert (output.fill, output.finish_reason) == (wanted, "complete")
    assert output.confidence > 0.99
    assert output.forwards < output.tokens / 2


@pytest.mark.parametrize("sampler", KEEPING)
def test_a_deadline_leaves_a_valid_text(sampler: str) -> None:
    ticks = count()
    (output,) = fill(
        TextRequest(schema=ASKED, sampler=sampler, temperature=1.0), deadline=2.0, clock=lambda: float(next(ticks))
    ).outputs
    jsonschema.validate(json.loads(output.fill), SCHEMA)
    assert (output.finish_reason, output.steps_done) == ("deadline", 3)
    assert MASK not in output.token_ids


def test_previews_show_how_it_begins() -> None:
    shown: list[Preview] = []
    (output,) = fill(TextRequest(schema=ASKED), on_preview=shown.append).outputs
    settled = [preview.body["settled"] for preview in shown]
    assert all(output.fill.startswith(part[0]) for part in settled if isinstance(part, list))
    assert settled[-1] == [output.fill]


def refused(request: TextRequest) -> tuple[type[PerfuseError], str, str | None, str | None]:
    with pytest.raises(PerfuseError) as caught:
        build().estimate(request)
    return type(caught.value), caught.value.detail, caught.value.field, caught.value.hint


def test_what_cannot_be_guaranteed_is_refused_before_a_step() -> None:
    assert refused(TextRequest(schema='{"type": "null"}', regex="a")) == (
        InvalidRequest,
        "a schema came together with a regex; expected one or the other",
        "/regex",
        "write it as `pattern` of a string in the schema",
    )
    assert refused(TextRequest(schema='{"not": {}}')) == (
        UnsupportedConstraint,
        'the keyword "not" is not supported here',
        "/schema/not",
        "leave it out, or check it yourself in what comes back",
    )
    assert refused(TextRequest(regex="z{9}", length=8)) == (
        CanvasTooShort,
        "the fill has 8 tokens; the shortest text that is allowed has 9",
        "/length",
        "ask for a length of 9 or more",
    )
    assert refused(TextRequest(regex="z{158}")) == (
        CanvasTooShort,
        "the fill has 157 tokens; the shortest text that is allowed has 158",
        "/prompt",
        "shorten what is given",
    )
    assert refused(TextRequest(regex="z", length=200))[0] is CanvasTooLong


def test_a_long_structure_gets_a_longer_canvas_than_usual() -> None:
    (output,) = fill(TextRequest(regex="z{70}")).outputs
    assert (output.fill, len(output.token_ids)) == ("z" * 70, 140)

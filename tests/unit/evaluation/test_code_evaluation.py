"""The evaluation of code-small: intervals, retrieval baseline, twin, gaps, and the rates that come of them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
import torch

from perfuse import sandbox
from perfuse.evaluation import code
from perfuse.evaluation.neighbours import NearestSentence
from perfuse.evaluation.twin import complete
from perfuse.models.call import Call, Output
from perfuse.models.text import LoadedText, TextConfig, save_text
from perfuse.models.tokenizer import EOS, NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.requests import TextOutput, TextRequest
from perfuse.training.corpus.tasks import held_out_tasks

needs_jail = pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")


def test_the_nearest_sentence_shares_the_rare_words() -> None:
    known = ["double the even numbers", "double the odd numbers", "reverse the words", "square 7 of the numbers"]
    index = NearestSentence(known)
    assert index.find("please reverse all words") == 2
    assert index.find("Double odd numbers") == 1
    assert index.find("the square of 7") == 3


class Parrot:
    """A causal network that always continues `script`, then ends."""

    name = "parrot@1"
    reproducible_rows = 1

    def __init__(self, script: list[int], vocabulary: int) -> None:
        self.script, self.vocabulary = [*script, NULL], vocabulary

    def key(self, call: Call) -> Hashable:
        return len(call.inputs["tokens"])

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        outputs: list[Output] = []
        for call in calls:
            tokens = call.inputs["tokens"].tolist()
            logits = torch.zeros(len(tokens), self.vocabulary)
            logits[-1, self.script[len(tokens) - tokens.index(EOS) - 1]] = 5.0
            outputs.append({"logits": logits})
        return outputs


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(["def f(x):\n    return x\n"] * 3, 300)


def test_the_twin_writes_token_by_token_until_the_end(tokenizer: TextTokenizer) -> None:
    script = tokenizer.encode("def f(x):\n")
    config = TextConfig("parrot", 1, DiffusionConfig(tokenizer.size, causal=True), 128, 96, "", {})
    model = LoadedText(Parrot(script, tokenizer.size), tokenizer, config, 0)
    assert complete(model, ["a", "longer sentence"]) == [("def f(x):\n", len(script) + 1)] * 2
    cut_short = complete(model, ["a"], limit=3)
    assert cut_short == [(tokenizer.decode(script[:3]), 3)]


def test_gaps_join_to_a_styled_function_and_half_show_the_sentence() -> None:
    tasks = held_out_tasks(60)
    gaps = code.gaps(tasks)
    assert [bool(gap.prompt) for gap in gaps] == [True, False] * 30
    assert gaps == code.gaps(tasks)
    assert any("\r\n" in gap.prefix + gap.suffix for gap in gaps)
    assert any("\t" in gap.prefix + gap.suffix for gap in gaps)


def oracle(request: TextRequest) -> TextOutput:
    """Knows the function of every sentence; without a suffix to fit it writes nothing."""
    known = {task.prompt: task.code for task in held_out_tasks(8)}
    text = known.get(request.prompt, "")
    if request.prefix or request.suffix:
        text = text[len(request.prefix) : len(text) - len(request.suffix)] if request.suffix else ""
        return TextOutput(
            text=request.prefix + text + request.suffix, fill=text, finish_reason="complete", confidence=1.0,
            steps_done=2, forwards=2,
        )  # fmt: skip
    return TextOutput(text=text, fill=text, finish_reason="complete", confidence=1.0, steps_done=3, forwards=3)


@needs_jail
def test_canonical_code_passes_and_a_neighbours_code_does_not() -> None:
    tasks = held_out_tasks(8)
    right = code.attempt_all(oracle, tasks, TextRequest())
    assert code.rate(right).as_json() == {
        "pass_at_1": 1.0, "low": 0.6756, "high": 1.0, "n": 8, "mean_forwards": 3.0
    }  # fmt: skip
    assert code.rate(code.nearest(tasks, training=500)).passed <= 2


def test_what_parses_is_python() -> None:
    assert code.parses("def f():\n    return 1\n")
    assert not code.parses("def f(:\n")
    assert not code.parses("\x00")


@needs_jail
def test_infilling_reports_identity_and_both_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfuse.evaluation.code.restyle", lambda text, _rng: text)
    found = code.evaluate_infill(tasks=8, fill=oracle)
    assert found["identical"] == 1.0
    assert set(found) == {"identical", "with_suffix", "suffix_withheld", "with_sentence", "without_sentence"}
    assert json.loads(json.dumps(found))["with_sentence"]["pass_at_1"] == 1.0


@needs_jail
def test_the_report_has_the_published_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfuse.evaluation.code.NEIGHBOURS", 200)
    monkeypatch.setattr("perfuse.evaluation.code.nearest", lambda tasks: code.attempt_all(oracle, tasks, TextRequest()))
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    for name, causal in (("model", False), ("twin", True)):
        shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8, max_length=256, causal=causal)
        torch.manual_seed(0)
        weights = UnifiedScoreNetwork(shape).state_dict()
        save_text(tmp_path / name, TextConfig(name, 1, shape, 256, 6, "", {}), weights, tokenizer)
    found = code.evaluate_code(tmp_path / "model", tmp_path / "twin", tasks=2)
    assert list(found) == ["pass_at_1", "low", "high", "n", "mean_forwards", "syntax_valid", "baselines"]
    assert found["n"] == 2
    rows = found["baselines"]
    assert isinstance(rows, dict)
    assert list(rows) == ["entropy_bounded", "one_token_per_step", "untrained", "nearest_neighbour", "ar_twin"]
    assert rows["one_token_per_step"]["mean_forwards"] == 6.0
    assert rows["nearest_neighbour"]["pass_at_1"] == 1.0

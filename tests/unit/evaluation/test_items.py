"""Items are filled on equal terms, run in the jail and counted: too long is failed, exact is character by character."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest
import torch

from perfuse import sandbox
from perfuse.evaluation.items import Filled, Item, compared, filled_by_model, filled_by_twin, scored, table_of
from perfuse.models.call import Call, Output
from perfuse.models.canvas import given
from perfuse.models.text import LoadedText, TextConfig
from perfuse.models.tokenizer import MASK, NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig

needs_jail = pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")

LIMIT = 64
DOUBLE = Item("k", "", "def double(x):\n", "", "    return 2 * x\n", "double", (sandbox.Case([2], 4),))
TESTED = Item(
    "k", "", "def double(y):\n", "", "    return y + y\n", "double",
    tests="def check(candidate):\n    assert candidate(3) == 6, 'no'\n\ncheck(double)\n",
)  # fmt: skip
LONG = Item("k", "", "# much is given\n" * 40, "", "x", "f", (sandbox.Case([2], 4),))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train([item.prefix + item.middle for item in (DOUBLE, TESTED)] * 3, 320)


class Script:
    """Says the same text behind each head that it knows, then nulls: of a mask itself, of a token what is next."""

    name = "script@1"
    reproducible_rows = 1

    def __init__(self, script: list[int], vocabulary: int, heads: Sequence[tuple[int, ...]]) -> None:
        self.script, self.vocabulary, self.heads = script, vocabulary, heads

    def key(self, call: Call) -> Hashable:
        return len(call.inputs["tokens"])

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        return [{"logits": self.logits(call.inputs["tokens"].tolist())} for call in calls]

    def logits(self, tokens: list[int]) -> torch.Tensor:
        start = next(len(head) for head in self.heads if tuple(tokens[: len(head)]) == head)
        logits = torch.zeros(len(tokens), self.vocabulary)
        for i in range(start - 1, len(tokens)):
            place = i - start + (tokens[i] != MASK)
            logits[i, self.script[place] if place < len(self.script) else NULL] = 50.0
        return logits


def saying(text: str, tokenizer: TextTokenizer) -> LoadedText:
    heads = [given((), tokenizer.encode(item.prefix), ()) for item in (DOUBLE, TESTED)]
    config = TextConfig("script", 1, DiffusionConfig(tokenizer.size, causal=True), LIMIT, 32, "", {})
    return LoadedText(Script(tokenizer.encode(text), tokenizer.size, heads), tokenizer, config, 0)


def test_model_and_twin_fill_the_same_canvas(tokenizer: TextTokenizer) -> None:
    model = saying(DOUBLE.middle, tokenizer)
    length = len(tokenizer.encode(DOUBLE.middle))
    ours, theirs = (fill(model, [LONG, DOUBLE], LIMIT) for fill in (filled_by_model, filled_by_twin))
    assert [one.text for one in ours] == [None, DOUBLE.middle]
    assert theirs == [Filled(None, 0), Filled(DOUBLE.middle, length + 1)]


def test_a_text_that_does_not_end_is_cut_at_the_most_tokens_or_with_the_canvas(tokenizer: TextTokenizer) -> None:
    endless = saying("x" * 200, tokenizer)
    room = LIMIT - len(given((), tokenizer.encode(DOUBLE.prefix), ()))
    for fill in (filled_by_model, filled_by_twin):
        assert [fill(endless, [DOUBLE], most)[0].text for most in (3, LIMIT)] == ["x" * 3, "x" * room]


@needs_jail
@pytest.mark.parametrize("item", [DOUBLE, TESTED])
def test_a_program_is_right_whether_cases_or_source_tell_so(item: Item) -> None:
    texts = (item.middle, "    return 2*x if 'x' in locals() else y * 2\n", "    return 7\n", "    return (\n")
    found = scored([item] * 4, [Filled(text, 2) for text in texts])
    assert (found.passed, found.exact) == ([True, True, False, False], [True, False, False, False])
    assert found.parsed == [True, True, True, False]


@needs_jail
def test_a_program_that_leaves_in_the_middle_of_its_tests_does_not_pass() -> None:
    text = "    raise SystemExit(0)\n"
    assert scored([TESTED], [Filled(text, 1)]).passed == [False]


@needs_jail
def test_what_is_too_long_failed_but_was_not_asked() -> None:
    found = scored([LONG, DOUBLE], [Filled(None, 0), Filled(DOUBLE.middle, 3)])
    assert found.as_json() == {
        "n": 2,
        "pass_at_1": {"value": 0.5, "low": 0.0945, "high": 0.9055},
        "exact_match": {"value": 0.5, "low": 0.0945, "high": 0.9055},
        "syntax_valid": {"value": 1.0, "low": 0.2065, "high": 1.0},
        "mean_forwards": 3.0,
    }


@needs_jail
def test_model_and_twin_are_compared_item_by_item(tokenizer: TextTokenizer) -> None:
    right, wrong = (saying(text, tokenizer) for text in (DOUBLE.middle, "    return 7\n"))
    found = compared([DOUBLE, LONG], right, wrong)
    assert (found["n"], found["too_long"]) == (2, 1)
    assert found["passed_beside_twin"] == {"difference": 0.5, "low": -0.193, "high": 1.193, "won": 1, "lost": 0}
    table = table_of("A caption.", ["kind"], [{**found, "kind": "k"}])
    assert table.startswith(
        "A caption. *A short run: fewer than 100 items in a row.*\n\n"
        "| Kind | Model | n | pass@1 | Exact | Python | Over the twin | Forwards |\n"
    )
    assert "| k | diffusion | 2 | 0.500 (0.095 to 0.905) | 0.500 (0.095 to 0.905) | 1.000 (0.206 to 1.000) |" in table
    assert "| k | twin | 2 | 0.000 (0.000 to 0.658) |" in table

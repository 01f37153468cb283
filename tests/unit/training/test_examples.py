"""Rows are canvases as requests bring them; batches have few shapes and lose nothing."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from perfuse.models.tokenizer import BOS, EOS, NULL, SEP, TextTokenizer
from perfuse.training.answers import Answer
from perfuse.training.corpus.pairs import Pair
from perfuse.training.corpus.tasks import training_tasks
from perfuse.training.examples import LIMIT, Corpus, Row, Shares, canvas, cut, endless, pack, pool, restyle

PAIRS = [Pair("Give the sum of both.", "def plus(a, b):\n    return a + b\n")]
MIXED = Shares(cuts=0.3, raw=0.05, pairs=0.1, foreign=0.2, records=0.1, repairs=0.1)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    tasks = islice(training_tasks(Random(0)), 300)
    return TextTokenizer.train((text for task in tasks for text in (task.prompt, task.code)), 512)


def test_a_canvas_decodes_to_its_parts(tokenizer: TextTokenizer) -> None:
    row = canvas(tokenizer, ("Add one.", "def f(", "x):\r\n\treturn x", " + 1  # 🚀\n"), Random(0))
    sep, end = row.ids.index(SEP), row.ids.index(EOS)
    assert row.ids[0] == BOS
    assert tokenizer.decode(row.ids[:sep]) == "Add one."
    assert tokenizer.decode(row.ids[sep:end]) == " + 1  # 🚀\n"
    assert tokenizer.decode(row.ids[end : row.start]) == "def f("
    assert tokenizer.decode(row.ids[row.start :]) == "x):\r\n\treturn x"
    assert row.ids[-1] == NULL


def test_rows_fit_the_model_and_end_with_a_null(tokenizer: TextTokenizer) -> None:
    for row in islice(endless(tokenizer, Random(1), MIXED, PAIRS), 300):
        assert len(row.ids) <= LIMIT
        assert 0 < row.start < len(row.ids)
        assert row.ids[-1] == NULL


def test_a_models_own_answers_are_shown_whole_or_behind_their_first_line() -> None:
    told = [Answer("Say one.", "def one():\n    return 1\n")]
    shares = Shares(cuts=0.0, raw=0.0, answers=1.0)
    rows = set(islice(Corpus(Random(0), shares, answers=told), 100))
    assert rows == {
        ("Say one.", "", "def one():\n    return 1\n", ""),
        ("Say one.", "def one():", "\n    return 1\n", ""),
    }
    assert shares.whole == 0.0


def test_cuts_join_to_the_text() -> None:
    rng = Random(0)
    for _ in range(200):
        prefix, middle, suffix = cut("def f():\n    return '🚀'\n", rng)
        assert prefix + middle + suffix == "def f():\n    return '🚀'\n"
        assert middle


def test_restyled_code_still_compiles_and_shows_every_style() -> None:
    rng = Random(0)
    code = "def f(x):\n    if x:\n        return 1\n    return 2\n"
    styles = [restyle(code, rng) for _ in range(200)]
    for text in styles:
        compile(text.replace("\r\n", "\n"), "f", "exec")
    for sign in ("\t", "\r\n", "🚀", "  # "):
        assert any(sign in text for text in styles)


@pytest.mark.parametrize("copies", [False, True])
def test_batches_hold_every_row_once_within_their_budget(tokenizer: TextTokenizer, copies: bool) -> None:
    rows = list(islice(endless(tokenizer, Random(2), MIXED, PAIRS), 200))
    batches = pack(rows, 1024, copies=copies)
    assert sum(len(batch.tokens) for batch in batches) == 200
    given, copied = [], []
    for batch in batches:
        for tokens, copy, keys in zip(batch.tokens, batch.places.copy, batch.places.keys, strict=True):
            given.append(tuple(tokens[keys & ~copy].tolist()))
            copied.append(tuple(tokens[copy].tolist()))
    assert sorted(given) == sorted(row.ids for row in rows)
    assert sorted(copied) == sorted(row.ids[row.start :] if copies else () for row in rows)
    assert all(batch.tokens.numel() <= 1024 for batch in batches)
    assert all(batch.tokens.shape[1] % 16 == 0 for batch in batches)


def test_a_copy_stands_where_its_span_stands() -> None:
    (batch,) = pack([Row((5, 6, 7, 8, 9), 3)], 64, copies=True)
    assert batch.tokens[0, :8].tolist() == [5, 6, 7, 8, 9, 8, 9, NULL]
    assert batch.positions[0, :7].tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert batch.places.index[0, :8].tolist() == [-1, -1, -1, 0, 1, 0, 1, -1]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = pack([Row(tuple(range(40)), 1), Row((1, 2, 3), 1)], 32, copies=False)
    assert [tuple(batch.tokens.shape) for batch in batches] == [(1, 48), (1, 16)]


def test_a_pool_is_a_function_of_seed_and_index(tokenizer: TextTokenizer) -> None:
    def ids(seed: int, index: int) -> list[list[list[int]]]:
        return [
            b.tokens.tolist()
            for b in pool(tokenizer, seed, index, shares=Shares(cuts=0.4), copies=True, rows=20, tokens=512)
        ]

    assert ids(1, 2) == ids(1, 2)
    assert ids(1, 2) != ids(1, 3)
    assert ids(1, 2) != ids(2, 2)


def test_every_source_has_its_share() -> None:
    parts = list(islice(Corpus(Random(3), MIXED, PAIRS), 3000))
    prompts = [prompt for prompt, *_ in parts]
    found = {
        "pairs": sum(prompt == PAIRS[0].prompt for prompt in prompts),
        "foreign": sum(prompt.partition(":")[0] in ("javascript", "rust", "c", "shell") for prompt in prompts),
        "records": sum(middle.startswith("{") and middle.rstrip().endswith("}") for _, _, middle, _ in parts),
        "repairs": sum("\nerror: " in prompt for prompt in prompts),
    }
    for name, count in found.items():
        assert abs(count / 3000 - getattr(MIXED, name)) < 0.03, name
    assert MIXED.whole == pytest.approx(0.15)

"""Rows are canvases as requests bring them; batches have few shapes and lose nothing."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from perfuse.models.tokenizer import BOS, EOS, NULL, SEP, TextTokenizer
from perfuse.training.corpus.tasks import training_tasks
from perfuse.training.examples import (
    LIMIT,
    Row,
    canvas,
    causal_rows,
    cut,
    diffusion_rows,
    pack,
    pool,
    restyle,
    spare,
)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    tasks = islice(training_tasks(Random(0)), 300)
    return TextTokenizer.train((text for task in tasks for text in (task.prompt, task.code)), 512)


def test_a_canvas_decodes_to_its_parts(tokenizer: TextTokenizer) -> None:
    row = canvas(tokenizer, ("Add one.", "def f(", "x):\r\n\treturn x", " + 1  # 🚀\n"), Random(0))
    assert (row.ids[0], row.ids[-1]) == (BOS, EOS)
    split_at = row.ids.index(SEP)
    assert tokenizer.decode(row.ids[:split_at]) == "Add one."
    assert tokenizer.decode(row.ids[split_at : row.start]) == "def f("
    assert tokenizer.decode(row.ids[row.start : row.end]) == "x):\r\n\treturn x"
    assert tokenizer.decode(row.ids[row.end :]) == " + 1  # 🚀\n"


def test_rows_fit_the_model_and_have_a_span(tokenizer: TextTokenizer) -> None:
    for row in islice(diffusion_rows(tokenizer, Random(1)), 300):
        assert len(row.ids) <= LIMIT
        assert 0 < row.start < row.end < len(row.ids)


def test_causal_rows_end_with_the_end_and_hold_no_nulls(tokenizer: TextTokenizer) -> None:
    for row in islice(causal_rows(tokenizer, Random(1)), 100):
        assert row.end == len(row.ids)
        assert row.ids[-1] == EOS
        assert NULL not in row.ids


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


def test_spare_room_is_none_round_full_or_a_little() -> None:
    rng = Random(0)
    room = [spare(40, rng) for _ in range(500)]
    assert {0, 24, 56} <= set(room)
    assert max(room) <= 80


def test_batches_hold_every_row_once_within_their_budget(tokenizer: TextTokenizer) -> None:
    rows = list(islice(diffusion_rows(tokenizer, Random(2)), 200))
    batches = pack(rows, 1024)
    assert sum(len(batch.tokens) for batch in batches) == 200
    seen = sorted(
        tuple(tokens[keys].tolist()) for batch in batches for tokens, keys in zip(batch.tokens, batch.keys, strict=True)
    )
    assert seen == sorted(row.ids for row in rows)
    assert all(batch.tokens.numel() <= 1024 for batch in batches)
    assert all(batch.tokens.shape[1] % 16 == 0 for batch in batches)
    assert sum(int(batch.span.sum()) for batch in batches) == sum(row.end - row.start for row in rows)


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = pack([Row(tuple(range(40)), 1, 39), Row((1, 2, 3), 1, 2)], 32)
    assert [tuple(batch.tokens.shape) for batch in batches] == [(1, 48), (1, 16)]


def test_a_pool_is_a_function_of_seed_and_index(tokenizer: TextTokenizer) -> None:
    def ids(seed: int, index: int) -> list[list[list[int]]]:
        return [b.tokens.tolist() for b in pool(tokenizer, seed, index, causal=False, rows=20, tokens=512)]

    assert ids(1, 2) == ids(1, 2)
    assert ids(1, 2) != ids(1, 3)
    assert ids(1, 2) != ids(2, 2)

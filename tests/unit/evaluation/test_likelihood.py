"""Likelihoods of held-out text: exact ones are products of what the network says, the bound's mean is its own."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from perfuse.diffusion.blocks import attends
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evaluation import likelihood
from perfuse.evaluation.likelihood import END, START, Passage, rewritten, told_ahead, told_in_blocks
from perfuse.models.canvas import given
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import MASK, NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training.corpus.tasks import held_out_tasks

WORDS = 40


def network(*, causal: bool = False) -> UnifiedScoreNetwork:
    torch.manual_seed(3)
    shape = DiffusionConfig(WORDS, width=32, layers=2, heads=2, condition=8, max_length=64, causal=causal)
    return UnifiedScoreNetwork(shape).eval().requires_grad_(requires_grad=False)


PASSAGES = [
    Passage(given((7, 8), (), ()), (11, 12, 13, 14, 15, NULL), 9),
    Passage(given((), (), ()), (21, 22, 23, 24), 4),
    Passage(given((9,), (), ()), (31, NULL), 2),
]


def nats_of(model: UnifiedScoreNetwork, shown: list[int], order: list[int], places: list[int], ids: list[int]) -> float:
    """−log p of `ids` at `places` of one row."""
    logits = model(torch.tensor([shown]), attends(torch.tensor([order])))[0].log_softmax(-1)
    return -sum(float(logits[place, token]) for place, token in zip(places, ids, strict=True))


@pytest.mark.parametrize("causal", [True, False])
def test_a_text_told_ahead_is_the_product_of_its_next_tokens(causal: bool) -> None:
    model = network(causal=causal)
    found = told_ahead(model, PASSAGES)
    for passage, nats in zip(PASSAGES, found.tolist(), strict=True):
        start = len(passage.head)
        expected = 0.0
        for i, token in enumerate(passage.ids):
            shown = [*passage.head, *passage.ids[:i]]
            order = [0] * start + list(range(1, i + 1))
            expected += nats_of(model, shown, order, [len(shown) - 1], [token])
        assert nats == pytest.approx(expected, rel=1e-4)


def in_block(model: UnifiedScoreNetwork, head: list[int], block: tuple[int, ...], masked: tuple[int, ...]) -> float:
    """−log p of the masked tokens of a block behind `head`, of which the first three ids are given."""
    shown = head + [MASK if i in masked else token for i, token in enumerate(block)]
    order = [0] * 3 + list(range(1, len(head) - 2)) + [len(head) - 2] * len(block)
    return nats_of(model, shown, order, [len(head) + i for i in masked], [block[i] for i in masked])


def test_blocks_of_one_are_the_product_of_their_masks() -> None:
    model, passage = network(), PASSAGES[1]
    expected = sum(
        in_block(model, [*passage.head, *passage.ids[:i]], (token,), (0,)) for i, token in enumerate(passage.ids)
    )
    (found,) = told_in_blocks(model, [passage], 1, 7, torch.Generator()).tolist()
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_mean_of_the_estimates_is_the_bound() -> None:
    """Σ over blocks of the mean over k of 4/k · mean over the sets of k masks; nulls fill the last block."""
    model, head, ids = network(), list(given((), (), ())), (21, 22, 23, 24, 25, NULL)
    exact = 0.0
    for start, block in ((0, ids[:4]), (4, (25, NULL, NULL, NULL))):
        for k in range(1, 5):
            sets = list(itertools.combinations(range(4), k))
            told = [in_block(model, [*head, *ids[:start]], block, masked) for masked in sets]
            exact += sum(told) / len(told) * 4 / k / 4
    generator, passage = torch.Generator().manual_seed(0), Passage(tuple(head), ids, 9)
    found = torch.cat([told_in_blocks(model, [passage] * 16, 4, 4, generator) for _ in range(20)])
    error = float(found.std()) / math.sqrt(len(found))
    assert 0 < error < 0.005 * exact
    assert abs(float(found.mean()) - exact) <= 4 * error


def test_raw_windows_lie_apart_and_know_their_bytes(tmp_path: Path) -> None:
    text = "".join(f"name_{i} = {i * i}  # é\n" for i in range(60))
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n" * 60)
    tokenizer = TextTokenizer.train([text], 300)
    ids = tokenizer.encode(text)
    count = len(ids) // 32
    found = likelihood.raw_windows(tokenizer, [tmp_path / "latin.py", tmp_path / "a.py"], count, 32)
    assert {window.ids for window in found} == {tuple(ids[i * 32 : (i + 1) * 32]) for i in range(count)}
    assert sum(window.size for window in found) == sum(len(tokenizer.pieces()[i]) for i in ids[: count * 32])
    with pytest.raises(InvalidRequest, match=rf"^expected {count + 1} windows of 32 tokens; the 1 files hold {count}$"):
        likelihood.raw_windows(tokenizer, [tmp_path / "a.py"], count + 1, 32)


def test_what_no_training_reads_is_the_package_without_its_templates() -> None:
    names = {path.relative_to(likelihood.PACKAGE).as_posix() for path in likelihood.unread_files()}
    assert "models/text.py" in names
    assert "training/corpus/numbers.py" not in names


def saved(folder: Path, name: str, tokenizer: TextTokenizer, *, causal: bool) -> Path:
    shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8, causal=causal)
    torch.manual_seed(0)
    save_text(
        folder / name, TextConfig(name, 1, shape, 256, 6, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer
    )
    return folder / name


def test_the_report_has_a_row_per_way_to_tell_a_text(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    model, twin = (saved(tmp_path, name, tokenizer, causal=name == "twin") for name in ("model", "twin"))
    found = likelihood.evaluate_likelihood(model, twin, tasks=3, windows=2, samples=1, speed=1)
    assert json.loads(json.dumps(found)) == found
    texts = found["texts"]
    assert isinstance(texts, list)
    for text, n in zip(texts, (3, 2, 2), strict=True):
        assert (text["n"], [(row["model"], row["how"]) for row in text["rows"]]) == (
            n,
            [("twin@1", "left to right"), ("model@1", "left to right")]
            + [("model@1", f"blocks of {size}") for size in (1, 4, 8, 16, 32)],
        )
        assert text["rows"][0]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert all(row["bits_per_byte"]["low"] <= row["bits_per_byte"]["value"] for row in text["rows"])
    assert texts[1]["tokens"] == texts[2]["tokens"] == 2 * 96
    page = rewritten(f"# Text\n\n{START}\nthe one before\n{END}\n", found)
    assert "the one before" not in page
    assert page.count("| `model@1` |") == 18
    assert "*A short run: fewer than 200 texts of a kind.*" in page


def test_models_of_different_tokenizers_do_not_compare(tmp_path: Path) -> None:
    codes = [task.code for task in held_out_tasks(8)]
    model = saved(tmp_path, "model", TextTokenizer.train(codes, 400), causal=False)
    twin = saved(tmp_path, "twin", TextTokenizer.train(codes, 401), causal=True)
    with pytest.raises(
        CheckpointError, match="^model@1 and twin@1 have different tokenizers; perplexities do not compare$"
    ):
        likelihood.evaluate_likelihood(model, twin, tasks=3, windows=2)


@pytest.mark.parametrize(
    ("ratio", "speed", "said"),
    [
        (1.1, 2.0, "functions reached, 1.100 in blocks of 8."),
        (1.45, 2.0, "functions **missed** by 0.25, 1.450 in blocks of 8."),
        (1.1, 1.4, "functions **missed**, no block is that fast."),
    ],
)
def test_the_goal_is_said_to_be_reached_or_missed(ratio: float, speed: float, said: str) -> None:
    mean = {"value": ratio, "low": ratio, "high": ratio}
    row = {"model": "m@1", "how": "blocks of 8", "block": 8, "bits_per_byte": mean, "perplexity": mean, "ratio": mean}
    text = {"text": "functions", "n": 2, "bytes": 1000, "rows": [{**row, "block": None}, row]}
    found = {
        "model": "m@1", "twin": "a@1", "samples": 4, "torch": "2", "threads": 1, "machine": "x86_64",
        "cpu_flags": ["avx2"], "texts": [text], "speed_tasks": 5,
        "tokens_per_forward": {"verified": 9.0, "entropy": {"8": speed}},
        "goals": [likelihood.goal(text, {8: speed})],
    }  # fmt: skip
    assert f"`entropy` {speed:.2f} in blocks of 8; `verified`" in likelihood.table(found)
    assert likelihood.table(found).endswith(
        f"Goal: ratio ≤ 1.2 in blocks of 4 or more, at ≥ 1.5 tokens per forward: {said}"
    )

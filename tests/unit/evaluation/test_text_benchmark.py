"""The benchmark of text runs and counts what it says; the plain layers say what ours say. No figure is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfuse.errors import ConfigError, InvalidRequest
from perfuse.evaluation import bench_text
from perfuse.evaluation.bench_text import END, START, Grid, greatest_difference, interleaved, networks
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = TextTokenizer.train(["def f(x):\n    return x\n", bench_text.PROMPT] * 3, 300)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=2, heads=2, condition=8, max_length=64)
    torch.manual_seed(0)
    network = UnifiedScoreNetwork(shape)
    for block in network.trunk.blocks:
        torch.nn.init.normal_(block.adapt.weight)  # type: ignore[arg-type, union-attr]  # zeros would hide it
    save_text(folder, TextConfig("m", 1, shape, 64, 6, "", {}), network.state_dict(), tokenizer)
    return folder


def test_the_plain_layers_say_the_same_and_other_weights_do_not(model: Path) -> None:
    ours, plain = networks(model, "f32")
    tokens = torch.arange(5, 45).view(2, 20)
    assert greatest_difference(ours, plain, tokens) < 1e-4
    with torch.no_grad():
        plain.blocks[1].up.weight[0] += 1.0  # type: ignore[union-attr, index, operator]
    assert greatest_difference(ours, plain, tokens) > 1e-3


def test_ways_take_turns_and_the_first_two_calls_do_not_count() -> None:
    called: list[str] = []
    taken = interleaved([lambda: called.append("a"), lambda: called.append("b")], 3)
    assert [len(each) for each in taken] == [3, 3]
    assert [sorted(called[i : i + 2]) for i in range(0, 10, 2)] == [["a", "b"]] * 5
    assert called != ["a", "b"] * 5


def test_each_setting_has_a_row_and_threads_are_set_back(model: Path) -> None:
    grid, before = Grid((32, 64), (1, 3), ("f32", "bf16", "int8"), (1, 2)), torch.get_num_threads()
    found = bench_text.run(model, grid, repeats=1, http=False)
    assert torch.get_num_threads() == before
    assert json.loads(json.dumps(found)) == found
    rows = found["forwards"]
    assert isinstance(rows, list)
    assert [(row["dtype"], row["threads"], row["canvas"], row["rows"]) for row in rows] == [
        (dtype, threads, canvas, rows)
        for dtype in ("f32", "bf16", "int8") for threads in (1, 2) for canvas in (32, 64) for rows in (1, 3)
    ]  # fmt: skip
    assert all(min(row["ours_ms"], row["plain_ms"], row["call_ms"]) > 0 for row in rows)
    assert found["http"] == []


def test_both_tables_take_the_place_of_those_before() -> None:
    http = {
        "dtype": "f32", "threads": 1, "canvas": 32, "clients": 16, "requests": 4, "p50_ms": 10.04, "p99_ms": 20.0,
        "forwards": 8.0, "ms_per_forward": 1.255, "per_second": 99.0,
    }  # fmt: skip
    forward = {
        "dtype": "f32", "threads": 1, "canvas": 32, "rows": 1, "ours_ms": 2.0, "plain_ms": 1.5, "ratio": 0.75,
        "call_ms": 2.5,
    }  # fmt: skip
    found: dict[str, object] = {
        "model": "m@1", "steps": 8, "torch": "2", "machine": "x86_64", "http": [http], "forwards": [forward],
        "greatest_difference": 2e-5, "cpu_flags": ["avx2"],
    }  # fmt: skip
    page = bench_text.rewritten(f"{START}\nthe one before\n{END}\n", found)
    assert page.startswith(
        f"{START}\n\n`m@1`, torch 2, x86_64 with avx2. Beside int8 stand plain layers in fp32. Through HTTP: "
    )
    assert "*A short run: fewer than 100 requests per row.*" in page
    assert "| f32 | 1 | 32 | 16 | 10.0 | 20.0 | 8.0 | 1.25 | 99.0 |" in page
    assert "Goal: plain over ours ≥ 1.0, **missed** in 1 of 1 rows." in page
    assert "| f32 | 1 | 32 | 1 | 2.00 | 1.50 | 0.75 | 2.50 |" in page
    fast = bench_text.rewritten(page, {**found, "forwards": [{**forward, "ratio": 1.0}]})
    assert "Goal: plain over ours ≥ 1.0, reached in every row." in fast


def test_what_cannot_be_measured_is_refused(model: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^expected canvases of \d+ to 64 tokens for m@1; got 65$"):
        bench_text.run(model, Grid(canvases=(65,)))
    with pytest.raises(InvalidRequest, match=r"^expected at least 2 requests, to tell p99; got 1$"):
        bench_text.run(model, Grid(canvases=(32,)), requests=1)
    with pytest.raises(ConfigError, match=r"^expected a dtype of auto, bf16, f32, int8; got 'fp8'$"):
        bench_text.run(model, Grid((32,), (1,), ("fp8",), (1,)), http=False)

"""Adaptations in memory: read once, kept while there is room, left alone while their bytes cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapting import WIDTH, adaptation_bytes, tiny_text
from perfuse.adaptation.residency import RETRY_SECONDS, Residency, size_of
from perfuse.errors import StoreCorrupt
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import LoadedText
from perfuse.models.unified import DiffusionConfig
from perfuse.store.blobs import Blobs
from scripted import FakeClock


@pytest.fixture(scope="module")
def model() -> LoadedText:
    return tiny_text()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


@pytest.fixture
def build(model: LoadedText, blobs: Blobs) -> Callable[..., Residency]:
    def make(dtype: torch.dtype = torch.float32, **options: object) -> Residency:
        return Residency(blobs, model.config.network, torch.device("cpu"), dtype, **options)  # type: ignore[arg-type]

    return make


def test_an_adaptation_is_read_once(build: Callable[..., Residency], blobs: Blobs, model: LoadedText) -> None:
    residency = build(torch.bfloat16)
    name = blobs.put(adaptation_bytes(model, 1))
    assert residency.held("a") is None
    loaded = residency.load("a", name)
    blobs.path(name).unlink()
    assert residency.load("a", name) is residency.held("a") is loaded
    assert (loaded.id, loaded.rank, len(loaded.blocks)) == ("a", 2, 2)
    assert loaded.blocks[0]["up"][0].dtype == torch.bfloat16
    assert residency.bytes == size_of(loaded) == 2 * loaded.parameters


def test_what_was_used_longest_ago_is_forgotten_first(
    build: Callable[..., Residency], blobs: Blobs, model: LoadedText
) -> None:
    names = [blobs.put(adaptation_bytes(model, seed)) for seed in range(3)]
    size = size_of(build().load("x", names[0]))
    residency = build(limit_bytes=2 * size)
    residency.load("0", names[0])
    residency.load("1", names[1])
    residency.held("0")
    residency.load("2", names[2])
    assert [residency.held(identity) is not None for identity in "012"] == [True, False, True]
    assert residency.bytes == 2 * size


def test_one_adaptation_is_kept_however_large(build: Callable[..., Residency], blobs: Blobs, model: LoadedText) -> None:
    residency = build(limit_bytes=1)
    residency.load("a", blobs.put(adaptation_bytes(model, 1)))
    residency.load("b", blobs.put(adaptation_bytes(model, 2)))
    assert residency.held("a") is None
    assert residency.held("b") is not None


def test_who_asks_at_the_same_time_gets_the_same_object(
    build: Callable[..., Residency], blobs: Blobs, model: LoadedText
) -> None:
    name = blobs.put(adaptation_bytes(model, 1))
    for _ in range(20):
        residency = build()
        with ThreadPoolExecutor(4) as pool:
            loaded = list(pool.map(lambda _, r=residency: r.load("a", name), range(8)))
        assert len(set(loaded)) == 1
        assert residency.bytes == size_of(loaded[0])


def narrower(model: LoadedText) -> bytes:
    config = DiffusionConfig(model.config.network.vocabulary, width=8, layers=2, heads=2)
    return to_bytes(fresh(config, 2, 2.0, torch.Generator()))


def with_nan(model: LoadedText) -> bytes:
    made = fresh(model.config.network, 2, 2.0, torch.Generator())
    made.blocks[1]["down"][1][0, 0] = torch.nan
    return to_bytes(replace(made, rank=2))


SHAPES = (
    "adaptation 'a': block 0 attention.qkv has shapes {'A': (2, 8), 'B': (24, 2)}, "
    f"expected A (2, {WIDTH}) and B ({3 * WIDTH}, 2)"
)


@pytest.mark.parametrize(
    ("bytes_of", "reason"),
    [
        (lambda _: b"not safetensors", "adaptation 'a' cannot be read: SafetensorError: "),
        (narrower, SHAPES),
        (with_nan, "block 1 down holds NaN or infinity"),
    ],
)
def test_bytes_of_something_else_are_refused(
    build: Callable[..., Residency], blobs: Blobs, model: LoadedText, bytes_of: Callable, reason: str
) -> None:
    with pytest.raises(StoreCorrupt) as caught:
        build().load("a", blobs.put(bytes_of(model)))
    assert caught.value.detail.startswith(f"adaptation a cannot be used: {reason}")


def test_missing_bytes_are_looked_for_again_after_a_while_and_logged_once(
    build: Callable[..., Residency], blobs: Blobs, model: LoadedText, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    residency = build(clock=clock)
    data = adaptation_bytes(model, 1)
    name = blobs.put(data)
    blobs.path(name).unlink()

    def refused() -> str:
        with pytest.raises(StoreCorrupt) as caught:
            residency.load("a", name)
        return caught.value.detail

    with caplog.at_level(logging.ERROR):
        assert refused() == f"adaptation a cannot be used: no blob {name}"
        blobs.put(data)
        assert refused() == f"adaptation a cannot be used: no blob {name}"
        blobs.path(name).unlink()
        clock.now += RETRY_SECONDS
        refused()
    (record,) = caplog.records
    assert (record.message, record.adaptation, record.reason) == ("adaptation_broken", "a", f"no blob {name}")
    blobs.put(data)
    clock.now += RETRY_SECONDS
    assert residency.load("a", name) is residency.held("a")
    residency.load("b", name)


def test_damaged_and_unreadable_bytes_are_refused(
    build: Callable[..., Residency], blobs: Blobs, model: LoadedText
) -> None:
    name = blobs.put(adaptation_bytes(model, 1))
    path = blobs.path(name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreCorrupt, match=rf"^adaptation a cannot be used: blob {name} holds \d+ bytes with the SHA-"):
        build().load("a", name)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreCorrupt, match=r"^adaptation a cannot be used: Is a directory$"):
        build().load("a", name)

"""The benchmarks of the engine run, and count what they say they count. No figure is judged."""

from __future__ import annotations

import pytest

from perfuse.evaluation import bench_latency
from perfuse.evaluation.bench_engine import bookkeeping_seconds_per_row_step
from perfuse.requests import TextRequest


def test_the_engines_own_seconds_per_row_and_step_are_positive() -> None:
    assert bookkeeping_seconds_per_row_step(jobs=4, steps=2) > 0


def test_short_requests_beside_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_latency, "SHORT", TextRequest(prompt="Double it.", length=4, steps=1))
    monkeypatch.setattr(bench_latency, "LONG", TextRequest(prompt="Double it.", length=4, steps=2))
    found = bench_latency.run(seconds=0.5, load_share=0.5)
    assert found.alone_p50 <= found.alone_p99
    for share in (found.of_one_at_a_time, found.of_at_once):
        assert 0 < share.short_p50 <= share.short_p99

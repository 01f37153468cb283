"""The benchmarks that start a server, with few requests; reproducibility is a property and is asserted."""

from __future__ import annotations

import pytest

from perfuse import sandbox
from perfuse.evaluation import bench_serve, reproducibility
from perfuse.evaluation.code import evaluate_infill


def test_what_the_server_adds_is_measured() -> None:
    found = bench_serve.run(requests=5)
    figures = found.as_dict()
    assert len(figures) == 17
    assert found.rejected_ms_p50 <= found.rejected_ms_p99 <= found.rejected_ms_max
    assert bench_serve.BURST / 2 < found.rejected < bench_serve.BURST
    assert all(value > 0 for name, value in figures.items() if not name.startswith(("front_cpu", "added")))
    assert found.first_answer_seconds > found.ready_seconds


@pytest.mark.timeout(300)
def test_reproducible_answers_are_the_same_alone_in_company_on_two_threads_and_after_a_kill() -> None:
    found = reproducibility.measure(cases=6)
    assert (found.equal_one_thread, found.equal_two_threads, found.equal_after_kill) == (6, 6, 6)
    assert found.cases == 6
    assert 0 <= found.equal_without <= 6
    assert found.occupancy >= 1
    assert found.as_dict()["throughput_share"] > 0


@pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine generated code")
def test_prefix_and_suffix_come_back_byte_for_byte_over_http() -> None:
    found = evaluate_infill(tasks=4)
    assert found["identical"] == 1.0

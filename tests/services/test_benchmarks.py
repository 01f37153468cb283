"""The benchmarks that start a server, with few requests; reproducibility is a property and is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perfuse import sandbox
from perfuse.errors import InvalidRequest, Unavailable
from perfuse.evaluation import bench_native, bench_peers, bench_serve, bench_text, reproducibility
from perfuse.evaluation.code import evaluate_infill
from perfuse.pipelines.shipped import SHIPPED


def test_what_the_server_adds_is_measured() -> None:
    found = bench_serve.run(requests=5)
    figures = found.as_dict()
    assert len(figures) == 18
    assert found.rejected_ms_p50 <= found.rejected_ms_p99 <= found.rejected_ms_max
    assert bench_serve.BURST / 2 < found.rejected < bench_serve.BURST
    assert found.retry_after_share > 0
    assert all(value > 0 for name, value in figures.items() if not name.startswith(("front_cpu", "added")))
    assert found.first_answer_seconds > found.ready_seconds


def test_a_canvas_is_filled_for_every_number_of_clients() -> None:
    grid = bench_text.Grid((32,), (1, 3), ("f32",), (1,))
    found = bench_text.over_http(SHIPPED / "code-small", "f32", 1, grid, requests=3, used=12)
    assert [(row.canvas, row.clients, row.requests) for row in found] == [(32, 1, 3), (32, 3, 3)]
    for row in found:
        assert 0 < row.p50_ms <= row.p99_ms
        assert 1 <= row.forwards <= bench_text.STEPS


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


@pytest.mark.timeout(300)
def test_other_servers_are_asked_what_ours_is_asked() -> None:
    servers = Path(__file__).parents[2] / "benchmarks" / "peers"
    ours, naive = bench_peers.run(servers, Path(sys.executable), ["naive"], requests=8)
    assert (ours.name, naive.name) == ("perfuse", "naive")
    for each in (ours, naive):
        assert min(each.p50_ms_1, each.p50_ms_64, each.requests_per_second_64, each.cpu_us_64, each.ready_seconds) > 0
    assert (ours.innocents_failed, naive.innocents_failed) == (0, 7)
    assert ours.cancelled_computed is not None
    assert naive.cancelled_computed is not None
    assert ours.cancelled_computed < bench_peers.LEAVING / 2  # the naive one's depend on how busy the machine is
    assert ours.as_dict().keys() == naive.as_dict().keys()


@pytest.mark.timeout(300)
def test_store_and_search_are_measured_beside_their_rivals() -> None:
    found = bench_native.run(scale=0.01)
    assert [(each.name, each.threads, sorted(each.rivals), each.must) for each in found] == [
        ("exact top-10, 1000 x 384, 1 query", 1, ["numpy", "torch"], 3.0),
        ("exact top-10, 10000 x 128, 1 query", 1, ["numpy", "torch"], 3.0),
        ("exact top-10, 1000 x 384, 256 queries at once", 1, ["numpy", "torch"], 1.0),
        ("exact top-10, 20 x 384, a loop in Python", 1, ["python"], 50.0),
        ("durable commits of one row, one writer", 1, ["sqlite"], 1.2),
        ("rows in durable commits of 1000, one writer", 1, ["sqlite"], 2.0),
        ("durable commits of one row, 16 writers", 1, ["sqlite"], 3.0),
        ("open a store of 10000 rows", 1, [], 0.5),
        ("refresh of a reader after one commit", 1, [], 1.0),
        ("nothing-new check of a reader", 1, [], 1.0),
        ("top-8 of 1000 under a writer and compaction, p99", 1, [], 2.0),
        ("exact top-10, 1000 x 384, 1 query", 2, ["numpy", "torch"], 3.0),
        ("exact top-10, 10000 x 128, 1 query", 2, ["numpy", "torch"], 3.0),
        ("exact top-10, 1000 x 384, 256 queries at once", 2, ["numpy", "torch"], 1.0),
    ]
    for each in found:
        assert each.ours > 0
        sign = 1 if each.unit.endswith("/s") else -1
        ratios = [(each.ours / rival) ** sign for rival in each.rivals.values()]
        assert each.ratio == (pytest.approx(min(ratios)) if ratios else None)
    assert bench_native.run(["nothing of that name"]) == []


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        bench_peers.run(tmp_path, Path(sys.executable))
    assert refused.value.detail == f"there is no *_server.py in {tmp_path}"
    (tmp_path / "one_server.py").touch()
    with pytest.raises(InvalidRequest) as refused:
        bench_peers.run(tmp_path, Path(sys.executable), ["two"])
    assert (refused.value.detail, refused.value.hint) == ("no server is named two", "there are one")


def test_a_model_function_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "one_server.py").touch()
    with pytest.raises(Unavailable, match=r"^the model function failed: ModuleNotFoundError: No module named 'model'$"):
        bench_peers.run(tmp_path, Path(sys.executable))

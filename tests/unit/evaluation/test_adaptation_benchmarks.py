"""The benchmarks of routing and of mixed batches run, and count what they say they count. No figure is judged."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from perfuse.cli.app import app
from perfuse.evaluation.bench_adaptations import adaptations, routing


def test_routing_is_measured_among_all_domains() -> None:
    found = routing(count=40, requests=20)
    assert found.domains == 40
    assert 0 < found.search_p50 <= found.search_p99
    assert 0 <= found.unrelated_p50 <= found.unrelated_p99


def test_a_batch_of_several_adaptations_is_measured_beside_the_base_model() -> None:
    found = adaptations(count=2, rows=3, length=32, rank=2, rounds=2)
    assert (found.rows, found.adaptations, found.rank) == (3, 2, 2)
    assert found.mixed_ratio == found.mixed / found.base
    assert found.one_ratio == found.one / found.base


def test_both_are_commands_that_print_the_flags_of_the_cpu() -> None:
    done = CliRunner().invoke(app, ["bench", "routing", "--domains", "10", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["domains"]) == (0, 10)
    assert isinstance(json.loads(done.stdout)["cpu_flags"], list)
    done = CliRunner().invoke(app, ["bench", "adaptations", "--count", "2", "--rows", "2", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 2)

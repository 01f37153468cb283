"""What Prometheus reads, series by series."""

from __future__ import annotations

import pytest

from perfuse.metrics import Metrics, kind_of


def lines(meter: Metrics, name: str) -> list[str]:
    """The samples of one metric, in order."""
    return [line for line in meter.exposition().decode().splitlines() if line.startswith(name)]


def test_requests_are_counted_by_kind_and_status_and_while_they_run() -> None:
    meter = Metrics()
    for status in (200, 200, 429):
        meter.request_begins()
        meter.request_ends("diffuse", status, 0.01)
    meter.request_begins()
    assert lines(meter, "perfuse_requests_") == [
        'perfuse_requests_total{kind="diffuse",status="200"} 2.0',
        'perfuse_requests_total{kind="diffuse",status="429"} 1.0',
        "perfuse_requests_running 1.0",
    ]


def test_a_bound_is_inside_its_bucket_and_buckets_add_up() -> None:
    meter = Metrics()
    for seconds in (0.0, 0.0025, 0.0026, 59.0, 61.0):
        meter.generated("plan", seconds, 0.25, 0)
    found = lines(meter, 'perfuse_queue_seconds_bucket{kind="plan"')
    assert [line.split('le="')[1] for line in found] == [
        '0.001"} 1.0',
        '0.0025"} 2.0',
        *(
            f'{le}"}} 3.0'
            for le in ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0")
        ),
        '30.0"} 3.0',
        '60.0"} 4.0',
        '+Inf"} 5.0',
    ]
    assert lines(meter, 'perfuse_queue_seconds_count{kind="plan"}') == ['perfuse_queue_seconds_count{kind="plan"} 5.0']
    assert lines(meter, "perfuse_compute_seconds_sum") == ['perfuse_compute_seconds_sum{kind="plan"} 1.25']


def test_records_are_written_or_lost_and_only_written_ones_have_a_time() -> None:
    meter = Metrics()
    assert lines(meter, "perfuse_ledger_seconds_count") == ["perfuse_ledger_seconds_count 0.0"]
    meter.recorded(0.002)
    meter.recorded(None)
    meter.recorded(0.004)
    assert lines(meter, "perfuse_ledger_records_total") == [
        'perfuse_ledger_records_total{outcome="lost"} 1.0',
        'perfuse_ledger_records_total{outcome="written"} 2.0',
    ]
    assert lines(meter, "perfuse_ledger_seconds_count") == ["perfuse_ledger_seconds_count 2.0"]


def test_texts_are_counted_by_how_sure_they_are_from_the_first_scrape_on() -> None:
    meter = Metrics()
    meter.output("novel")
    meter.output("novel")
    meter.output("usual")
    assert lines(meter, "perfuse_text_outputs_total") == [
        'perfuse_text_outputs_total{trust="usual"} 1.0',
        'perfuse_text_outputs_total{trust="unsure"} 0.0',
        'perfuse_text_outputs_total{trust="novel"} 2.0',
        'perfuse_text_outputs_total{trust="uncalibrated"} 0.0',
    ]


def test_rare_events_are_counted() -> None:
    meter = Metrics(lambda: {"rows": 3.0, "engines_ready": 1.0})
    meter.shed("overloaded")
    meter.client_gone("plan")
    meter.first_preview("diffuse", 0.5)
    meter.generated("diffuse", 0.0, 0.0, 2)
    found = meter.exposition().decode()
    for line in (
        'perfuse_shed_total{reason="overloaded"} 1.0',
        'perfuse_client_gone_total{kind="plan"} 1.0',
        'perfuse_first_preview_seconds_count{kind="diffuse"} 1.0',
        "perfuse_request_restarts_total 2.0",
        "perfuse_engine_rows_total 3.0",
        "perfuse_engines_ready 1.0",
    ):
        assert line in found.splitlines()


@pytest.mark.parametrize(
    ("path", "kind"), [("/diffuse", "diffuse"), ("/v1/plan", "plan"), ("/readyz", "health"), ("/x", "other")]
)
def test_the_label_of_a_path_is_one_of_few(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_server_without_a_worker_says_so_and_nothing_else_of_learning() -> None:
    assert lines(Metrics(), "perfuse_evolution_") == ["perfuse_evolution_up 0.0"]


def test_stages_of_learning_have_closed_labels_and_zeros() -> None:
    meter = Metrics()
    meter.evolution(
        {
            "feedback": {"curated": 3, "a state of another build": 9},
            "jobs": {},
            "adaptations": {"champion": 1},
            "gates": {"promote": 2},
            "pairs": {"won": 7, "lost": 1},
            "moves": {"promoted": 1},
            "a stage of another build": 1,
        }
    )
    assert lines(meter, "perfuse_evolution_") == [
        "perfuse_evolution_up 1.0",
        'perfuse_evolution_feedback_items{state="new"} 0.0',
        'perfuse_evolution_feedback_items{state="curated"} 3.0',
        'perfuse_evolution_feedback_items{state="quarantined"} 0.0',
        'perfuse_evolution_feedback_items{state="superseded"} 0.0',
        *(
            f'perfuse_evolution_jobs{{state="{state}"}} 0.0'
            for state in ("queued", "running", "done", "failed", "cancelled")
        ),
        'perfuse_evolution_adaptations{state="candidate"} 0.0',
        'perfuse_evolution_adaptations{state="canary"} 0.0',
        'perfuse_evolution_adaptations{state="champion"} 1.0',
        'perfuse_evolution_adaptations{state="retired"} 0.0',
        'perfuse_evolution_adaptations{state="rejected"} 0.0',
        'perfuse_evolution_gates_total{outcome="promote"} 2.0',
        'perfuse_evolution_gates_total{outcome="unproven"} 0.0',
        'perfuse_evolution_gates_total{outcome="reject"} 0.0',
        'perfuse_evolution_canary_pairs_total{outcome="won"} 7.0',
        'perfuse_evolution_canary_pairs_total{outcome="lost"} 1.0',
        'perfuse_evolution_canary_pairs_total{outcome="even"} 0.0',
        'perfuse_evolution_moves_total{move="promoted"} 1.0',
        'perfuse_evolution_moves_total{move="withdrawn"} 0.0',
        'perfuse_evolution_moves_total{move="rolled_back"} 0.0',
    ]

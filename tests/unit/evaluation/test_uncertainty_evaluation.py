"""The report on measured items, the tables in the page, and files of human labels."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from perfuse.cli.app import app
from perfuse.errors import InvalidRequest
from perfuse.evaluation import uncertainty
from perfuse.evaluation.streams import STREAMS, Item, Stream
from perfuse.evaluation.uncertainty import NO_HUMANS, SIGNALS, Measured, Meter, human_labels, report
from perfuse.evaluation.uncertainty_page import END, START, rewritten
from perfuse.requests import TextRequest


def item(stream: Stream, i: int, *, right: bool, hidden: float = 0.0) -> Measured:
    """Signals rank the wrong above the right; the combined one triggers on whatever is wrong."""
    signals = dict.fromkeys(SIGNALS, i / 100 + (not right) + hidden)
    told = None if stream == "occluded" else 0.9 if right else 0.1
    triggered = None if stream == "occluded" else not right
    if stream == "occluded":
        signals = {name: value for name, value in signals.items() if name not in ("knn", "mahalanobis", "combined")}
    return Measured(Item(stream, TextRequest(), None, hidden), right, signals, triggered, told)


MEASURED = [
    *(item("in_domain", i, right=i > 0) for i in range(20)),
    *(item("rare", i, right=i % 2 == 0) for i in range(10)),
    *(item("unseen", i, right=False) for i in range(10)),
    *(item("other", i, right=False) for i in range(5)),
    *(item("occluded", i, right=False, hidden=i / 10) for i in range(10)),
]


def found(**more: object) -> dict[str, object]:
    head = {
        "model": "m@1", "calibrated_on": "24 right answers", "torch": "2", "threads": 1, "machine": "x86_64",
        "cpu_flags": ["avx2"],
    }  # fmt: skip
    return {**head, **report(MEASURED), "human": {"said": NO_HUMANS}, **more}


def test_the_report_counts_by_hand() -> None:
    said = report(MEASURED)
    assert json.loads(json.dumps(said)) == said
    streams = said["streams"]
    assert isinstance(streams, list)
    assert [(row["stream"], row["n"], row["right"]) for row in streams] == [
        ("in_domain", 20, 0.95), ("rare", 10, 0.5), ("unseen", 10, 0.0), ("other", 5, 0.0), ("occluded", 10, 0.0),
    ]  # fmt: skip
    assert said["false_triggers"] == {"triggered": 0, "n": 19, "rate": 0.0, "upper": round(1 - 0.05 ** (1 / 19), 4)}
    assert streams[0]["wrong_triggered"] == {"triggered": 1, "n": 1, "low": 0.2065, "high": 1.0}
    assert streams[4]["wrong_triggered"]["n"] == 0
    ece = said["ece"]
    assert isinstance(ece, dict)
    assert ece == {"in_domain": 0.1, "rare": 0.1, "unseen": 0.1, "mixed": 0.1}


def test_every_signal_has_its_row() -> None:
    rows = report(MEASURED)["signals"]
    assert isinstance(rows, list)
    assert [row["signal"] for row in rows] == list(SIGNALS)
    for row in rows:
        assert [row[name][0] for name in ("in_domain_errors", "rare_errors", "mixed_errors")] == [1.0, 1.0, 1.0]
        assert row["unseen"][0] > 0.95
        assert row["rho_hidden"][0] == (None if row["signal"] in ("knn", "mahalanobis", "combined") else 1.0)


def test_the_tables_take_the_place_of_those_before() -> None:
    page = f"# Text\n\n{START}\nthe one before\n{END}\n\nmore\n"
    once = rewritten(page, found())
    assert "the one before" not in once
    assert once.endswith(f"{END}\n\nmore\n")
    assert "*no human labels were collected here*" in once
    assert "False triggers: 0 of 19 right in-domain answers, 0.000; one-sided 95 % upper bound" in once
    assert "| in-domain: held-out combinations | 20 | 0.950 (0.764 to 0.991) | 0.860 | 0.000 of 19 " in once
    assert "*A short run: fewer than 500 items per stream.*" in once
    assert rewritten(once, found()) == once
    human: dict[str, object] = {"prompts": 3, "signals": []}
    assert "3 prompts with human labels, not shown here" in rewritten(page, found(human=human))


def test_the_command_writes_the_page_and_says_that_no_people_were_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int, Path | None]] = []

    def evaluate(folder: Path, *, tasks: int, human: Path | None) -> dict[str, object]:
        asked.append((folder, tasks, human))
        return found()

    monkeypatch.setattr(uncertainty, "evaluate_uncertainty", evaluate)
    page = tmp_path / "text.md"
    page.write_text(f"{START}\n{END}\n", encoding="utf-8")
    words = ["eval", "uncertainty", "--model", "m", "--tasks", "3", "--page", str(page), "--json"]
    result = CliRunner().invoke(app, words)
    assert json.loads(result.stdout)["human"] == {"said": NO_HUMANS}
    assert "no human labels were collected here; --human takes a file of them" in result.stderr
    assert asked == [(Path("m"), 3, None)]
    assert "| AUROC of | errors, in-domain |" in page.read_text(encoding="utf-8")


def test_a_page_without_a_place_for_the_tables_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the page has no place for the tables; expected '<!-- uncertainty"):
        rewritten("# Text\n", found())


ROWS = [
    {"prompt": "a", "human": 1},
    {"prompt": "b", "human": 0.5},
    {"prompt": "a", "human": 0},
    {"prompt": "c", "human": 0},
]
LABELS = [("a", 0.5), ("b", 0.5), ("c", 0.0)]


def test_labels_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    lines, table = tmp_path / "labels.jsonl", tmp_path / "labels.parquet"
    lines.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist([{**row, "human": float(row["human"])} for row in ROWS]), table)
    assert human_labels(lines) == human_labels(table) == LABELS


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.jsonl", '{"prompt": "a"}', "KeyError: 'human'"),
        ("x.jsonl", "[1, 2]", "TypeError: "),
        ("x.jsonl", "not json", "JSONDecodeError: "),
        ("x.parquet", "not parquet", "ArrowInvalid: "),
    ],
)
def test_files_that_hold_no_labels_are_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        human_labels(tmp_path / name)
    assert caught.value.detail.startswith(f"{name} cannot be read: {reason}")
    assert caught.value.hint == (
        "write Parquet or JSON lines with the columns `prompt` (text) and `human` (number, higher: less sure)"
    )


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "human": 1}', encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"^x\.jsonl has 1 prompts; expected at least 3$"):
        human_labels(tmp_path / "x.jsonl")


def test_a_model_without_a_calibration_is_refused(tmp_path: Path) -> None:
    from perfuse.evaluation.code import PRETRAINED

    for path in (PRETRAINED / "code-small-ar").iterdir():
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InvalidRequest) as caught:
        Meter(tmp_path)
    assert caught.value.hint == "make one with `perfuse train calibration`"


def test_the_streams_have_an_order() -> None:
    assert STREAMS == ("in_domain", "rare", "unseen", "other", "occluded")

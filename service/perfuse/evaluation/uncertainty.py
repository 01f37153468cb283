"""Measures how well the model knows when it is wrong: signals, conformal triggers and calibrated chances on one stream.

No human labels were collected here. What stands for them is said with each correlation, and `--human` takes a file.
"""

from __future__ import annotations

import json
import logging
import math
import platform
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import torch
from pyarrow import parquet

from perfuse.adaptation.embedding import read_whitening
from perfuse.adaptation.isotonic import calibration_error
from perfuse.adaptation.signals import CONFIDENCE, Trace, bound_probes, first_step_probe, residual_norm, surprise
from perfuse.adaptation.uncertainty import Calibration, UncertaintyEstimator, read_calibration
from perfuse.errors import InvalidRequest
from perfuse.evaluation.intervals import clopper_pearson_upper, wilson
from perfuse.evaluation.ranking import Measure, auroc, bootstrap, pearson, spearman
from perfuse.evaluation.streams import STREAMS, Item, Stream, stream
from perfuse.models.call import Call, Network
from perfuse.models.text import LoadedText, load_text
from perfuse.pipelines.text import WINDOW, TextModel
from perfuse.requests import TextOutput, TextRequest
from perfuse.store.kit import read_kit
from perfuse.training.calibration import Observed
from perfuse.training.judging import passes

log = logging.getLogger(__name__)
NO_HUMANS = "no human labels were collected here"
MOST: Mapping[Stream, int] = {"other": 120, "occluded": 250}
"""Items of the streams that are not as long as the others."""
BOUND_DRAWS = 4
SIGNALS = ("msp", "tre", "step_entropy", "pseudo_elbo", "residual_norm", "knn", "mahalanobis", "combined")
"""In the order of the table: of the text, with further passes, of the prompt, and the one that triggers."""
Row = dict[str, object]
Triple = list[float | None]
"""A value, and the bounds of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An answered item.

    Attributes:
        signals: by name; those of a prompt are missing where there is none.
        triggered: whether the server would say that it should evolve; None without a prompt.
        p_correct: calibrated; None without a prompt.
    """

    item: Item
    right: bool
    signals: Mapping[str, float]
    triggered: bool | None
    p_correct: float | None


class Meter:
    """Answers requests and takes all signals.

    Args:
        folder: of a model with a calibration.

    Raises:
        CheckpointError: the model or its calibration is missing or damaged.
        InvalidRequest: there is no calibration.
    """

    def __init__(self, folder: Path) -> None:
        kit = read_kit(folder)
        self._model: LoadedText = load_text(folder)
        found = None if kit is None else read_calibration(folder, kit.base, read_whitening(folder))
        if found is None:
            raise InvalidRequest(f"{folder.name} has no calibration", hint="make one with `perfuse train calibration`")
        self.calibration: Calibration = found
        config = self._model.config
        whole = TextModel(
            self._model.network,
            self._model.tokenizer,
            config.limit,
            config.length,
            estimator=UncertaintyEstimator(found),
        )
        self._answer = Observed(self._model, whole)

    @property
    def label(self) -> str:
        """`model@version`."""
        return self._model.config.label

    def take(self, request: TextRequest) -> tuple[TextOutput, dict[str, float]]:
        """The answer and its signals."""
        output, trace = self._answer(request)
        signals = {name: of(trace) for name, of in CONFIDENCE.items()}
        network = self._model.network
        signals["pseudo_elbo"] = _pseudo_elbo(network, trace)
        signals["residual_norm"] = _first_residual(network, trace)
        if trace.state is not None and output.uncertainty is not None:
            novelty = self.calibration.novelty
            signals["knn"] = novelty.of_state(trace.state)
            signals["mahalanobis"] = novelty.whitening.distance(trace.state)
            signals["combined"] = output.uncertainty.combined
        return output, signals


def evaluate_uncertainty(folder: Path, *, tasks: int, human: Path | None = None) -> dict[str, object]:
    """`perfuse eval uncertainty`: the mixed stream, and a file of human labels if one is given.

    Args:
        folder: of a model with a calibration.
        tasks: items per stream, fewer of those in `MOST`.
        human: see `human_labels`.

    Raises:
        CheckpointError: the model or its calibration is missing or damaged.
        InvalidRequest: there is no calibration, the corpus has fewer tasks, or the file is not as expected.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    labels = None if human is None else human_labels(human)
    meter = Meter(folder)
    measured = [one for name in STREAMS for one in measure(meter, stream(name, min(tasks, MOST.get(name, tasks))))]
    return {
        "model": meter.label,
        "calibrated_on": meter.calibration.described,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        **report(measured),
        "human": {"said": NO_HUMANS} if labels is None else against_humans(meter, labels),
    }


def measure(meter: Meter, items: Sequence[Item]) -> list[Measured]:
    """All items of a stream, answered and judged."""
    answers = []
    for done, item in enumerate(items):
        answers.append(meter.take(item.request))
        if (done + 1) % 50 == 0:
            log.info("%d of %d requests of %s", done + 1, len(items), item.stream)
    judged = [(item.task, output.text) for item, (output, _) in zip(items, answers, strict=True) if item.task]
    verdicts = iter(passes([task for task, _ in judged], [text for _, text in judged]))
    return [
        Measured(
            item,
            next(verdicts) if item.task is not None else False,
            signals,
            None if output.uncertainty is None else output.uncertainty.should_evolve,
            output.p_correct,
        )
        for item, (output, signals) in zip(items, answers, strict=True)
    ]


def report(measured: Sequence[Measured]) -> dict[str, object]:
    """Everything but the human labels, from the answered items."""
    of: dict[Stream, list[Measured]] = {name: [m for m in measured if m.item.stream == name] for name in STREAMS}
    judged = [*of["in_domain"], *of["rare"], *of["unseen"], *of["other"]]
    domains = [*of["in_domain"], *of["unseen"], *of["other"]]
    return {
        "streams": [_stream_row(name, rows) for name, rows in of.items()],
        "signals": [
            {
                "signal": name,
                "in_domain_errors": _auroc(name, of["in_domain"], _wrong(of["in_domain"])),
                "rare_errors": _auroc(name, of["rare"], _wrong(of["rare"])),
                "unseen": _auroc(name, domains, [float(m.item.stream != "in_domain") for m in domains]),
                "mixed_errors": _auroc(name, judged, _wrong(judged)),
                "r_verifier": _bounded(pearson, name, judged, _wrong(judged)),
                "rho_hidden": _bounded(spearman, name, of["occluded"], [m.item.hidden for m in of["occluded"]]),
                "r_unseen": _bounded(pearson, name, domains, [float(m.item.stream != "in_domain") for m in domains]),
            }
            for name in SIGNALS
        ],
        "false_triggers": _false_triggers(of["in_domain"]),
        "ece": {
            "in_domain": _ece(of["in_domain"]),
            "rare": _ece(of["rare"]),
            "unseen": _ece([*of["unseen"], *of["other"]]),
            "mixed": _ece(judged),
        },
    }


def human_labels(path: Path) -> list[tuple[str, float]]:
    """Prompts and how unsure people found the answer (any scale, higher is less sure), of a Parquet or JSONL file.

    Columns `prompt` and `human`; a prompt may come several times, once per person.

    Raises:
        InvalidRequest: the file cannot be read, lacks a column, or has fewer than three prompts.
    """
    try:
        if path.suffix == ".parquet":
            rows = parquet.read_table(path, columns=["prompt", "human"]).to_pylist()
        else:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found: defaultdict[str, list[float]] = defaultdict(list)
        for row in rows:
            found[str(row["prompt"])].append(float(row["human"]))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InvalidRequest(
            f"{path.name} cannot be read: {type(error).__name__}: {error}",
            hint="write Parquet or JSON lines with the columns `prompt` (text) and `human` (number, higher: less sure)",
        ) from error
    if len(found) < 3:
        raise InvalidRequest(f"{path.name} has {len(found)} prompts; expected at least 3")
    return [(prompt, float(np.mean(values))) for prompt, values in found.items()]


def against_humans(meter: Meter, labels: Sequence[tuple[str, float]]) -> dict[str, object]:
    """Correlation of each signal with the labels, over prompts."""
    told = [meter.take(TextRequest(prompt=prompt))[1] for prompt, _ in labels]
    said = [label for _, label in labels]
    rows: list[Row] = []
    for name in SIGNALS:
        pairs = [(one[name], label) for one, label in zip(told, said, strict=True) if name in one]
        scores, values = [score for score, _ in pairs], [label for _, label in pairs]
        rows.append({"signal": name, "r": _triple(pearson, scores, values), "rho": _triple(spearman, scores, values)})
    return {"prompts": len(labels), "signals": rows}


def _pseudo_elbo(network: Network, trace: Trace) -> float:
    """Nats per token, from `BOUND_DRAWS` maskings."""
    generator = torch.Generator().manual_seed(0)
    uniforms = torch.rand(BOUND_DRAWS, len(trace.tokens), dtype=torch.float64, generator=generator)
    probes = bound_probes(trace, WINDOW, uniforms)
    calls = [Call(network, probe.inputs) for probe in probes]
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i, call in enumerate(calls):
        groups[network.key(call)].append(i)
    nats = 0.0
    for members in groups.values():
        outputs = network.forward([calls[i] for i in members])
        nats += sum(surprise(out["logits"].cpu(), probes[i]) for i, out in zip(members, outputs, strict=True))
    return nats / len(trace.tokens)


def _first_residual(network: Network, trace: Trace) -> float:
    probe = first_step_probe(trace, WINDOW)
    (output,) = network.forward([Call(network, probe.inputs)])
    return residual_norm(output["logits"].cpu()[probe.places].float(), probe.tokens)


def _wrong(rows: Sequence[Measured]) -> list[float]:
    return [float(not m.right) for m in rows]


def _auroc(name: str, rows: Sequence[Measured], positive: Sequence[float]) -> Triple:
    return _bounded(auroc, name, rows, positive)


def _bounded(measure_of: Measure, name: str, rows: Sequence[Measured], outcomes: Sequence[float]) -> Triple:
    """The measure over those of the rows that have the signal."""
    pairs = [(m.signals[name], value) for m, value in zip(rows, outcomes, strict=True) if name in m.signals]
    return _triple(measure_of, [score for score, _ in pairs], [value for _, value in pairs])


def _triple(measure_of: Measure, scores: Sequence[float], values: Sequence[float]) -> Triple:
    """Value and bounds, rounded for print; null where it is not defined."""
    if not scores:
        return [None, None, None]
    return [None if math.isnan(value) else round(value, 4) for value in bootstrap(measure_of, scores, values)]


def _stream_row(name: Stream, rows: Sequence[Measured]) -> Row:
    right = sum(m.right for m in rows)
    low, high = wilson(right, len(rows))
    told = [m.p_correct for m in rows if m.p_correct is not None]
    wrong = [m for m in rows if not m.right and m.triggered is not None]
    good = [m for m in rows if m.right and m.triggered is not None]
    return {
        "stream": name,
        "n": len(rows),
        "right": round(right / max(len(rows), 1), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "mean_p_correct": round(float(np.mean(told)), 4) if told else None,
        "right_triggered": _share(good),
        "wrong_triggered": _share(wrong),
    }


def _share(rows: Sequence[Measured]) -> Row:
    """How many of them triggered."""
    found = sum(m.triggered is True for m in rows)
    low, high = wilson(found, len(rows))
    return {"triggered": found, "n": len(rows), "low": round(low, 4), "high": round(high, 4)}


def _false_triggers(rows: Sequence[Measured]) -> Row:
    """Of the right answers to the model's own kind of request; the bound is one-sided, 95 %."""
    right = [m for m in rows if m.right]
    found = sum(m.triggered is True for m in right)
    return {
        "triggered": found,
        "n": len(right),
        "rate": round(found / max(len(right), 1), 4),
        "upper": round(clopper_pearson_upper(found, len(right)), 4),
    }


def _ece(rows: Sequence[Measured]) -> float:
    told = [(m.p_correct, float(m.right)) for m in rows if m.p_correct is not None]
    return round(calibration_error([p for p, _ in told], [right for _, right in told]), 4)

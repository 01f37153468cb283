"""Compares samplers and their constants on validation tasks, which the published figures do not use."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import torch

from perfuse.evaluation.code import TASKS, Attempt, Fill, in_process, judge
from perfuse.evaluation.intervals import wilson
from perfuse.evaluation.pages import replaced
from perfuse.models.text import load_text
from perfuse.requests import AUTO, SamplerOptions, TextRequest
from perfuse.training.corpus.tasks import Task, validation_tasks

log = logging.getLogger(__name__)
START, END = "<!-- samplers: written by make results-text -->", "<!-- end of samplers -->"
"""What the table stands between in its page."""
ENOUGH = 200
"""Tasks below which the table says that it is a short run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to sample: what a request says about it."""

    sampler: str
    options: SamplerOptions = field(default_factory=SamplerOptions)
    steps: int | None = None
    temperature: float = 0.0

    @property
    def setting(self) -> str:
        """The constants that are not the sampler's own defaults."""
        said: dict[str, object] = {"steps": self.steps, "temperature": self.temperature or None, **asdict(self.options)}
        return ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)

    def request(self) -> TextRequest:
        """Everything but the prompt."""
        return TextRequest(
            sampler=self.sampler, sampler_options=self.options, steps=self.steps, temperature=self.temperature
        )


def _with(sampler: str, *options: SamplerOptions) -> list[Candidate]:
    return [Candidate(sampler, each) for each in options]


CANDIDATES = (
    Candidate(AUTO),
    *_with(
        "verified", *(SamplerOptions(window=n) for n in (8, 16, 32, 48)), *(SamplerOptions(bound=b) for b in (1.0, 9.0))
    ),
    *_with("entropy", *(SamplerOptions(bound=b) for b in (0.01, 0.1, 0.5, 1.5)), SamplerOptions(window=8)),
    *_with("threshold", *(SamplerOptions(level=p) for p in (0.7, 0.9, 0.97))),
    *_with("threshold", *(SamplerOptions(window=n, level=0.9) for n in (32, 48))),
    *_with("factor", *(SamplerOptions(factor=f) for f in (0.3, 1.0, 2.0))),
    *_with("hierarchy", SamplerOptions(), SamplerOptions(low_level=0.6)),
    *_with("editing", SamplerOptions(), SamplerOptions(level=0.7), SamplerOptions(level=0.5, edit_level=0.7)),
    Candidate("low_confidence"),
    *(Candidate("low_confidence", steps=n) for n in (48, 24, 12)),
    *_with("low_confidence", SamplerOptions(order_temperature=0.1), SamplerOptions(stop_entropy=0.05)),
    *_with("margin", SamplerOptions(), SamplerOptions(stop_entropy=0.05)),
    *_with("low_entropy", SamplerOptions(), SamplerOptions(stop_entropy=0.05)),
    Candidate("random"),
    Candidate("ancestral"),
    Candidate("ancestral", SamplerOptions(schedule="cosine")),
    Candidate("ancestral", steps=960),
    *(Candidate(f"remdm_{name}", steps=192) for name in ("cap", "rescale", "conf", "loop")),
)
"""The first is what a request gets that says nothing."""


def compare(model: Path, tasks: int, candidates: Sequence[Candidate] = CANDIDATES) -> dict[str, object]:
    """`perfuse eval samplers`: one row per candidate, on `tasks` held-out tasks that `perfuse eval code` leaves out.

    Every candidate gets every task, one after the other task by task, so that rows are paired and a machine that
    slows down slows them all. `won` and `lost` count the tasks that this candidate alone passed, or the first alone;
    `pareto`: no other passed as many with fewer forwards. Milliseconds are those of a lone request in this process.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    loaded, chosen = load_text(model), validation_tasks(tasks, TASKS)
    fill = in_process(loaded)
    attempts: list[list[Attempt]] = [[] for _ in candidates]
    taken: list[list[float]] = [[] for _ in candidates]
    for done, task in enumerate(chosen):
        for one, made, times in zip(candidates, attempts, taken, strict=True):
            attempt, seconds = _timed(fill, task, one)
            made.append(attempt)
            times.append(1000.0 * seconds)
        log.info("%d of %d tasks", done + 1, len(chosen))
    passed = [judge(made) for made in attempts]
    rows = [
        _row(one, made, verdicts, passed[0], times)
        for one, made, verdicts, times in zip(candidates, attempts, passed, taken, strict=True)
    ]
    points = [(sum(verdicts), sum(a.forwards for a in made)) for verdicts, made in zip(passed, attempts, strict=True)]
    for row, (good, spent) in zip(rows, points, strict=True):
        row["pareto"] = not any((g >= good and s < spent) or (g > good and s <= spent) for g, s in points)
    return {
        "model": loaded.config.label,
        "tasks": len(chosen),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "rows": rows,
    }


def _timed(fill: Fill, task: Task, one: Candidate) -> tuple[Attempt, float]:
    started = time.perf_counter()
    output = fill(replace(one.request(), prompt=task.prompt))
    return Attempt(task, output.text, output.forwards), time.perf_counter() - started


def _row(
    one: Candidate, made: Sequence[Attempt], verdicts: Sequence[bool], first: Sequence[bool], times: Sequence[float]
) -> dict[str, object]:
    low, high = wilson(sum(verdicts), len(verdicts))
    return {
        "sampler": one.sampler,
        "setting": one.setting,
        "n": len(verdicts),
        "pass_at_1": round(sum(verdicts) / max(len(verdicts), 1), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "won": sum(ours and not theirs for ours, theirs in zip(verdicts, first, strict=True)),
        "lost": sum(theirs and not ours for ours, theirs in zip(verdicts, first, strict=True)),
        "mean_forwards": round(sum(a.forwards for a in made) / max(len(made), 1), 2),
        "median_ms": round(median(times), 1) if times else 0.0,
    }


def table(found: Mapping[str, object]) -> str:
    """What `compare` found, as the Markdown of `docs/results/text.md`."""
    rows = found["rows"]
    assert isinstance(rows, list)
    flags = found.get("cpu_flags")
    told = ", ".join(flags) if isinstance(flags, list) else "unknown flags"
    caption = (
        f"`{found['model']}`, {found['tasks']} tasks per row, the same for all; torch {found['torch']}, "
        f"{found['threads']} thread(s), {found['machine']} with {told}. Intervals are Wilson's at 95 %; won and lost "
        "are against the first row, task by task; forwards are means, milliseconds medians of a lone request in one "
        "process. Bold: nothing else passed as many with fewer forwards."
    )
    if isinstance(tasks := found["tasks"], int) and tasks < ENOUGH:
        caption += f" *A short run: with fewer than {ENOUGH} tasks, rows whose intervals overlap are not ordered.*"
    heads = ("Sampler", "Setting", "pass@1", "Interval", "Won", "Lost", "Forwards", "ms")
    lines = [caption, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        name = f"`{row['sampler']}`"
        lines.append(
            f"| {f'**{name}**' if row['pareto'] else name} | {row['setting']} | {row['pass_at_1']:.3f} | "
            f"{row['low']:.3f} to {row['high']:.3f} | {row['won']} | {row['lost']} | {row['mean_forwards']:.1f} | "
            f"{row['median_ms']:.0f} |"
        )
    return "\n".join(lines)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the table between its two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    return replaced(page, START, END, table(found))

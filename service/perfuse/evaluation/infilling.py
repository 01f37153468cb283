"""Gaps of three kinds in held-out functions: one line, several lines, a cut anywhere; beside the twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from perfuse.evaluation.items import Item, cases_of, compared, table_of
from perfuse.evaluation.pages import replaced
from perfuse.models.text import load_text
from perfuse.training.corpus.tasks import Task, held_out_tasks
from perfuse.training.examples import cut

START, END = "<!-- infilling: written by make results-infill -->", "<!-- end of infilling -->"
"""What the table stands between in its page."""
KINDS = ("single-line", "multi-line", "random-span")


def gap_of(kind: str, code: str, rng: Random) -> tuple[str, str, str] | None:
    """Prefix, middle and suffix of a gap behind the first line; None where the function is too short for it.

    A line goes with its line break: the gap of HumanEval-Infilling (arXiv 2207.14255). "multi-line" are two lines or
    more, "random-span" is cut between any two characters.

    Raises:
        ValueError: there is no such kind.
    """
    lines = code.splitlines(keepends=True)
    body = range(1, len(lines))
    match kind:
        case "single-line":
            start = rng.choice(body)
            end = start + 1
        case "multi-line" if len(body) < 2:
            return None
        case "multi-line":
            start = rng.choice(body[:-1])
            end = rng.randint(start + 2, len(lines))
        case "random-span":
            return cut(code, rng)
        case _:
            raise ValueError(f"expected one of {', '.join(KINDS)}; got {kind!r}")
    return "".join(lines[:start]), "".join(lines[start:end]), "".join(lines[end:])


def gaps(kind: str, tasks: Sequence[Task]) -> list[Item]:
    """A gap of the kind in each function that is long enough, shown with the function's sentence."""
    rng, items = Random(f"gaps {kind}"), list[Item]()
    for task in tasks:
        found = gap_of(kind, task.code, rng)
        if found is not None:
            prefix, middle, suffix = found
            items.append(Item(kind, task.prompt, prefix, suffix, middle, task.entry_point, cases_of(task)))
    return items


def evaluate_kinds(model: Path, twin: Path, tasks: int) -> dict[str, object]:
    """`perfuse eval infill --kinds`: pass@1 and exact match per kind, each gap with the sentence and without it.

    Both models fill at most as many tokens as a request gets that does not say.

    Raises:
        CheckpointError: a model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    ours, theirs, chosen = load_text(model), load_text(twin), held_out_tasks(tasks)
    rows = []
    for kind in KINDS:
        told = gaps(kind, chosen)
        for sentence, items in (("shown", told), ("withheld", [replace(item, prompt="") for item in told])):
            rows.append({"gap": kind, "sentence": sentence, **compared(items, ours, theirs, ours.config.length)})
    return {"model": ours.config.label, "twin": theirs.config.label, "tasks": len(chosen), "kinds": rows}


def table(found: Mapping[str, object]) -> str:
    """What `evaluate_kinds` found, as the Markdown of `docs/results/text.md`."""
    kinds = found["kinds"]
    assert isinstance(kinds, list)
    caption = (
        f"`{found['model']}` and its twin `{found['twin']}`, which is shown the suffix before the prefix in the same "
        f"way, on gaps in {found['tasks']} held-out functions; default sampler and greedy, one try per gap. Exact: the "
        "fill is what was cut out, character by character. Intervals are Wilson's at 95 %; over the twin: the paired "
        "difference of pass@1."
    )
    return table_of(caption, ("gap", "sentence"), kinds)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the table between its two marks replaced. Raises ValueError without the marks."""
    return replaced(page, START, END, table(found))

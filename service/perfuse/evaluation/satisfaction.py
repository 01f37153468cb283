"""How often text keeps what was asked of its form, kind by kind, and whether Python that comes out passes ruff."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from perfuse.errors import CanvasTooLong, CanvasTooShort, ConstraintTooLarge, NotInstalled, UnsupportedConstraint
from perfuse.evaluation.code import TASKS, Fill, gaps, in_process, keeps_both_sides
from perfuse.evaluation.intervals import wilson
from perfuse.evaluation.pages import replaced
from perfuse.evaluation.structures import checker
from perfuse.evaluation.tool_schemas import TOOLS, drawn
from perfuse.models.text import load_text
from perfuse.requests import TextOutput, TextRequest
from perfuse.syntax.parsers import parser_of
from perfuse.training.corpus.tasks import Task, validation_tasks

log = logging.getLogger(__name__)
START, END = "<!-- constraints: written by perfuse eval constraints -->", "<!-- end of constraints -->"
"""What the table stands between in its page."""
PATTERNS = (
    r"def [a-z_]+\([a-z]+\):\n    return [^\n]{1,60}\n",
    r"[A-Z]{3}-[0-9]{4}",
    r"(yes|no|maybe)( [a-z]{2,8}){0,4}",
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
    r"[a-z]+ = \[\d+(, \d+){0,9}\]",
)
LENGTHS = (4, 8, 16, 32, 64)


def evaluate_constraints(model: Path, *, tasks: int = 500, languages: Sequence[str] = ("python",)) -> dict[str, object]:
    """`perfuse eval constraints`: one row per kind, each of `tasks` requests on validation tasks, most likely tokens.

    Requests that are refused before a step is computed are counted apart: nothing came out that could break anything.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        NotInstalled: the package `jsonschema`, or the parser of a language, is.
    """
    loaded = load_text(model)
    fill = in_process(loaded)
    chosen = validation_tasks(tasks, TASKS)
    rows = [
        _row("prefix and suffix", _sides(fill, chosen)),
        _row("template", _templates(fill, chosen)),
        _row("schema", _schemas(fill, tasks)),
        _row("regex", _patterns(fill, chosen)),
        _row("length", _lengths(fill, chosen)),
    ]
    python: list[str] = []
    for language in languages:
        asked = [TextRequest(prompt=task.prompt, language=language, seed=seed) for seed, task in enumerate(chosen)]
        outputs = [fill(request) for request in asked]
        rows.append(_row(f"syntax, {language}", _parsing(language, outputs)))
        python = [output.text for output in outputs] if language == "python" else python
    return {
        "model": loaded.config.label,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
        "lint": lint(python),
    }


def _row(kind: str, verdicts: Iterator[bool | None]) -> dict[str, object]:
    """`None` is a refused request."""
    told = list(verdicts)
    kept, n = sum(verdict is True for verdict in told), sum(verdict is not None for verdict in told)
    log.info("%s: %d of %d", kind, kept, n)
    return {"kind": kind, "refused": len(told) - n, **_rate(kept, n)}


def _rate(kept: int, n: int) -> dict[str, object]:
    low, high = wilson(kept, n)
    return {"kept": kept, "n": n, "rate": round(kept / max(n, 1), 4), "low": round(low, 4), "high": round(high, 4)}


def _sides(fill: Fill, tasks: Sequence[Task]) -> Iterator[bool | None]:
    for gap in gaps(tasks):
        try:
            output = fill(TextRequest(prompt=gap.prompt, prefix=gap.prefix, suffix=gap.suffix))
        except CanvasTooLong:
            yield None
            continue
        yield keeps_both_sides(gap, output)


def _templates(fill: Fill, tasks: Sequence[Task]) -> Iterator[bool | None]:
    for place, gap in enumerate(gaps(tasks)):
        length = 8 + place % 40
        try:
            template = f"{gap.prefix}<mask:{length}>{gap.suffix}"
            output = fill(TextRequest(prompt=gap.prompt, template=template))
        except CanvasTooLong:
            yield None
            continue
        yield keeps_both_sides(gap, output) and output.tokens <= length


def _schemas(fill: Fill, count: int) -> Iterator[bool | None]:
    valid = checker()
    for number, schema in enumerate([*TOOLS, *drawn(2, max(count - len(TOOLS), 0))][:count]):
        try:
            output = fill(TextRequest(prompt="Call the tool.", schema=json.dumps(schema), seed=number))
        except (UnsupportedConstraint, ConstraintTooLarge, CanvasTooShort, CanvasTooLong):
            yield None
            continue
        yield valid(output.fill, schema)


def _patterns(fill: Fill, tasks: Sequence[Task]) -> Iterator[bool | None]:
    for number, task in enumerate(tasks):
        pattern = PATTERNS[number % len(PATTERNS)]
        output = fill(TextRequest(prompt=task.prompt, regex=pattern, seed=number))
        yield re.fullmatch(pattern, output.fill) is not None


def _lengths(fill: Fill, tasks: Sequence[Task]) -> Iterator[bool | None]:
    for number, task in enumerate(tasks):
        length = LENGTHS[number % len(LENGTHS)]
        output = fill(TextRequest(prompt=task.prompt, length=length))
        yield output.tokens <= length and len(output.token_ids) == length


def _parsing(language: str, outputs: Sequence[TextOutput]) -> Iterator[bool | None]:
    parser = parser_of(language)
    assert parser is not None
    return (not parser(output.text) for output in outputs)


def lint(texts: Sequence[str]) -> dict[str, object]:
    """How many modules `ruff check` finds nothing in, with its own default rules; `reason` where it cannot be asked.

    Raises:
        NotInstalled: ruff is there and did not understand us.
    """
    beside = Path(sys.executable).with_name("ruff")
    program = str(beside) if beside.exists() else shutil.which("ruff")
    if program is None or not texts:
        return {"passed": None, "n": len(texts), "reason": "no Python came out" if program else "ruff is not installed"}
    with tempfile.TemporaryDirectory(prefix="perfuse-lint-") as folder:
        for number, text in enumerate(texts):
            Path(folder, f"m{number}.py").write_text(text, encoding="utf-8")
        command = [program, "check", "--isolated", "--no-cache", "--output-format", "json", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # its own binary
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise NotInstalled(f"ruff failed: {done.stderr.strip()}") from None
    bad = {Path(each["filename"]).name for each in found}
    rules: dict[str, int] = {}
    for each in found:
        rules[str(each["code"])] = rules.get(str(each["code"]), 0) + 1
    return {**_rate(len(texts) - len(bad), len(texts)), "reason": None, "rules": rules}


def table(found: Mapping[str, object]) -> str:
    """What `evaluate_constraints` found, as the Markdown of `docs/results/text.md`."""
    rows, linted = found["rows"], found["lint"]
    assert isinstance(rows, list)
    assert isinstance(linted, Mapping)
    flags = found.get("cpu_flags")
    told = ", ".join(flags) if isinstance(flags, list) else "unknown flags"
    caption = (
        f"`{found['model']}`, most likely tokens, default sampler; torch {found['torch']}, "
        f"{found['threads']} thread(s), {told}. Intervals are Wilson's at 95 %; refused requests (422 before a step is "
        "computed) are not in n."
    )
    lines = [
        caption,
        "",
        "| Constraint | Kept | n | Rate | Interval | Refused |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['kept']} | {row['n']} | {row['rate']:.3f} | {row['low']:.3f} to {row['high']:.3f} | "
        f"{row['refused']} |"
        for row in rows
    ]
    if linted["reason"] is not None:
        lines.append(f"| `ruff check` of the Python | {linted['reason']} | {linted['n']} | | | |")
    else:
        lines.append(
            f"| `ruff check` of the Python | {linted['kept']} | {linted['n']} | {linted['rate']:.3f} | "
            f"{linted['low']:.3f} to {linted['high']:.3f} | 0 |"
        )
    return "\n".join(lines)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the table between its two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    return replaced(page, START, END, table(found))

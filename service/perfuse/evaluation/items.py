"""Programs with a part left out: filled by the model and by its twin on equal terms, run in the jail, compared."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from perfuse import sandbox
from perfuse.evaluation.code import in_process, parses
from perfuse.evaluation.intervals import paired, wilson
from perfuse.evaluation.twin import continued
from perfuse.models.canvas import given
from perfuse.models.text import LoadedText
from perfuse.requests import TextRequest
from perfuse.training.corpus.tasks import Task
from perfuse.training.judging import SECONDS

log = logging.getLogger(__name__)
SUITE_SECONDS = 5.0
"""Time for a suite's tests of one program."""
JUDGE = "perfuse_judge"
"""Function behind a program that runs the tests which are source, and then gives back what it was given."""


@dataclass(frozen=True, slots=True)
class Item:
    """A program with a part left out, and what tells right from wrong.

    Attributes:
        kind: what rates are counted by.
        prompt: the sentence shown; may be empty.
        prefix: the program before the gap.
        suffix: the program behind the gap.
        middle: what was left out.
        entry_point: name of the function that is tested.
        cases: calls and values; the values never go into the jail.
        tests: Python source that raises where the program is wrong; where it is given, the cases do not count. It
            runs in the program's own process, as the suite's authors have it.
        program: the whole program as it was, where it is not prefix, middle and suffix.
    """

    kind: str
    prompt: str
    prefix: str
    suffix: str
    middle: str
    entry_point: str
    cases: tuple[sandbox.Case, ...] = ()
    tests: str = ""
    program: str = ""

    def trial(self, text: str) -> sandbox.Task:
        """What the jail runs for a text in the gap."""
        return self.trial_of(self.prefix + text + self.suffix)

    def trial_of(self, program: str) -> sandbox.Task:
        """What the jail runs for a whole program."""
        if not self.tests:
            return sandbox.Task(program, self.entry_point, self.cases, seconds=SECONDS)
        judge = f"def {JUDGE}(tests, told):\n    exec(tests, globals())\n    return told\n"
        told = secrets.token_hex(16)
        case = sandbox.Case([self.tests, told], told)
        return sandbox.Task(f"{program}\n\n\n{judge}", JUDGE, [case], seconds=SUITE_SECONDS)


def cases_of(task: Task) -> tuple[sandbox.Case, ...]:
    """The tests of a task for the jail."""
    return tuple(
        sandbox.Case(args=case.arguments, expected=case.expected, raises="ValueError" if case.raises else None)
        for case in task.cases
    )


@dataclass(frozen=True, slots=True)
class Filled:
    """What came for an item, after how many forwards; None: what is given leaves no room on the canvas."""

    text: str | None
    forwards: int


def filled_by_model(model: LoadedText, items: Sequence[Item], longest: int) -> list[Filled]:
    """What the pipeline of the server fills in, at most `longest` tokens, by its default sampler."""
    fill, found = in_process(model), list[Filled]()
    for item, head in zip(items, _heads(model, items), strict=True):
        length = min(longest, model.config.limit - len(head))
        if length < 1:
            found.append(Filled(None, 0))
            continue
        request = TextRequest(prompt=item.prompt, prefix=item.prefix, suffix=item.suffix, length=length)
        output = fill(request)
        found.append(Filled(output.fill, output.forwards))
        if len(found) % 50 == 0:
            log.info("%d of %d items", len(found), len(items))
    return found


def filled_by_twin(twin: LoadedText, items: Sequence[Item], longest: int) -> list[Filled]:
    """What the autoregressive twin continues the same canvas with, at most `longest` tokens, greedily."""
    heads = _heads(twin, items)
    fit = [i for i, head in enumerate(heads) if len(head) < twin.config.limit]
    found = [Filled(None, 0)] * len(items)
    for i, (text, forwards) in zip(fit, continued(twin, [heads[i] for i in fit], limit=longest), strict=True):
        found[i] = Filled(text, forwards)
    return found


def _heads(model: LoadedText, items: Sequence[Item]) -> list[tuple[int, ...]]:
    parts = zip(
        *(model.tokenizer.encode_batch([part(item) for item in items]) for part in (_prompt, _prefix, _suffix)),
        strict=True,
    )
    return [given(prompt, prefix, suffix) for prompt, prefix, suffix in parts]


def _prompt(item: Item) -> str:
    return item.prompt


def _prefix(item: Item) -> str:
    return item.prefix


def _suffix(item: Item) -> str:
    return item.suffix


@dataclass(frozen=True, slots=True)
class Score:
    """What became of each item: whether it passed, gave back exactly what was left out, was Python, was asked."""

    passed: list[bool]
    exact: list[bool]
    parsed: list[bool]
    asked: list[bool]
    forwards: float

    def as_json(self) -> dict[str, object]:
        """Rates with their 95 % Wilson intervals; items that were too long count as failed, but not as no Python."""
        n = len(self.passed)
        return {
            "n": n,
            "pass_at_1": rate_of(sum(self.passed), n),
            "exact_match": rate_of(sum(self.exact), n),
            "syntax_valid": rate_of(sum(self.parsed), sum(self.asked)),
            "mean_forwards": round(self.forwards, 2),
        }


def rate_of(passed: int, n: int) -> dict[str, float]:
    """A rate with its 95 % Wilson interval, rounded for print."""
    low, high = wilson(passed, n)
    return {"value": round(passed / max(n, 1), 4), "low": round(low, 4), "high": round(high, 4)}


def scored(items: Sequence[Item], filled: Sequence[Filled]) -> Score:
    """Run what was filled in.

    Raises:
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    asked = [one.text is not None for one in filled]
    texts = [(item, one.text) for item, one in zip(items, filled, strict=True) if one.text is not None]
    verdicts = iter(sandbox.run_many(item.trial(text) for item, text in texts))
    return Score(
        passed=[at and next(verdicts).passed for at in asked],
        exact=[one.text == item.middle for item, one in zip(items, filled, strict=True)],
        parsed=[parses(item.prefix + text + item.suffix) for item, text in texts],
        asked=asked,
        forwards=fmean(one.forwards for one in filled if one.text is not None) if texts else 0.0,
    )


def compared(
    items: Sequence[Item], model: LoadedText, twin: LoadedText, longest: int | None = None
) -> dict[str, object]:
    """The rates of model and twin on the same items, and how they differ; `longest` is the canvas if not given.

    Raises:
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    ours = scored(items, filled_by_model(model, items, longest or model.config.limit))
    theirs = scored(items, filled_by_twin(twin, items, longest or twin.config.limit))
    return {
        "n": len(items),
        "too_long": ours.asked.count(False),
        "model": ours.as_json(),
        "twin": theirs.as_json(),
        "passed_beside_twin": paired(ours.passed, theirs.passed),
        "exact_beside_twin": paired(ours.exact, theirs.exact),
    }


def table_rows(found: Mapping[str, object], *said: str) -> list[str]:
    """What `compared` found as two rows of a table, the words of `said` in the first columns."""
    rows = []
    for which in ("model", "twin"):
        row, beside = found[which], found["passed_beside_twin"]
        assert isinstance(row, dict)
        assert isinstance(beside, dict)
        difference = (
            f"{beside['difference']:+.3f} ({beside['low']:+.3f} to {beside['high']:+.3f})" if which == "model" else ""
        )
        cells = (
            *said, "diffusion" if which == "model" else "twin", str(row["n"]), *(
                f"{row[name]['value']:.3f} ({row[name]['low']:.3f} to {row[name]['high']:.3f})"
                for name in ("pass_at_1", "exact_match", "syntax_valid")
            ),
            difference, f"{row['mean_forwards']:.1f}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


ENOUGH = 100
"""Items of a row below which a table says that it is a short run."""
COLUMNS = ("Model", "n", "pass@1", "Exact", "Python", "Over the twin", "Forwards")
"""Heads of the columns of `table_rows` behind those of its words."""


def table_of(caption: str, words: Sequence[str], compared_rows: Sequence[Mapping[str, object]]) -> str:
    """A caption, and a table with columns for the words, by which each row has them, and `COLUMNS`."""
    heads = (*[word.capitalize() for word in words], *COLUMNS)
    if any(isinstance(n := row["n"], int) and n < ENOUGH for row in compared_rows):
        caption += f" *A short run: fewer than {ENOUGH} items in a row.*"
    rows = [line for row in compared_rows for line in table_rows(row, *(str(row[word]) for word in words))]
    return "\n".join([caption, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])

"""Whether generated functions do what their tasks ask: their tests, executed in the jail only."""

from __future__ import annotations

from collections.abc import Sequence

from perfuse import sandbox
from perfuse.training.corpus.tasks import Task

SECONDS = 2.0
"""Time for all tests of one function."""


def passes(tasks: Sequence[Task], texts: Sequence[str]) -> list[bool]:
    """Whether each text passes the tests of its task.

    Raises:
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    verdicts = sandbox.run_many(
        sandbox.Task(
            code=text,
            entry_point=task.entry_point,
            cases=[
                sandbox.Case(args=case.arguments, expected=case.expected, raises="ValueError" if case.raises else None)
                for case in task.cases
            ],
            seconds=SECONDS,
        )
        for task, text in zip(tasks, texts, strict=True)
    )
    return [verdict.passed for verdict in verdicts]

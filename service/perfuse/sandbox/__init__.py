"""Runs generated code in a jail; the judge stays outside. See docs/explanation/sandbox.md."""

from __future__ import annotations

from perfuse.sandbox.availability import Availability, availability
from perfuse.sandbox.drivers import ForeignLanguage, Program
from perfuse.sandbox.foreign import judge_programs, lacking
from perfuse.sandbox.judge import Case, Reason, Task, Verdict, run_many, run_tests

__all__ = [
    "Availability",
    "Case",
    "ForeignLanguage",
    "Program",
    "Reason",
    "Task",
    "Verdict",
    "availability",
    "judge_programs",
    "lacking",
    "run_many",
    "run_tests",
]

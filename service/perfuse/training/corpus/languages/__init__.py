"""Tasks in JavaScript, Rust, C and shell, written once and said in each language."""

from __future__ import annotations

from perfuse.training.corpus.languages.sketch import FOREIGN, Foreign
from perfuse.training.corpus.languages.tasks import VERSION, ForeignTask, foreign_tasks, held_out_foreign, tasks_in

__all__ = ["FOREIGN", "VERSION", "Foreign", "ForeignTask", "foreign_tasks", "held_out_foreign", "tasks_in"]

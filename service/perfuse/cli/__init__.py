"""The `perfuse` command. Data goes to stdout, words for people to stderr. Importing it imports no torch."""

from __future__ import annotations

from perfuse.cli.app import main

__all__ = ["main"]

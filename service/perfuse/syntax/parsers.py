"""Which parser a language has: Python's own, tree-sitter's, or one that another package brings."""

from __future__ import annotations

from typing import cast

from perfuse import plugins
from perfuse.errors import PluginFailed
from perfuse.syntax import python, trees
from perfuse.syntax.fault import Fault, Parser
from perfuse.wording import LANGUAGES

TEXT = "text"
"""The language that is none: nothing is named before the prompt, and nothing is parsed."""


def languages() -> list[str]:
    """Names of the languages that a request may be in."""
    return list(dict.fromkeys([*LANGUAGES, TEXT, *plugins.parsers()]))


def parser_of(language: str) -> Parser | None:
    """The parser of a language; an installed one goes before ours. None: the language has none.

    Raises:
        NotInstalled: the packages of tree-sitter are.
        ConfigError: the package of an installed parser cannot be imported, or names something that cannot be called.
    """
    if language in plugins.parsers():
        return _guarded(language)
    if language == "python":
        return python.faults
    return trees.parser(language) if language in LANGUAGES else None


def _guarded(language: str) -> Parser:
    found = cast("Parser", plugins.parser(language))

    def faults(code: str) -> list[Fault]:
        try:
            return list(found(code))
        except Exception as error:  # somebody else's code fails in its own name
            raise PluginFailed(f"the parser {language!r} failed: {type(error).__name__}: {error}") from error

    return faults

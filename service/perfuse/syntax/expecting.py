"""Whether what stands around a fill can be part of code that parses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from perfuse.syntax.parsers import parser_of

_ANYWHERE = ("", "_", " _", "_\n", "_;", "_)", "(_", "_:", ":", "{}", "_ {}", "}", "_;\n}")
"""What stands for a fill: nothing, a name, a statement, the end or the start of what is open."""


@lru_cache(maxsize=64)
def parseable(prefix: str, suffix: str, language: str) -> bool:
    """Whether the whole is expected to parse: nothing stands around the fill, or some stand-in for it makes it parse.

    False where the language has no parser. Fragments, a suffix that is cut off in the middle of a file for example,
    fit no stand-in.

    Raises:
        NotInstalled: the packages of the parser are.
        ConfigError, PluginFailed: a parser of another package cannot be used.
    """
    parser = parser_of(language)
    if parser is None:
        return False
    if not prefix and not suffix:
        return True
    return any(not parser(prefix + hole + suffix) for hole in _holes(prefix, suffix))


def _holes(prefix: str, suffix: str) -> Iterator[str]:
    yield from _ANYWHERE
    for indentation in dict.fromkeys(_indentations(prefix, suffix)):
        yield f"{indentation}pass\n"
        yield f"\n{indentation}pass\n"
        yield f"_:\n{indentation}pass\n"
        yield f"():\n{indentation}pass\n"


def _indentations(prefix: str, suffix: str) -> Iterator[str]:
    """Of the lines next to the fill, and one step deeper than the one before it."""
    before = next((line for line in reversed(prefix.split("\n")) if line.strip()), "")
    behind = next((line for line in suffix.split("\n")[1:] if line.strip()), "")
    for line in (behind, before):
        yield line[: len(line) - len(line.lstrip())]
    own = before[: len(before) - len(before.lstrip())]
    yield own + ("\t" if "\t" in own else "    ")

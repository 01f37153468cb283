"""JavaScript, Rust, C and shell by tree-sitter, which parses on behind an error and so finds them all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from perfuse.errors import NotInstalled
from perfuse.syntax.fault import Fault, Parser

if TYPE_CHECKING:
    import tree_sitter

GRAMMARS: Mapping[str, str] = {
    "javascript": "tree_sitter_javascript",
    "rust": "tree_sitter_rust",
    "c": "tree_sitter_c",
    "shell": "tree_sitter_bash",
}
"""The package of each language's grammar."""
_SHOWN = 20


@cache
def parser(language: str) -> Parser:
    """The parser of a language of `GRAMMARS`. Raises NotInstalled."""
    package = GRAMMARS[language]
    try:
        import tree_sitter

        grammar = importlib.import_module(package)
    except ImportError as error:
        names = f"tree-sitter {package.replace('_', '-')}"
        raise NotInstalled(
            f"the parser of {language} is not installed: {error}", field="/syntax", hint=f"pip install {names}"
        ) from None
    known = tree_sitter.Language(grammar.language())

    def faults(code: str) -> list[Fault]:
        raw = code.encode()
        root = tree_sitter.Parser(known).parse(raw).root_node  # a parser is of one thread
        return _found(root, raw) if root.has_error else []

    return faults


def _found(root: tree_sitter.Node, raw: bytes) -> list[Fault]:
    """Outermost errors and missing tokens, in order."""
    found: list[Fault] = []
    open_nodes = [root]
    while open_nodes:
        node = open_nodes.pop()
        if node.is_missing or node.is_error:
            found.append(_fault(node, raw))
        elif node.has_error:
            open_nodes += reversed(node.children)
    return found


def _fault(node: tree_sitter.Node, raw: bytes) -> Fault:
    """Tree-sitter counts bytes."""
    start, end = len(raw[: node.start_byte].decode()), len(raw[: node.end_byte].decode())
    line = raw.count(b"\n", 0, node.start_byte) + 1
    if node.is_missing:
        return Fault(start, end, line, f"expected {node.type!r}")
    text = raw[node.start_byte : node.end_byte].decode()
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return Fault(start, end, line, f"unexpected {shown!r}")

"""A verifier of its own package: it judges a text without executing it."""

from __future__ import annotations

from collections.abc import Mapping

PAIRS = {")": "(", "]": "[", "}": "{"}


def balanced(text: str, arguments: Mapping[str, object]) -> bool:
    """Whether every bracket is closed in order, within `arguments["longest"]` characters where that is given."""
    longest = arguments.get("longest")
    if isinstance(longest, int) and len(text) > longest:
        return False
    open_: list[str] = []
    for character in text:
        if character in PAIRS.values():
            open_.append(character)
        elif character in PAIRS and (not open_ or open_.pop() != PAIRS[character]):
            return False
    return not open_

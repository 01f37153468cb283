"""The canvas of a text model: `<bos> prompt <sep> suffix <eos> prefix [span]`.

The suffix comes before the prefix, so that the span may have any length and continues the prefix (arXiv 2207.14255).
The span starts as masks; what the model does not need of it becomes `<null>` and is dropped from the text. Each part
is encoded by itself, so a cut may fall anywhere, also inside a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfuse.models.tokenizer import BOS, EOS, MASK, SEP, TextTokenizer

MASK_CHARACTER = "\u2591"
"""Shown for a masked position in previews."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Ids with the span `start:end` to be filled."""

    ids: tuple[int, ...]
    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of positions in the span."""
        return self.end - self.start


def given(prompt: Sequence[int], prefix: Sequence[int], suffix: Sequence[int]) -> tuple[int, ...]:
    """What stands before the span."""
    return (BOS, *prompt, SEP, *suffix, EOS, *prefix)


def lay_out(prompt: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int) -> Canvas:
    """The canvas with a span of `length` masks."""
    head = given(prompt, prefix, suffix)
    return Canvas((*head, *(MASK,) * length), len(head), len(head) + length)


def partial_text(tokenizer: TextTokenizer, span: Sequence[int]) -> str:
    """The span as text while it fills: one sign per masked position, nothing for nulls."""
    pieces: list[str] = []
    settled: list[int] = []
    for token in span:
        if token == MASK:
            pieces.append(tokenizer.decode(settled) + MASK_CHARACTER)
            settled = []
        else:
            settled.append(token)
    return "".join(pieces) + tokenizer.decode(settled)


def settled_text(tokenizer: TextTokenizer, span: Sequence[int]) -> str:
    """How the filled span will begin, whatever else is settled: its text up to the first mask.

    A character of which only the first bytes are settled is left out.
    """
    if MASK not in span:
        return tokenizer.decode(span)
    return tokenizer.decode(span[: span.index(MASK)]).rstrip("\N{REPLACEMENT CHARACTER}")

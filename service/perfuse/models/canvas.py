"""The canvas of a text model: `<bos> prompt <sep> prefix [span] suffix <eos>`.

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


def lay_out(prompt: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int) -> Canvas:
    """The canvas with a span of `length` masks."""
    head = (BOS, *prompt, SEP, *prefix)
    return Canvas((*head, *(MASK,) * length, *suffix, EOS), len(head), len(head) + length)


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

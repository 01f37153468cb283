"""Training rows: canvases `<bos> prompt <sep> suffix <eos> prefix [span]` with the span's ids known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor

from perfuse.diffusion.blocks import Places
from perfuse.models.canvas import given
from perfuse.models.tokenizer import NULL, TextTokenizer
from perfuse.training.corpus.sources import windows
from perfuse.training.corpus.tasks import training_tasks

COMMENTS = ("# ✅ done", "# 🚀 fast path", "# see below", "# café ☕", "# note: keep the order", "# 日本語")
LIMIT = 224


@dataclass(frozen=True, slots=True)
class Row:
    """One canvas; ids from `start` on are the span to learn, or with a negative weight to unlearn."""

    ids: tuple[int, ...]
    start: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of similar length, each given text, span and, if asked for, a second copy of the span; nulls behind."""

    tokens: Tensor
    """`[B, L]` int64."""
    positions: Tensor
    """`[B, L]` int64, where each id stands on its canvas; a copy stands where the span stands."""
    places: Places
    weights: Tensor
    """`[B]` float32, how much each row counts."""


def restyle(code: str, rng: Random) -> str:
    """The same code with a comment, with tabs or with CRLF, as files in the wild have them."""
    if rng.random() < 0.25:
        lines = code.split("\n")
        at = rng.randrange(len(lines) - 1)
        lines[at] += "  " + rng.choice(COMMENTS)
        code = "\n".join(lines)
    if rng.random() < 0.1:
        code = code.replace("    ", "\t")
    if rng.random() < 0.1:
        code = code.replace("\n", "\r\n")
    return code


def cut(text: str, rng: Random) -> tuple[str, str, str]:
    """Prefix, middle and suffix at two random places between characters; the middle is not empty."""
    start, end = sorted(rng.sample(range(len(text) + 1), 2))
    return text[:start], text[start:end], text[end:]


def canvas(tokenizer: TextTokenizer, parts: tuple[str, str, str, str], rng: Random) -> Row:
    """The row of (prompt, prefix, middle, suffix), each encoded by itself as a request brings them.

    Nulls follow the middle, because the sampler's window reaches beyond the end of a text.
    """
    prompt, prefix, middle, suffix = tokenizer.encode_batch(parts)
    head = given(prompt, prefix, suffix)
    nulls = 1 + min(int(rng.expovariate(1 / 6)), 23)
    return Row((*head, *middle, *(NULL,) * nulls), len(head))


def endless(tokenizer: TextTokenizer, rng: Random, cuts: float) -> Iterator[Row]:
    """Endless rows: a share `cuts` of cut functions, 3 % cut raw Python, else whole functions from sentences."""
    tasks, raw = training_tasks(rng), windows(rng)
    while True:
        draw = rng.random()
        if draw < 0.97 - cuts:
            task = next(tasks)
            prefix = task.signature if rng.random() < 0.1 else ""
            row = canvas(tokenizer, (task.prompt, prefix, task.code[len(prefix) :], ""), rng)
        elif draw < 0.97:
            task = next(tasks)
            prompt = task.prompt if rng.random() < 0.5 else ""
            row = canvas(tokenizer, (prompt, *cut(restyle(task.code, rng), rng)), rng)
        else:
            row = canvas(tokenizer, ("", *cut(next(raw), rng)), rng)
        if len(row.ids) <= LIMIT:
            yield row


def pack(rows: Sequence[Row], tokens: int, *, copies: bool) -> list[Batch]:
    """Rows sorted by length and cut into batches of about `tokens` ids.

    Lengths are multiples of 16 and the number of rows follows from the length, so there are few shapes.
    """
    ordered = sorted(rows, key=lambda row: -width(row, copies=copies))
    batches, start = [], 0
    while start < len(ordered):
        size = max(1, tokens // (-(-width(ordered[start], copies=copies) // 16) * 16))
        batches.append(collate(ordered[start : start + size], copies=copies))
        start += size
    return batches


def width(row: Row, *, copies: bool) -> int:
    """Ids of a row in a batch."""
    return len(row.ids) + (len(row.ids) - row.start if copies else 0)


def collate(rows: Sequence[Row], *, copies: bool) -> Batch:
    """One padded batch."""
    shape = len(rows), -(-max(width(row, copies=copies) for row in rows) // 16) * 16
    tokens, positions = torch.full(shape, NULL), torch.zeros(shape, dtype=torch.long)
    index, copy = torch.full(shape, -1), torch.zeros(shape, dtype=torch.bool)
    keys = torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        end, span = len(row.ids), len(row.ids) - row.start
        tokens[i, :end] = torch.tensor(row.ids)
        positions[i, :end] = torch.arange(end)
        index[i, row.start : end] = torch.arange(span)
        if copies:
            for made in (tokens, positions, index):
                made[i, end : end + span] = made[i, row.start : end]
            copy[i, end : end + span] = True
        keys[i, : end + span * copies] = True
    return Batch(tokens, positions, Places(index, copy, keys), torch.tensor([row.weight for row in rows]))


def pool(
    tokenizer: TextTokenizer, seed: int, index: int, *, cuts: float, copies: bool, rows: int, tokens: int
) -> list[Batch]:
    """Pool number `index` of batches, a function of (seed, index) alone, in random order."""
    rng = Random(f"{seed}/{index}")
    batches = pack(list(islice(endless(tokenizer, rng, cuts), rows)), tokens, copies=copies)
    rng.shuffle(batches)
    return batches

"""Training rows: canvases `<bos> prompt <sep> prefix [span] suffix <eos>` with the span's ids known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor

from perfuse.models.tokenizer import BOS, EOS, NULL, SEP, TextTokenizer
from perfuse.training.corpus.sources import windows
from perfuse.training.corpus.tasks import training_tasks

COMMENTS = ("# ✅ done", "# 🚀 fast path", "# see below", "# café ☕", "# note: keep the order", "# 日本語")
LIMIT = 224


@dataclass(frozen=True, slots=True)
class Row:
    """One canvas; ids `start:end` are the span to learn."""

    ids: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of similar length, padded behind with nulls."""

    tokens: Tensor
    """`[B, L]` int64."""
    keys: Tensor
    """`[B, L]` bool, true at real positions."""
    span: Tensor
    """`[B, L]` bool, true in the span."""


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


def spare(used: int, rng: Random) -> int:
    """How many nulls follow the text of a span: few mostly, sometimes up to a round length."""
    draw = rng.random()
    if draw < 0.1:
        return 0
    if draw < 0.25:
        return -used % 32
    if draw < 0.4:
        return max(0, 96 - used)
    return min(int(rng.expovariate(1 / 12)), 80)


def canvas(tokenizer: TextTokenizer, parts: tuple[str, str, str, str], rng: Random) -> Row:
    """The row of (prompt, prefix, middle, suffix), each encoded by itself as a request brings them."""
    prompt, prefix, middle, suffix = tokenizer.encode_batch(parts)
    head = [BOS, *prompt, SEP, *prefix]
    span = middle + [NULL] * spare(len(middle), rng)
    return Row((*head, *span, *suffix, EOS), len(head), len(head) + len(span))


def diffusion_rows(tokenizer: TextTokenizer, rng: Random) -> Iterator[Row]:
    """Endless rows: 65 % whole functions from sentences, 31 % cut functions, 4 % cut raw Python."""
    tasks, raw = training_tasks(rng), windows(rng)
    while True:
        draw = rng.random()
        if draw < 0.65:
            task = next(tasks)
            prefix = task.signature if rng.random() < 0.15 else ""
            row = canvas(tokenizer, (task.prompt, prefix, task.code[len(prefix) :], ""), rng)
        elif draw < 0.96:
            task = next(tasks)
            prompt = task.prompt if rng.random() < 0.5 else ""
            row = canvas(tokenizer, (prompt, *cut(restyle(task.code, rng), rng)), rng)
        else:
            row = canvas(tokenizer, ("", *cut(next(raw), rng)), rng)
        if len(row.ids) <= LIMIT:
            yield row


def causal_rows(tokenizer: TextTokenizer, rng: Random) -> Iterator[Row]:
    """Endless rows for the autoregressive twin: 96 % functions from sentences, 4 % raw Python, no nulls."""
    tasks, raw = training_tasks(rng), windows(rng)
    while True:
        if rng.random() < 0.96:
            task = next(tasks)
            prompt, text = task.prompt, task.code
        else:
            prompt, text = "", next(raw)
        head, span = tokenizer.encode_batch((prompt, text))
        ids = (BOS, *head, SEP, *span, EOS)
        if len(ids) <= LIMIT:
            yield Row(ids, len(head) + 2, len(ids))


def pack(rows: Sequence[Row], tokens: int) -> list[Batch]:
    """Rows sorted by length and cut into batches of about `tokens` ids.

    Lengths are multiples of 16 and the number of rows follows from the length, so there are few shapes.
    """
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    batches, start = [], 0
    while start < len(ordered):
        size = max(1, tokens // (-(-len(ordered[start].ids) // 16) * 16))
        batches.append(collate(ordered[start : start + size]))
        start += size
    return batches


def collate(rows: Sequence[Row]) -> Batch:
    """One padded batch."""
    length = -(-max(len(row.ids) for row in rows) // 16) * 16
    tokens = torch.full((len(rows), length), NULL)
    keys = torch.zeros(len(rows), length, dtype=torch.bool)
    span = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = torch.tensor(row.ids)
        keys[i, : len(row.ids)] = True
        span[i, row.start : row.end] = True
    return Batch(tokens, keys, span)


def pool(tokenizer: TextTokenizer, seed: int, index: int, *, causal: bool, rows: int, tokens: int) -> list[Batch]:
    """Pool number `index` of batches, a function of (seed, index) alone, in random order."""
    rng = Random(f"{seed}/{index}")
    source = causal_rows(tokenizer, rng) if causal else diffusion_rows(tokenizer, rng)
    batches = pack(list(islice(source, rows)), tokens)
    rng.shuffle(batches)
    return batches

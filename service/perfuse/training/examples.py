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
from perfuse.training.answers import Answer
from perfuse.training.corpus.languages import foreign_tasks
from perfuse.training.corpus.pairs import Pair
from perfuse.training.corpus.records import records
from perfuse.training.corpus.repairs import repairs
from perfuse.training.corpus.sources import windows
from perfuse.training.corpus.tasks import training_tasks
from perfuse.wording import worded

COMMENTS = ("# ✅ done", "# 🚀 fast path", "# see below", "# café ☕", "# note: keep the order", "# 日本語")
LIMIT = 224
Parts = tuple[str, str, str, str]
"""Prompt, prefix, middle and suffix of a row."""


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


def canvas(tokenizer: TextTokenizer, parts: Parts, rng: Random) -> Row:
    """The row of (prompt, prefix, middle, suffix), each encoded by itself as a request brings them.

    Nulls follow the middle, because the sampler's window reaches beyond the end of a text.
    """
    prompt, prefix, middle, suffix = tokenizer.encode_batch(parts)
    head = given(prompt, prefix, suffix)
    nulls = 1 + min(int(rng.expovariate(1 / 6)), 23)
    return Row((*head, *middle, *(NULL,) * nulls), len(head))


@dataclass(frozen=True, slots=True)
class Shares:
    """Which part of the rows comes from where; whole Python functions take what the others leave.

    Attributes:
        cuts: functions with a gap, every second without its sentence.
        raw: raw Python with a gap.
        pairs: documented functions of others.
        foreign: functions in other languages.
        records: JSON.
        repairs: wrong programs, every second made right as a whole, else in the lines that differ.
        answers: what the model itself answered to sentences.
    """

    cuts: float
    raw: float = 0.03
    pairs: float = 0.0
    foreign: float = 0.0
    records: float = 0.0
    repairs: float = 0.0
    answers: float = 0.0

    @property
    def whole(self) -> float:
        """Of whole Python functions."""
        return 1.0 - self.cuts - self.raw - self.pairs - self.foreign - self.records - self.repairs - self.answers


WIDE_GAPS = 0.3
"""Share of documented and of foreign functions that are shown with a gap."""
HEADED = 0.1
"""Share of whole functions of which the first line is given."""


class Corpus:
    """Endless parts of rows from every source of `shares`.

    Args:
        rng: of everything random.
        shares: which part comes from where.
        pairs: documented functions, where `shares` has a share of them.
        answers: a model's own, where `shares` has a share of them.
    """

    def __init__(self, rng: Random, shares: Shares, pairs: Sequence[Pair] = (), answers: Sequence[Answer] = ()) -> None:
        self._rng, self._pairs, self._answers = rng, pairs, answers
        self._tasks, self._raw = training_tasks(rng), windows(rng)
        self._foreign, self._records, self._repairs = foreign_tasks(rng), records(rng), repairs(rng)
        drawn = (
            (shares.whole, self._whole),
            (shares.cuts, self._cut),
            (shares.pairs, self._pair),
            (shares.foreign, self._other_language),
            (shares.records, self._record),
            (shares.repairs, self._repair),
            (shares.answers, self._answer),
            (shares.raw, self._window),
        )
        self._sources, self._shares = [source for _, source in drawn], [share for share, _ in drawn]

    def __iter__(self) -> Iterator[Parts]:
        while True:
            (source,) = self._rng.choices(self._sources, self._shares)
            yield source()

    def _whole(self) -> Parts:
        task = next(self._tasks)
        prefix = task.signature if self._rng.random() < HEADED else ""
        return task.prompt, prefix, task.code[len(prefix) :], ""

    def _cut(self) -> Parts:
        task = next(self._tasks)
        prompt = task.prompt if self._rng.random() < 0.5 else ""
        return prompt, *cut(restyle(task.code, self._rng), self._rng)

    def _window(self) -> Parts:
        return "", *cut(next(self._raw), self._rng)

    def _pair(self) -> Parts:
        pair = self._rng.choice(self._pairs)
        return self._shown(pair.prompt, pair.code)

    def _other_language(self) -> Parts:
        task = next(self._foreign)
        return self._shown(worded(task.prompt, task.language), task.code)

    def _shown(self, prompt: str, code: str) -> Parts:
        """Whole, with the first line given, or with a gap."""
        if self._rng.random() < WIDE_GAPS:
            return prompt, *cut(code, self._rng)
        head = code.partition("\n")[0] if self._rng.random() < HEADED else ""
        return prompt, head, code[len(head) :], ""

    def _answer(self) -> Parts:
        answer = self._rng.choice(self._answers)
        head = answer.code.partition("\n")[0] if self._rng.random() < HEADED else ""
        return answer.prompt, head, answer.code[len(head) :], ""

    def _record(self) -> Parts:
        prompt, text = next(self._records)
        return prompt, "", text, ""

    def _repair(self) -> Parts:
        repair = next(self._repairs)
        if self._rng.random() < 0.5:
            return worded(repair.prompt, broken=repair.broken, error=repair.error), "", repair.code, ""
        return worded(repair.prompt, error=repair.error), *repair.around()


def endless(
    tokenizer: TextTokenizer,
    rng: Random,
    shares: Shares,
    pairs: Sequence[Pair] = (),
    answers: Sequence[Answer] = (),
) -> Iterator[Row]:
    """Endless rows that fit the canvas."""
    for parts in Corpus(rng, shares, pairs, answers):
        row = canvas(tokenizer, parts, rng)
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
    tokenizer: TextTokenizer,
    seed: int,
    index: int,
    *,
    shares: Shares,
    copies: bool,
    rows: int,
    tokens: int,
    pairs: Sequence[Pair] = (),
    answers: Sequence[Answer] = (),
) -> list[Batch]:
    """Pool number `index` of batches, a function of (seed, index) alone, in random order."""
    rng = Random(f"{seed}/{index}")
    batches = pack(list(islice(endless(tokenizer, rng, shares, pairs, answers), rows)), tokens, copies=copies)
    rng.shuffle(batches)
    return batches

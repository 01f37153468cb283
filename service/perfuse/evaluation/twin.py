"""Greedy decoding of the autoregressive twin: one token per forward, for the row beside the diffusion model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfuse.models.call import Call
from perfuse.models.canvas import given
from perfuse.models.text import LoadedText
from perfuse.models.tokenizer import NULL

ROWS = 64
"""Of a forward at most; the logits of every position take memory."""


def complete(model: LoadedText, prompts: Sequence[str], *, limit: int = 128) -> list[tuple[str, int]]:
    """Text and number of forwards for each prompt; a text ends at its first null or after `limit` tokens."""
    return continued(model, [given(model.tokenizer.encode(prompt), (), ()) for prompt in prompts], limit=limit)


def continued(model: LoadedText, heads: Sequence[Sequence[int]], *, limit: int) -> list[tuple[str, int]]:
    """Text behind each head and number of forwards; it ends at its first null, after `limit` tokens or with the canvas.

    All rows advance together, in batches of equal padded length.
    """
    rows = [list(head) for head in heads]
    running = {i for i, row in enumerate(rows) if len(row) < model.config.limit}
    for _ in range(limit):
        if not running:
            break
        calls = {i: Call(model.network, {"tokens": torch.tensor(rows[i])}) for i in sorted(running)}
        groups: dict[object, list[int]] = {}
        for i, call in calls.items():
            groups.setdefault(model.network.key(call), []).append(i)
        for indices in (group[at : at + ROWS] for group in groups.values() for at in range(0, len(group), ROWS)):
            outputs = model.network.forward([calls[i] for i in indices])
            for i, output in zip(indices, outputs, strict=True):
                token = int(output["logits"][-1].argmax())
                rows[i].append(token)
                if token == NULL or len(rows[i]) == model.config.limit:
                    running.discard(i)
    return [
        (model.tokenizer.decode(row[len(head) :]), len(row) - len(head)) for row, head in zip(rows, heads, strict=True)
    ]

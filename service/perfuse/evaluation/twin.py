"""Greedy decoding of the autoregressive twin: one token per forward, for the row beside the diffusion model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfuse.models.call import Call
from perfuse.models.canvas import given
from perfuse.models.text import LoadedText
from perfuse.models.tokenizer import NULL


def complete(model: LoadedText, prompts: Sequence[str], *, limit: int = 128) -> list[tuple[str, int]]:
    """Text and number of forwards for each prompt; a text ends at its first null or after `limit` tokens.

    All prompts advance together, in batches of equal padded length.
    """
    rows = [list(given(model.tokenizer.encode(prompt), (), ())) for prompt in prompts]
    starts = [len(row) for row in rows]
    running = set(range(len(rows)))
    for _ in range(limit):
        if not running:
            break
        calls = {i: Call(model.network, {"tokens": torch.tensor(rows[i])}) for i in sorted(running)}
        groups: dict[object, list[int]] = {}
        for i, call in calls.items():
            groups.setdefault(model.network.key(call), []).append(i)
        for indices in groups.values():
            outputs = model.network.forward([calls[i] for i in indices])
            for i, output in zip(indices, outputs, strict=True):
                token = int(output["logits"][-1].argmax())
                rows[i].append(token)
                if token == NULL:
                    running.discard(i)
    return [(model.tokenizer.decode(row[start:]), len(row) - start) for row, start in zip(rows, starts, strict=True)]

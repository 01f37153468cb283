"""What a pipeline asks before it computes a request: which adaptation its calls carry."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from perfuse.adaptation.isotonic import Falling
from perfuse.adaptation.router import Found, Router, not_served
from perfuse.errors import InvalidRequest, StoreCorrupt
from perfuse.models.lora import Adaptation
from perfuse.pipelines.contract import Run
from perfuse.requests import AUTO, NONE, Attribution
from perfuse.store.store import Snapshot

_ASKED = re.compile(rf"{AUTO}|{NONE}|ad_[0-9a-f]{{32}}")


@dataclass(frozen=True, slots=True)
class Adapted:
    """What is added to the base model for one request, and what its answer says of that.

    Attributes:
        adaptation: what is added.
        attribution: what is said.
        chance: that an answer is right, by its doubt; None where the gate saw too few answers to say.
    """

    adaptation: Adaptation
    attribution: Attribution
    chance: Falling | None = None


def check(asked: str) -> None:
    """Raises InvalidRequest for what is no value of `adaptation`."""
    if _ASKED.fullmatch(asked) is None:
        raise InvalidRequest(
            f"adaptation is {asked!r}; expected {AUTO!r}, {NONE!r} or an id like 'ad_' and 32 hexadecimal digits",
            field="/adaptation",
            hint="leave out `adaptation` for what was learned",
        )


def calls(router: Router | None, asked: str) -> int:
    """Most rows that `find` computes."""
    return 1 if router is not None and asked == AUTO else 0


async def find(router: Router | None, asked: str, prompt: str, run: Run) -> Adapted | None:
    """What answers a request beside the base model; None: nothing.

    A request is never worse off for what was learned: where the bytes of an adaptation that was found for it cannot be
    used, the base model answers.

    Args:
        router: None where the model cannot learn.
        asked: the request's `adaptation`.
        prompt: what decides where it belongs.
        run: of the request.

    Raises:
        InvalidRequest: an adaptation was asked for by id, and none of that id serves this tenant and model.
        StoreCorrupt: the same, and its bytes cannot be used.
    """
    if asked == NONE:
        return None
    if router is None or not isinstance(run.snapshot, Snapshot):
        if asked != AUTO:
            raise not_served(asked)
        return None
    if asked != AUTO:
        return await _loaded(router, router.named(run.snapshot, run.tenant, asked), run)
    if (found := await _nearest(router, prompt, run, run.snapshot)) is None:
        return None
    try:
        return await _loaded(router, found, run)
    except StoreCorrupt:
        return None


async def _nearest(router: Router, prompt: str, run: Run, snapshot: Snapshot) -> Found | None:
    if not router.concerns(snapshot, run.tenant):
        return None
    call = router.encoder.call(prompt)
    (output,) = await run.forward(call)
    here = torch.zeros(1, dtype=torch.long)

    def draw(purpose: str) -> float:
        # With the prompt: many clients always send the same seed, and a share of their requests is to be drawn too.
        return float(run.uniform(f"{purpose}/{prompt}", 0, here))

    return router.nearest(snapshot, run.tenant, router.encoder.vector(call, output), draw)


async def _loaded(router: Router, found: Found, run: Run) -> Adapted:
    record, residency = found.record, router.residency
    held = residency.held(record.id)
    loaded = held if held is not None else await run.offload(residency.load, record.id, record.blob)
    return Adapted(loaded, found.attribution, found.chance)

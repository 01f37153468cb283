"""`perfuse eval isolation`: requests that nothing learned is for are answered as by a server that never learned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfuse.evaluation.champions import Given, crowned, given
from perfuse.evaluation.learning import LIVE, Teaching, anchor_tasks, learning, settled, teach, tell
from perfuse.evaluation.load import serving
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family


@dataclass(frozen=True, slots=True)
class Compared:
    """Answers of a server that has learned beside those of one that has not, request by request.

    Attributes:
        outside: requests in which no adaptation took part.
        identical: of these, how many answers have the same bytes.
        digests: SHA-256 over the answers to these requests, of the server that has not learned and of the other one.
    """

    outside: int
    identical: int
    digests: tuple[str, str]


def compared(plain: Sequence[Given], learned: Sequence[Given]) -> Compared:
    """Both servers' answers to the requests that nothing learned took part in."""
    outside = [(a.outputs, b.outputs) for a, b in zip(plain, learned, strict=True) if not b.adaptations]
    digests = [hashlib.sha256(b"\0".join(side)).hexdigest() for side in zip(*outside, strict=True)] or ["", ""]
    return Compared(len(outside), sum(a == b for a, b in outside), (digests[0], digests[1]))


async def isolation(
    folder: Path,
    chosen: Sequence[Family],
    *,
    items: int = 96,
    requests: int = 1000,
    say: Callable[[str], None] = tell,
) -> dict[str, object]:
    """Teach a server, and compare its answers to base tasks with those of a server with an empty store.

    Args:
        folder: for data directories.
        chosen: what is taught, one after another.
        items: corrections per family.
        requests: base tasks that are asked of both.
        say: told about the progress.

    Raises:
        PerfuseError: nothing taught could be brought to serve.
    """
    tasks = anchor_tasks(requests)
    taught = {}
    with learning(folder) as server:
        await server.ready()
        for family in chosen:
            shown = families.tasks(family, "feedback", items + LIVE)
            await teach(server, shown[:items], Teaching())
            await settled(server)
            there = await crowned(server, shown[items:])
            probes = [drawn.task for drawn in families.tasks(family, "evaluation", 20)]
            adapted = sum(bool(each.adaptations) for each in await given(server, probes))
            taught[family.name] = {"champions": list(there.ids), "forced": there.forced, "adapted_of_20": adapted}
            say(f"{family.name} is taught: {adapted} of 20 unseen requests are adapted")
        learned = await given(server, tasks)
    with serving(folder / "plain", "--evolution", "off", "--max-backlog-seconds", "600") as server:
        await server.ready()
        plain = await given(server, tasks)
    found = compared(plain, learned)
    say(f"{found.identical} of {found.outside} answers outside every radius are identical")
    return {
        "taught": taught,
        "requests": len(tasks),
        "outside": found.outside,
        "identical": found.identical,
        "sha256": {"without_learning": found.digests[0], "with_adaptations": found.digests[1]},
        "equal": found.digests[0] == found.digests[1],
    }

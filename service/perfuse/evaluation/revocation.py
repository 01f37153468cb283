"""`perfuse eval revocation`: what one source gave is taken back while the server serves, and nothing of it is left.

Two sources teach one kind of request, half of it each. The one that is taken back writes a marker into every
correction, so answers show whether its lessons are still in use, and files whether its bytes are still there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from perfuse.api.learned import RevokeAnswer
from perfuse.engine.housing import STORE
from perfuse.errors import PerfuseError
from perfuse.evaluation.champions import Given, adapter, adapters, champions, crowned, given
from perfuse.evaluation.learning import LIVE, accepted, asked, learning, score, sent, settled, tell, verifier_of
from perfuse.evaluation.load import Server
from perfuse.store.blobs import FOLDER as BLOBS
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family, FamilyTask
from perfuse.training.corpus.tasks import Task

KEPT, REVOKED = "keeper", "leaver"
MARKER = "zq7 leaver was here"
PROBES = 40
_CHUNK = 1 << 20


def marked(code: str) -> str:
    """A correction with the marker as a comment behind its first line."""
    first, _, rest = code.partition("\n")
    return f"{first}  # {MARKER}\n{rest}"


def files_with(folder: Path, text: str) -> dict[str, int]:
    """How often each file under `folder` holds `text`, by its path there; only those that do. Pipes are passed over."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            try:
                count = _occurrences(path, text.encode())
            except FileNotFoundError:  # a server that runs removes files
                continue
            if count:
                found[str(path.relative_to(folder))] = count
    return found


def _occurrences(path: Path, wanted: bytes) -> int:
    count, tail = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            window = tail + chunk
            count += window.count(wanted)
            tail = window[-(len(wanted) - 1) :]  # too short to hold one whole
    return count


async def revocation(
    folder: Path, family: Family, *, items: int = 96, evaluated: int = 200, say: Callable[[str], None] = tell
) -> dict[str, object]:
    """Teach, revoke, rebuild, purge, and look for what is left.

    Args:
        folder: for the data directory.
        family: what is taught.
        items: corrections, half of each source.
        evaluated: tasks of the family that nobody corrected.
        say: told about the progress.

    Raises:
        PerfuseError: nothing taught could be brought to serve.
    """
    unseen = [drawn.task for drawn in families.tasks(family, "evaluation", evaluated)]
    probes = unseen[:PROBES]
    shown = families.tasks(family, "feedback", items + 2 * LIVE)
    with learning(folder) as server:
        await server.ready()
        await _teach(server, shown[:items])
        await settled(server)
        there = await crowned(server, shown[items : items + LIVE])
        before = await given(server, probes)
        rate_before = (await score(server, unseen)).as_json()
        touched = [each for each in await adapters(server) if REVOKED in (await adapter(server, each.id)).sources]
        blobs = {(await adapter(server, each.id)).blob for each in touched}
        files_before = files_with(server.data_dir, MARKER)
        say(f"{len(touched)} adaptations were trained on {REVOKED}; {_adapted(before)} of {len(probes)} are adapted")

        taken, seconds, during, after = await _revoke(server, probes)
        say(f"revoked in {1e3 * seconds:.0f} ms; {_adapted(after)} of {len(probes)} are adapted")

        await settled(server)
        again = await crowned(server, shown[items + LIVE :])
        rebuilt = [await adapter(server, identity) for identity in await champions(server)]
        last = await given(server, probes)
        rate_after = (await score(server, unseen)).as_json()
        states = {each.id: each.state for each in await adapters(server)}
        files_revoked = files_with(server.data_dir, MARKER)
        blobs_revoked = _there(server, blobs)
        purged = await _purge(server)
        blobs_purged = _there(server, blobs)
    return {
        "simulated_feedback": True,
        "family": family.name,
        "items": items,
        "before": {
            "champions": list(there.ids),
            "forced": there.forced,
            "pass_at_1": rate_before,
            "adapted": _adapted(before),
            "answers_with_marker": _with_marker(before),
            "files_with_marker": files_before,
        },
        "revoke": {
            "milliseconds": round(1e3 * seconds, 1),
            "retired": list(taken.retired),
            "feedback_removed": taken.feedback,
            "all_retired": all(states[each.id] in ("retired", "rejected") for each in touched),
            "failed_requests_during": during,
            "adapted_right_after": _adapted(after),
            "answers_with_marker": _with_marker(after),
        },
        "rebuild": {
            "jobs": list(taken.jobs),
            "champions": {each.id: list(each.sources) for each in rebuilt},
            "forced": again.forced,
            "without_source": bool(rebuilt) and all(REVOKED not in each.sources for each in rebuilt),
            "pass_at_1": rate_after,
            "adapted": _adapted(last),
            "answers_with_marker": _with_marker(last),
            "files_with_marker": files_revoked,
        },
        "purge": {
            "blobs_before": blobs_revoked,
            "blobs_removed": len(purged),
            "blobs_left": blobs_purged,
            "files_with_marker": files_with(folder / "data", MARKER),
        },
    }


async def _teach(server: Server, tasks: Sequence[FamilyTask]) -> None:
    for number, drawn in enumerate(tasks):
        source = REVOKED if number % 2 else KEPT
        identity = await asked(server, drawn.task)
        correction = marked(drawn.task.code) if source == REVOKED else drawn.task.code
        body = {"generation_id": identity, "source": source, "correction": correction}
        await accepted(server, {**body, "verifier": verifier_of(drawn.task)})


async def _revoke(server: Server, probes: Sequence[Task]) -> tuple[RevokeAnswer, float, int, list[Given]]:
    """Revoke while requests run.

    Returns:
        The answer, the seconds until it came, requests that failed meanwhile, and answers to the probes right after.
    """
    stop = asyncio.Event()
    failed = 0

    async def go_on() -> None:
        nonlocal failed
        while not stop.is_set():
            try:
                await given(server, probes[:2])
            except (OSError, PerfuseError):
                failed += 1

    running = asyncio.create_task(go_on())
    started = time.monotonic()
    answer = await sent(server, "/evolution/revoke", {"source": REVOKED}, 200)
    seconds = time.monotonic() - started
    after = await given(server, probes)
    stop.set()
    await running
    return msgspec.json.decode(answer.body, type=RevokeAnswer), seconds, failed, after


async def _purge(server: Server) -> list[str]:
    """What `perfuse evolve purge` removes, by name."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "perfuse", "evolve", "purge", "--json", "--data-dir", str(server.data_dir),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await child.communicate()
    if child.returncode != 0:
        raise PerfuseError(f"perfuse evolve purge ended with {child.returncode}: {said.decode()[-500:]}")
    removed: list[str] = json.loads(out)["blobs"]
    return removed


def _there(server: Server, blobs: set[str]) -> int:
    return sum((server.data_dir / STORE / BLOBS / name).exists() for name in blobs)


def _adapted(answers: Sequence[Given]) -> int:
    return sum(bool(each.adaptations) for each in answers)


def _with_marker(answers: Sequence[Given]) -> int:
    return sum(MARKER in each.text for each in answers)

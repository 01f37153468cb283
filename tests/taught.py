"""A data directory in which the shipped text model has learned: adaptations in every state, with the gate's reports."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from perfuse.engine.housing import STORE
from perfuse.evolution.gate import Measured, Pairs, decide
from perfuse.evolution.job import report_of
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, promote, reject, start_canary
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import read_config
from perfuse.pipelines.shipped import SHIPPED
from perfuse.store.kit import read_kit
from perfuse.store.learning import FEEDBACK, JOBS, Adaptation, Feedback, Job

MODEL = SHIPPED / "code-small"
TENANT = "local"
TRIANGULAR, TREES = "cl_7c1f09a4b2d84e61", "cl_e05b77c31f9a4d20"
_TESTS = {"kind": "python_tests", "entry_point": "total", "cases": [{"args": [[1, 2]], "expected": 3}]}
_HOUR = 3600.0


def teach(data_dir: Path) -> dict[str, str]:
    """Fill the store of a server that is not running; gives the ids of the adaptations by state.

    The champion's radius takes in every request, and it changes no answer.
    """
    kit = read_kit(MODEL)
    assert kit is not None
    now = time.time()
    vector = np.zeros(kit.embedder.width, np.float32)
    vector[0] = 1
    known = {"vectors": [(-vector).tobytes().hex()] * len(kit.anchors()), "tokens": 40.0}
    reference = data_dir / "evolution" / f"reference-{kit.embedder.hash[:16]}.json"
    reference.parent.mkdir(parents=True)
    reference.write_text(json.dumps(known))
    network = read_config(MODEL).network

    def row(number: int, cluster: str) -> Feedback:
        return Feedback(
            id=f"fb_{number}", tenant=TENANT, generation=f"g{number}", source="agent-7", received=now - _HOUR,
            model="m@1", prompt=f"Return the sum of a list. {number}", prefix="", suffix="", output="pass\n",
            adaptations=(), correction="def total(values):\n    return sum(values)\n", reward=None,
            verifier=json.dumps(_TESTS), output_passed=False, correction_passed=True, state="curated",
            reason="verifier", cluster=cluster, embedder=kit.embedder.hash, embedding=vector.tobytes(),
        )  # fmt: skip

    def adaptation(cluster: str, number: int, radius: float, hours: float) -> Adaptation:
        return Adaptation(
            id="", tenant=TENANT, cluster=cluster, kind="lora", blob="", parent=None, base=kit.base,
            embedder=kit.embedder.hash, dataset=f"{number:064x}", feedback=tuple(f"fb_{i}" for i in range(8)),
            sources=("agent-7", "console"), seed=number, config=json.dumps({"rank": 8, "steps": 150, "rate": 0.003}),
            report="", state="candidate", reason="", centroid=tuple(vector.tolist()), radius=radius,
            created=now - hours * _HOUR, changed=now - hours * _HOUR,
        )  # fmt: skip

    def data(number: int) -> bytes:
        return to_bytes(fresh(network, 4, 4.0, torch.Generator().manual_seed(number)))

    def report(gained: int, lost: int, anchors_lost: int) -> str:
        measured = Measured(
            gain=Pairs(60, gained, lost), anchors={"base": Pairs(384, 0, anchors_lost)}, nll_bits=0.0012,
            latency_ratio=1.021, memory_ratio=1.0034,
        )  # fmt: skip
        return report_of(measured, decide(measured))

    rows = [row(number, TRIANGULAR if number < 14 else TREES) for number in range(23)]
    rows.append(replace(rows[0], id="fb_q", state="quarantined", cluster=""))
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        learned.store.commit([FEEDBACK.put(*rows)])
        first = admit(learned, adaptation(TRIANGULAR, 1, 2.0, 30), data(1)).id
        start_canary(learned, first, 0.25, report(57, 0, 0), now - 29 * _HOUR)
        promote(learned, first, "24 live pairs, 22 won, 0 lost", now - 26 * _HOUR)
        second = admit(learned, adaptation(TRIANGULAR, 2, 0.05, 3), data(2)).id
        start_canary(learned, second, 0.25, report(4, 0, 0), now - 2 * _HOUR)
        third = admit(learned, adaptation(TREES, 3, 0.05, 9), data(3)).id
        reject(learned, third, "the gate refused it", report(31, 2, 9), now - 8 * _HOUR)
        fourth = admit(learned, adaptation(TREES, 4, 0.05, 0.2), data(4)).id
        jobs = [
            Job(
                id=f"job_{index}{'5c' * 14}", tenant=TENANT, cluster=cluster, base=kit.base, feedback=("fb_1",),
                state="done", attempt=1, adaptation=made, reason="24 new items", created=now - hours * _HOUR,
                changed=now - hours * _HOUR,
            )
            for index, (cluster, made, hours) in enumerate(
                ((TRIANGULAR, first, 29), (TRIANGULAR, second, 2), (TREES, third, 8), (TREES, fourth, 0.2))
            )
        ]  # fmt: skip
        learned.store.commit([JOBS.put(*jobs)])
    return {"champion": first, "canary": second, "rejected": third, "candidate": fourth}

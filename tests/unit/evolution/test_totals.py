"""Counts of all stages over all tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ordering import NOW, REFUSED, canary, champion, serving, teach, trained
from ordering import Scripted as ScriptedWorker
from perfuse import orders
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import promote, reject, roll_back, withdraw
from perfuse.evolution.rebuild import jobs_of
from perfuse.evolution.tally import Tally
from perfuse.evolution.totals import totals
from perfuse.store.learning import FEEDBACK, JOBS
from unit.evolution.learning import feedback, reopen


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        yield opened


def test_an_empty_store_counts_nothing(learned: Learned) -> None:
    assert totals(learned) == {"feedback": {}, "jobs": {}, "adaptations": {}, "gates": {}, "pairs": {}, "moves": {}}


async def test_the_worker_counts_over_all_tenants(learned: Learned, tmp_path: Path) -> None:
    teach(learned, clusters=["c"])
    teach(learned, clusters=["k"], tenant="u")
    learned.store.commit([FEEDBACK.put(feedback("q", "a", state="quarantined"))])
    learned.store.commit([JOBS.put(*jobs_of("t", {"c": "base"}, {"c": ["c-a"]}, "enough", 1.0))])
    champion(learned, "d1")
    canary(learned, "d2", cluster="k", tenant="u")
    reject(learned, trained(learned, "d3").id, "no gain", REFUSED, NOW)
    trained(learned, "d4")
    async with serving(ScriptedWorker(learned), tmp_path / "e.sock") as link:
        assert await link.ask(orders.Totals(tenant="")) == {
            "feedback": {"curated": 6, "quarantined": 1},
            "jobs": {"queued": 1},
            "adaptations": {"champion": 1, "canary": 1, "rejected": 1, "candidate": 1},
            "gates": {"promote": 2, "reject": 1},
            "pairs": {},
            "moves": {"promoted": 1},
        }


def test_a_move_counts_once_however_often_it_is_asked_for(learned: Learned) -> None:
    teach(learned)
    first, second = champion(learned, "d1"), canary(learned, "d2", cluster="k")
    promote(learned, first.id, "again", NOW)
    for _ in range(2):
        roll_back(learned, first.id, "worse", NOW)
        withdraw(learned, second.id, "worse", NOW)
    assert learned.tally.moves == {"promoted": 1, "rolled_back": 1, "withdrawn": 1}


def test_pairs_are_won_lost_or_even() -> None:
    tally = Tally()
    for before, after in ((True, True), (False, True), (False, True), (True, False), (False, False)):
        tally.pair(before, after)
    assert tally.pairs == {"even": 2, "won": 2, "lost": 1}

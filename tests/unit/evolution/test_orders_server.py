"""Orders over the real socket on the real store: what they do, what they refuse, and who is disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ordering import NOW, PASSED, REFUSED, UNPROVEN, Scripted, bound, canary, champion, serving, teach, trained
from perfuse import orders, wire
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.errors import InvalidRequest, NotFound, PerfuseError, Unavailable, WrongState
from perfuse.evolution.learned import Learned
from perfuse.evolution.orders_server import OrdersServer
from perfuse.evolution.promote import admit, get, reject
from perfuse.evolution.revoke import revoke
from perfuse.store.aliases import current
from perfuse.store.learning import ADAPTATIONS, FEEDBACK, JOBS, Adaptation, Job
from unit.evolution.learning import candidate, feedback, reopen


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        teach(opened)
        yield opened


@pytest.fixture
def scripted(learned: Learned) -> Scripted:
    return Scripted(learned)


@pytest.fixture
async def link(scripted: Scripted, tmp_path: Path) -> AsyncIterator[EvolutionLink]:
    async with serving(scripted, tmp_path / "e.sock") as link:
        yield link


def with_report(learned: Learned, made: Adaptation, report: str) -> Adaptation:
    judged = replace(made, report=report)
    learned.store.commit([ADAPTATIONS.put(judged)])
    return judged


def served(learned: Learned, cluster: str = "c") -> tuple[str | None, str | None, str | None]:
    alias = current(learned.store.snapshot(), "t", cluster)
    return alias.champion, alias.previous, alias.canary


class TestShowing:
    async def test_adaptations_are_listed_in_brief_the_latest_first(
        self, link: EvolutionLink, learned: Learned
    ) -> None:
        first, second = trained(learned, "d1"), canary(learned, "d2", "a", "b", cluster="k")
        learned.store.commit([ADAPTATIONS.put(replace(second, created=7.0))])
        brief = {"kind": "lora", "changed": 1.0, "created": 1.0, "reason": "trained", "outcome": None}
        assert await link.ask(orders.ListAdaptations(tenant="t")) == {
            "adapters": [
                {
                    **brief, "id": second.id, "cluster": "k", "state": "canary", "feedback": 2, "created": 7.0,
                    "changed": 2.0, "reason": "passed the gate", "outcome": "promote",
                },
                {**brief, "id": first.id, "cluster": "c", "state": "candidate", "feedback": 1},
            ]
        }  # fmt: skip
        assert await link.ask(orders.ListAdaptations(tenant="u")) == {"adapters": []}

    async def test_one_is_shown_in_full(self, link: EvolutionLink, learned: Learned) -> None:
        made = canary(learned)
        shown = await link.ask(orders.ShowAdaptation(tenant="t", adaptation=made.id))
        assert shown["report"] == {"outcome": "promote", "reasons": [], "gain": 0.3, "p_value": 0.001}
        told = {name: shown[name] for name in ("base", "dataset", "feedback_ids", "sources", "seed", "config", "blob")}
        assert told == {
            "base": "base", "dataset": "d1", "feedback_ids": ["c-a"], "sources": ["a"], "seed": 0, "config": {},
            "blob": made.blob,
        }  # fmt: skip
        assert "centroid" not in shown

    async def test_before_the_gate_there_is_no_report(self, link: EvolutionLink, learned: Learned) -> None:
        shown = await link.ask(orders.ShowAdaptation(tenant="t", adaptation=trained(learned).id))
        assert (shown["report"], shown["outcome"]) == (None, None)

    @pytest.mark.parametrize("tenant", ["t", "u"])
    async def test_unknown_and_foreign_ones_do_not_exist(
        self, link: EvolutionLink, learned: Learned, tenant: str
    ) -> None:
        identity = "ad_x" if tenant == "t" else trained(learned).id
        with pytest.raises(NotFound, match=f"^no adaptation {identity}$"):
            await link.ask(orders.ShowAdaptation(tenant=tenant, adaptation=identity))

    async def test_status_is_the_workers(self, link: EvolutionLink, learned: Learned) -> None:
        made = canary(learned)
        status = await link.ask(orders.Status(tenant="t"))
        assert (status["inbox"], status["stage"], status["feedback"]) == ({"waiting": 3}, "train", {"curated": 6})
        gate = {
            "adaptation": made.id, "state": "canary", "outcome": "promote", "gain": 0.3, "p_value": 0.001,
            "reasons": [],
        }  # fmt: skip
        nothing = {"champion": None, "canary": None, "share": 0.0, "last_gate": None}
        assert status["clusters"] == [
            {**nothing, "cluster": "c", "size": 3, "canary": made.id, "share": 0.5, "last_gate": gate},
            {**nothing, "cluster": "k", "size": 3},
        ]


class TestPromoting:
    @pytest.mark.parametrize("report", [PASSED, UNPROVEN])
    async def test_a_candidate_that_the_gate_let_pass_becomes_champion(
        self, link: EvolutionLink, learned: Learned, report: str
    ) -> None:
        before = champion(learned, "d0")
        made = with_report(learned, trained(learned), report)
        shown = await link.ask(orders.Promote(tenant="t", adaptation=made.id))
        assert (shown["state"], shown["reason"], shown["changed"]) == ("champion", "promoted by an administrator", NOW)
        assert served(learned) == (made.id, before.id, None)

    async def test_a_canary_becomes_champion_and_a_champion_stays_it(
        self, link: EvolutionLink, learned: Learned
    ) -> None:
        made = canary(learned)
        first = await link.ask(orders.Promote(tenant="t", adaptation=made.id))
        assert await link.ask(orders.Promote(tenant="t", adaptation=made.id)) == first
        assert served(learned) == (made.id, None, None)

    @pytest.mark.parametrize(
        ("report", "message", "hint"),
        [
            ("", "{} has not passed the gate: it has no report yet", "wait for the gate, or force it"),
            (REFUSED, "the gate rejected {}", "see its report, or force it"),
        ],
    )
    async def test_against_the_gate_only_by_force(
        self, link: EvolutionLink, learned: Learned, report: str, message: str, hint: str
    ) -> None:
        made = with_report(learned, trained(learned), report)
        with pytest.raises(WrongState) as refused:
            await link.ask(orders.Promote(tenant="t", adaptation=made.id))
        assert (refused.value.detail, refused.value.hint) == (message.format(made.id), hint)
        assert served(learned) == (None, None, None)
        await link.ask(orders.Promote(tenant="t", adaptation=made.id, force=True))
        assert served(learned) == (made.id, None, None)

    async def test_what_was_rejected_is_promoted_only_by_force(self, link: EvolutionLink, learned: Learned) -> None:
        made = trained(learned)
        reject(learned, made.id, "no gain", REFUSED, 5.0)
        with pytest.raises(WrongState) as refused:
            await link.ask(orders.Promote(tenant="t", adaptation=made.id))
        assert refused.value.detail == f"expected {made.id} to be candidate or canary; it is rejected: no gain"
        assert refused.value.hint == "force it"
        assert served(learned) == (None, None, None)
        await link.ask(orders.Promote(tenant="t", adaptation=made.id, force=True))
        assert served(learned) == (made.id, None, None)
        assert get(learned.store.snapshot(), made.id).reason == "promoted by an administrator"

    async def test_what_was_rejected_and_then_revoked_never_serves(self, link: EvolutionLink, learned: Learned) -> None:
        made = trained(learned)
        reject(learned, made.id, "no gain", REFUSED, 5.0)
        revoke(learned, "t", made.sources[0], 6.0)
        with pytest.raises(WrongState) as refused:
            await link.ask(orders.Promote(tenant="t", adaptation=made.id, force=True))
        assert refused.value.detail == "1 of 1 items that it was trained on have been revoked"
        assert refused.value.hint == "train again on the feedback that is left"
        assert served(learned) == (None, None, None)

    async def test_what_was_trained_on_another_model_never_serves(self, link: EvolutionLink, learned: Learned) -> None:
        made = admit(learned, candidate("d1", "a", base="old"), b"1")
        with pytest.raises(WrongState) as refused:
            await link.ask(orders.Promote(tenant="t", adaptation=made.id, force=True))
        assert refused.value.detail == f"{made.id} was trained on base model old; the present one is base"
        assert served(learned) == (None, None, None)

    async def test_another_tenants_is_not_there(self, link: EvolutionLink, learned: Learned) -> None:
        made = canary(learned)
        with pytest.raises(NotFound, match=f"^no adaptation {made.id}$"):
            await link.ask(orders.Promote(tenant="u", adaptation=made.id))
        assert served(learned) == (None, None, made.id)


class TestRollingBack:
    async def test_the_champion_before_serves_again_and_a_second_order_finds_it_done(
        self, link: EvolutionLink, learned: Learned
    ) -> None:
        first, second = champion(learned, "d1"), champion(learned, "d2")
        answer = {"cluster": "c", "champion": first.id, "previous": None, "canary": None, "share": 0.0}
        assert await link.ask(orders.RollBack(tenant="t", adaptation=second.id)) == answer
        assert await link.ask(orders.RollBack(tenant="t", adaptation=second.id)) == answer
        left = get(learned.store.snapshot(), second.id)
        assert (left.state, left.reason) == ("retired", "rolled back by an administrator")

    async def test_without_an_id_the_only_champion(self, link: EvolutionLink, learned: Learned) -> None:
        champion(learned)
        assert (await link.ask(orders.RollBack(tenant="t")))["champion"] is None
        message = "^there is no champion to roll back; the base model serves everything$"
        with pytest.raises(NotFound, match=message):
            await link.ask(orders.RollBack(tenant="t"))

    async def test_several_champions_are_listed(self, link: EvolutionLink, learned: Learned) -> None:
        c, k = champion(learned), champion(learned, "k1", cluster="k")
        with pytest.raises(InvalidRequest) as refused:
            await link.ask(orders.RollBack(tenant="t"))
        assert refused.value.detail == f"there are 2 champions: {c.id} (cluster c), {k.id} (cluster k)"
        assert refused.value.hint == "say which one, or its cluster"
        assert (await link.ask(orders.RollBack(tenant="t", cluster="k")))["cluster"] == "k"
        assert (served(learned)[0], served(learned, "k")[0]) == (c.id, None)

    async def test_a_cluster_without_champion(self, link: EvolutionLink) -> None:
        with pytest.raises(NotFound, match="^no champion in cluster 'x'; the base model serves it$"):
            await link.ask(orders.RollBack(tenant="t", cluster="x"))

    async def test_an_id_of_another_cluster(self, link: EvolutionLink, learned: Learned) -> None:
        made = champion(learned)
        with pytest.raises(InvalidRequest, match=f"^{made.id} serves cluster 'c', not 'k'$"):
            await link.ask(orders.RollBack(tenant="t", adaptation=made.id, cluster="k"))
        assert served(learned)[0] == made.id

    async def test_a_canary_is_withdrawn(self, link: EvolutionLink, learned: Learned) -> None:
        made = canary(learned)
        answer = await link.ask(orders.RollBack(tenant="t", adaptation=made.id))
        assert answer == {"cluster": "c", "champion": None, "previous": None, "canary": None, "share": 0.0}
        assert get(learned.store.snapshot(), made.id).reason == "rolled back by an administrator"


class TestJobs:
    async def test_revoking_takes_back_and_wakes(
        self, link: EvolutionLink, learned: Learned, scripted: Scripted
    ) -> None:
        made = champion(learned, "d1", "a", "b")
        answer = await link.ask(orders.Revoke(tenant="t", source="a"))
        (job,) = JOBS.scan(learned.store.snapshot())
        assert answer == {"retired": [made.id], "jobs": [job.id], "cancelled": [], "feedback": 2, "memories": 0}
        assert (job.cluster, job.feedback, scripted.woken) == ("c", ("c-b", "c-c"), 1)

    async def test_rebuilding_one_cluster_or_all(
        self, link: EvolutionLink, learned: Learned, scripted: Scripted
    ) -> None:
        learned.store.commit([FEEDBACK.put(replace(FEEDBACK.get(learned.store.snapshot(), "k-a"), cluster=""))])
        one = await link.ask(orders.Rebuild(tenant="t", cluster="c"))
        every = await link.ask(orders.Rebuild(tenant="t"))
        jobs = {job.cluster: job for job in JOBS.scan(learned.store.snapshot())}
        assert (one, every) == ({"jobs": [jobs["c"].id]}, {"jobs": [jobs["c"].id, jobs["k"].id]})
        assert [(job.feedback, job.base, job.state, job.reason) for job in jobs.values()] == [
            (("c-a", "c-b", "c-c"), "base", "queued", "rebuild by an administrator"),
            (("k-b", "k-c"), "base", "queued", "rebuild by an administrator"),
        ]
        assert scripted.woken == 2

    async def test_a_job_under_way_goes_on_and_one_that_ended_starts_again(
        self, link: EvolutionLink, learned: Learned
    ) -> None:
        await link.ask(orders.Rebuild(tenant="t", cluster="c"))
        (job,) = JOBS.scan(learned.store.snapshot())

        async def after(state: str) -> Job:
            learned.store.commit([JOBS.put(replace(job, state=state, attempt=2))])
            await link.ask(orders.Rebuild(tenant="t", cluster="c"))
            (found,) = JOBS.scan(learned.store.snapshot())
            return found

        assert ((await after("running")).state, (await after("running")).attempt) == ("running", 2)
        assert ((await after("failed")).state, (await after("failed")).attempt) == ("queued", 0)

    @pytest.mark.parametrize(
        ("tenant", "hint"), [("t", "there are clusters c, k"), ("u", "there is none in any cluster")]
    )
    async def test_a_cluster_without_feedback(self, link: EvolutionLink, tenant: str, hint: str) -> None:
        with pytest.raises(NotFound, match="^no curated feedback in cluster 'x'$") as refused:
            await link.ask(orders.Rebuild(tenant=tenant, cluster="x"))
        assert refused.value.hint == hint
        assert await link.ask(orders.Rebuild(tenant="u")) == {"jobs": []}

    async def test_purging_removes_what_cannot_serve_again(self, link: EvolutionLink, learned: Learned) -> None:
        gone, kept = trained(learned, "d1"), champion(learned, "d2")
        reject(learned, gone.id, "no gain", REFUSED, 5.0)
        answer = await link.ask(orders.Purge(tenant=""))
        assert answer["blobs"] == [gone.blob]
        assert (learned.blobs.holds(gone.blob), learned.blobs.holds(kept.blob)) == (False, True)

    async def test_no_byte_of_a_revoked_source_is_left_after_a_purge(
        self, link: EvolutionLink, learned: Learned, scripted: Scripted
    ) -> None:
        marker = b"only the revoked source said this"
        learned.store.commit([FEEDBACK.put(feedback("c-z", "z", output=marker.decode()))])
        folder = learned.blobs.path("0" * 64).parents[1]

        def left() -> list[str]:
            return [file.name for file in folder.rglob("*") if file.is_file() and marker in file.read_bytes()]

        assert left() != []
        made = champion(learned, "d1", "z")
        await link.ask(orders.Revoke(tenant="t", source="z"))
        purged = await link.ask(orders.Purge(tenant=""))
        assert left() == []
        assert (purged["records"], scripted.forgotten) == (0, [{made.id}])


class TestConnections:
    async def test_orders_do_not_wait_for_each_other(self, link: EvolutionLink, scripted: Scripted) -> None:
        scripted.gate = asyncio.Event()
        slow = asyncio.create_task(link.ask(orders.PutMemory(tenant="t", prompt="p", text="x", source="s")))
        quick = [link.ask(orders.Rebuild(tenant="t", cluster=cluster)) for cluster in ("c", "k") * 10]
        answers = await asyncio.gather(*quick)
        assert not slow.done()
        assert [answers[i] == answers[i % 2] for i in range(20)] == [True] * 20
        assert answers[0] != answers[1]
        scripted.gate.set()
        assert (await slow)["text"] == "x"

    @pytest.mark.parametrize(
        "sent", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", wire.frame(wire.Cancel(id=1)), wire.frame(orders.Ready())]
    )
    async def test_who_sends_no_order_is_disconnected_and_nobody_else(
        self, link: EvolutionLink, tmp_path: Path, sent: bytes
    ) -> None:
        await link.ask(orders.Status(tenant="t"))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "e.sock"))
        assert await reader.readexactly(len(wire.frame(orders.Ready()))) == wire.frame(orders.Ready())
        writer.write(sent)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        assert (await link.ask(orders.Status(tenant="t")))["stage"] == "train"

    async def test_what_nobody_expected_is_answered_and_logged(self, link: EvolutionLink, scripted: Scripted) -> None:
        scripted.failure = RuntimeError("the embedder is broken")
        with capture_logs() as logged, pytest.raises(PerfuseError) as refused:
            await link.ask(orders.PutMemory(tenant="t", prompt="p", text="x", source="s"))
        assert [(line["event"], line["order"], line["exc_info"]) for line in logged] == [
            ("order_failed", "PutMemory", scripted.failure)
        ]
        assert (refused.value.code, refused.value.detail) == (
            "internal_error",
            "something failed that should not have",
        )

    async def test_ending_carries_out_what_was_ordered_and_takes_no_more(
        self, learned: Learned, scripted: Scripted, tmp_path: Path
    ) -> None:
        server = OrdersServer(scripted.desk(), bound(tmp_path / "e.sock"))
        await server.start()
        link = EvolutionLink(str(tmp_path / "e.sock"))
        scripted.gate = asyncio.Event()
        put = asyncio.create_task(link.ask(orders.PutMemory(tenant="t", prompt="p", text="x", source="s")))
        while not scripted.embedded:
            await asyncio.sleep(0.001)
        ending = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="^the evolution worker is ending$"):
            await link.ask(orders.Status(tenant="t"))
        scripted.gate.set()
        assert (await put)["text"] == "x"
        await ending
        with pytest.raises(Unavailable):
            await link.ask(orders.Status(tenant="t"))
        assert (tmp_path / "e.sock").exists(), "the supervisor's, for the next worker"

    async def test_who_leaves_early_has_ordered_all_the_same(
        self, link: EvolutionLink, learned: Learned, scripted: Scripted
    ) -> None:
        scripted.gate = asyncio.Event()
        put = asyncio.create_task(link.ask(orders.PutMemory(tenant="t", prompt="p", text="x", source="s", key="1")))
        while not scripted.embedded:
            await asyncio.sleep(0.001)
        link.close()
        with pytest.raises(Unavailable, match="^the evolution worker ended before it answered$"):
            await put
        scripted.gate.set()
        while not (found := await link.ask(orders.ListMemories(tenant="t", limit=9)))["memories"]:
            await asyncio.sleep(0.001)
        assert [memory["text"] for memory in found["memories"]] == ["x"]


async def test_a_step_that_is_under_way_ends_before_its_order_is_given_up(scripted: Scripted) -> None:
    began, ended = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    status = scripted.status

    def slow(tenant: str) -> dict[str, object]:
        loop.call_soon_threadsafe(began.set)
        found = status(tenant)
        ended.append(tenant)
        return found

    scripted.status = slow
    task = asyncio.create_task(scripted.desk().carry_out(orders.Status(tenant="t")))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["t"]

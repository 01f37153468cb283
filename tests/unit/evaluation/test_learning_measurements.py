"""What is measured of learning, on a scripted server: who wins is scripted, what is counted is not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from perfuse import sandbox
from perfuse.engine.housing import STORE
from perfuse.errors import InvalidRequest, PerfuseError, Unavailable
from perfuse.evaluation import demo, drift, isolation, learning, poison, revocation
from perfuse.evaluation.champions import Given, adapter, crowned, given, given_by
from perfuse.evaluation.learning import Score, Teaching, anchor_tasks, named
from perfuse.evaluation.poison import Figures, arms_of, harmless, reached, shares_of
from perfuse.evaluation.revocation import MARKER, files_with, marked
from perfuse.evolution.learned import Learned
from perfuse.store.kit import find_kit
from perfuse.training.corpus import families
from scripted_learner import WRONG, ScriptedLearner, listening, started

pytestmark = pytest.mark.skipif(
    sandbox.availability().tier == "none", reason="this kernel cannot confine generated code"
)

(FAMILY,) = named("triangular")
ITEMS, UNSEEN, BASE = 6, 4, 4


def known(*kinds: families.Family) -> dict[str, str]:
    """Right answers to unseen requests of families."""
    return {
        drawn.task.prompt: drawn.task.code for kind in kinds for drawn in families.tasks(kind, "evaluation", 2 * UNSEEN)
    }


@pytest.fixture
async def learner(tmp_path: Path, monkeypatch) -> AsyncIterator[ScriptedLearner]:
    monkeypatch.setattr(learning, "POLL_SECONDS", 0.0)
    async with listening(ScriptedLearner(known(FAMILY), tmp_path / "data")) as learner:
        for module in (demo, poison, isolation, revocation, drift):
            monkeypatch.setattr(module, "learning", lambda folder: started(learner), raising=False)
        yield learner


@pytest.fixture
def said() -> list[str]:
    return []


class TestWaiting:
    async def test_a_server_without_a_worker_is_waited_for(self, learner: ScriptedLearner) -> None:
        learner.down = 2
        assert await learning.settled(learner) >= 0
        assert learner.down == 0

    async def test_one_that_does_not_end_is_given_up(self, learner: ScriptedLearner) -> None:
        learner.down = 10**9
        with pytest.raises(Unavailable, match=r"^the server was still learning after 0\.01 s: {}$"):
            await learning.settled(learner, 0.01)


class TestDemonstration:
    async def test_what_is_taught_is_known_afterwards_and_after_a_restart(
        self, learner: ScriptedLearner, tmp_path: Path, monkeypatch, said: list[str]
    ) -> None:
        starts = iter((True, False, True))
        monkeypatch.setattr(demo, "learning", lambda folder: started(learner, fresh=next(starts)))
        found = await demo.demonstration(
            tmp_path, [FAMILY], items=ITEMS, evaluated=UNSEEN, anchors=BASE, curve=[3], say=said.append
        )
        (row,) = found["families"]
        assert (row["name"], row["distance"], row["n"]) == ("triangular", "near", UNSEEN)
        assert (row["before"], row["after"], row["gain"]) == (0.0, 1.0, 1.0)
        assert row["score"]["after"]["adapted"] == UNSEEN
        assert row["curve"] == {"3": 1.0, str(ITEMS): 1.0}
        assert row["live_requests"] == learning.LIVE_AT_ONCE
        anchors = found["anchors"]
        assert (anchors["before"], anchors["after"], anchors["n"]) == (0.0, 0.0, BASE)
        assert found["restart"] == {"answers": UNSEEN, "identical": True}
        assert said[1] == "triangular: 0.000 of 4 unseen tasks before"
        (headed, own) = demo.table(found)
        assert headed[:6] == ["triangular", "near", "0.000", "0.000", "1.000", "0.510 to 1.000"]
        assert own[:5] == ["the base model's own", "", "0.000", "", "0.000"]

    async def test_a_family_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="no family is named sky; there are dict-of-lists, digit-sum,"):
            named("sky")


class TestPoison:
    async def test_every_arm_begins_anew_and_the_base_is_measured_once(
        self, learner: ScriptedLearner, tmp_path: Path, said: list[str]
    ) -> None:
        found = await poison.poison(
            tmp_path, FAMILY, items=ITEMS, evaluated=UNSEEN, anchors=BASE, shares=(0.0, 1.0), say=said.append
        )
        rows = found["rows"]
        assert [(row["arm"], row["wrong"], row["state"]) for row in rows] == [
            ("verified", 0.0, "promoted"),
            ("verified", 1.0, "promoted"),
            ("one-source", 0.0, "quarantined"),
            ("one-source", 1.0, "quarantined"),
            ("many-sources", 0.0, "quarantined"),
            ("many-sources", 1.0, "quarantined"),
        ]
        assert rows[0]["family"]["after"]["pass_at_1"] == 1.0
        assert rows[2]["family"]["after"]["pass_at_1"] == 0.0
        assert [row["feedback"] for row in rows[2:6:2]] == [
            {"curated": 0, "quarantined": ITEMS},
            {"curated": 0, "quarantined": poison.MANY * ITEMS},
        ]
        assert found["never_below"] is True
        assert said[0] == "verified, 0% wrong: promoted, harmless: True"

    async def test_states_tell_how_far_feedback_came(self, learner: ScriptedLearner, tmp_path: Path) -> None:
        for stubborn, rejecting, state in ((True, False, "canary"), (False, True, "rejected")):
            learner.stubborn, learner.rejecting = stubborn, rejecting
            found = await poison.poison(
                tmp_path / state, FAMILY, items=ITEMS, evaluated=1, anchors=1, arms=["verified"], shares=[0.0]
            )
            assert found["rows"][0]["state"] == state
        assert reached([], {"curated": 3, "quarantined": 1}) == "untrained"

    def test_harm_is_more_than_a_point_in_the_family_or_the_anchors(self) -> None:
        def rate(passed: int) -> Score:
            return Score([True] * passed + [False] * (200 - passed), [""] * 200, "")

        before = Figures(rate(100), rate(200))
        assert harmless(before, Figures(rate(98), rate(198)))
        assert not harmless(before, Figures(rate(97), rate(200)))
        assert not harmless(before, Figures(rate(200), rate(197)))

    def test_arms_and_shares_are_read_from_the_command_line(self) -> None:
        assert arms_of("") == ("verified", "one-source", "many-sources")
        assert arms_of("one-source,verified") == ("one-source", "verified")
        assert shares_of("0,.1,1") == (0.0, 0.1, 1.0)
        with pytest.raises(
            InvalidRequest, match=r"^no arm is named few; there are verified, one-source, many-sources$"
        ):
            arms_of("few")
        for text in ("", "half", "0,1.5"):
            with pytest.raises(
                InvalidRequest, match=rf"^expected shares from 0 to 1, separated by commas; got '{text}'$"
            ):
                shares_of(text)


class TestCrowning:
    async def test_a_canary_that_live_requests_do_not_promote_is_promoted_by_order(
        self, learner: ScriptedLearner
    ) -> None:
        learner.stubborn = True
        shown = families.tasks(FAMILY, "feedback", 40)
        await learning.teach(learner, shown[:2], Teaching())
        there = await crowned(learner, shown[2:])
        assert (there.ids, there.forced, there.live) == (("ad_1",), True, 38)
        assert learner.champion == "ad_1"

    async def test_without_anything_that_could_serve_there_is_none(self, learner: ScriptedLearner) -> None:
        with pytest.raises(PerfuseError, match=r"^no adaptation can serve: nothing was trained$"):
            await crowned(learner, [])
        learner.rejecting = True
        await learning.teach(learner, families.tasks(FAMILY, "feedback", 1), Teaching())
        with pytest.raises(PerfuseError, match=r"^no adaptation can serve: ad_1 is rejected: as scripted$"):
            await crowned(learner, [])

    async def test_what_is_refused_is_said(self, learner: ScriptedLearner) -> None:
        with pytest.raises(PerfuseError, match=r'^GET /adapters/ad_9: expected 200, got 404: {"code": "not_found"}$'):
            await adapter(learner, "ad_9")
        with pytest.raises(PerfuseError, match=r"^POST /diffuse: expected 200, got 429: full$"):
            given_by(429, b"full")
        with pytest.raises(PerfuseError, match=r"^POST /diffuse: expected 422, got 200: {"):
            await learning.sent(learner, "/diffuse", {"prompt": "p"}, 422)


class TestIsolation:
    async def test_a_server_that_has_learned_is_compared_with_one_that_has_not(
        self, learner: ScriptedLearner, tmp_path: Path, monkeypatch, said: list[str]
    ) -> None:
        monkeypatch.setattr(isolation, "serving", lambda *_: started(learner))
        base = anchor_tasks(BASE)
        learner.right = known(FAMILY) | {base[0].prompt: WRONG + "# learned\n"}
        found = await isolation.isolation(tmp_path, [FAMILY], items=ITEMS, requests=BASE, say=said.append)
        assert (found["requests"], found["outside"], found["identical"], found["equal"]) == (BASE, BASE - 1, 3, True)
        assert found["taught"]["triangular"]["champions"] == ["ad_1"]
        assert said[-1] == "3 of 3 answers outside every radius are identical"

    def test_one_other_byte_is_seen(self) -> None:
        plain = [Given("a", b"a", ()), Given("b", b"b", ())]
        found = isolation.compared(plain, [Given("a", b"a", ()), Given("b", b"B", ())])
        assert (found.outside, found.identical) == (2, 1)
        assert found.digests[0] != found.digests[1]
        assert isolation.compared(plain, [Given("a", b"A", ("ad",))] * 2).outside == 0


class TestRevocation:
    async def test_all_of_a_source_leaves_and_is_rebuilt_without_it(
        self, learner: ScriptedLearner, tmp_path: Path, said: list[str]
    ) -> None:
        kit = find_kit()
        assert kit is not None
        with Learned.open(learner.data_dir / STORE, kit.embedder) as learned:
            learned.blobs.put(b"bytes that no row names")
        (learner.data_dir / "notes").write_text(MARKER)
        found = await revocation.revocation(tmp_path, FAMILY, items=ITEMS, evaluated=UNSEEN, say=said.append)
        revoked, rebuilt, purged = found["revoke"], found["rebuild"], found["purge"]
        assert found["before"]["champions"] == ["ad_1"]
        assert found["before"]["adapted"] == UNSEEN
        assert revoked["retired"] == ["ad_1"]
        assert revoked["all_retired"] is True
        assert (revoked["feedback_removed"], revoked["failed_requests_during"]) == (ITEMS // 2, 0)
        assert revoked["adapted_right_after"] == 0
        assert rebuilt["champions"] == {"ad_2": ["keeper"]}
        assert rebuilt["without_source"] is True
        assert rebuilt["adapted"] == UNSEEN
        assert purged == {
            "blobs_before": 0, "blobs_removed": 1, "blobs_left": 0, "files_with_marker": {"notes": 1},
        }  # fmt: skip

    def test_files_are_searched_across_the_seams_of_chunks(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(revocation, "_CHUNK", 5)
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "twice").write_text(f"...{MARKER}.{MARKER}")
        (tmp_path / "none").write_text(MARKER[:-1])
        (tmp_path / "link").symlink_to(tmp_path / "below" / "twice")
        assert files_with(tmp_path, MARKER) == {"below/twice": 2}

    def test_a_marked_correction_does_what_it_did(self) -> None:
        task = families.tasks(FAMILY, "feedback", 1)[0].task
        text = marked(task.code)
        assert MARKER in text
        namespace: dict[str, Callable[..., object]] = {}
        exec(text, namespace)
        assert namespace[task.entry_point](*task.cases[0].arguments) == task.cases[0].expected


async def test_answers_carry_what_took_part(learner: ScriptedLearner) -> None:
    task = families.tasks(FAMILY, "evaluation", 1)[0].task
    learner.champion = "ad_7"
    (answer,) = await given(learner, [task])
    assert (answer.text, answer.adaptations) == (task.code, ("ad_7",))
    assert json.loads(answer.outputs) == [{"text": task.code}]


def test_a_score_says_how_far_adapted_answers_know_whether_they_are_right() -> None:
    passed, by = [True, True, False, True], ["ad_1", "ad_1", "ad_1", ""]
    silent = Score(passed, by, [""] * 4, [None] * 4)
    assert "p_correct" not in silent.as_json()
    said = Score(passed, by, [""] * 4, [0.9, 0.9, 0.3, 0.1]).as_json()
    assert said["p_correct"] == {"n": 3, "mean": 0.7, "right": 0.6667, "ece": 0.1667}

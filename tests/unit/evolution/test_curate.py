"""Curation: the order of arrival does not matter, one source is never enough, a verifier decides, quotas hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import ConfigError
from perfuse.evolution.curate import Curation, Rules, curate
from perfuse.store.learning import Feedback, Revocation, alias_key

RULES = Rules(quorum=3, quota=4)


def item(identity: str, source: str = "s", **changes: object) -> Feedback:
    row = Feedback(
        id=identity, tenant="t", generation=f"g-{identity}", source=source, received=1.0, model="m@1", prompt="p",
        prefix="", suffix="", output="wrong", adaptations=(), correction=None, reward=None, verifier="",
        output_passed=None, correction_passed=None, state="new", reason="", cluster="", embedder="e", embedding=b"",
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


def verified(identity: str, source: str = "s", **changes: object) -> Feedback:
    usual = {"correction": "right", "verifier": "{}", "correction_passed": True, "output_passed": False}
    return item(identity, source, **{**usual, **changes})


def why(curation: Curation) -> dict[str, str]:
    return {row.id: f"{row.state}: {row.reason}" for row in curation.rows}


def labels(curation: Curation) -> dict[str, bool]:
    return {example.text: example.good for example in curation.examples}


VERDICTS = st.sampled_from([None, True, False])


@st.composite
def rows(draw: st.DrawFn) -> list[Feedback]:
    """Up to 24 items of few sources about few generations, prompts and texts, so that they meet often."""
    made = []
    for number in range(draw(st.integers(0, 24))):
        kind = draw(st.sampled_from(["reward", "correction", "verifier"]))
        made.append(
            item(
                f"i{number}",
                draw(st.sampled_from(["a", "b", "c", "d"])),
                tenant=draw(st.sampled_from(["t", "u"])),
                generation=draw(st.sampled_from(["g1", "g2", "g3"])),
                received=float(draw(st.integers(0, 3))),
                prompt=draw(st.sampled_from(["p", "q"])),
                output=draw(st.sampled_from(["x", "y"])),
                correction=draw(st.sampled_from(["x", "z"])) if kind != "reward" else None,
                reward=draw(st.sampled_from([-1.0, 0.0, 0.5])) if kind == "reward" else None,
                verifier="{}" if kind == "verifier" else "",
                output_passed=draw(VERDICTS) if kind == "verifier" else None,
                correction_passed=draw(VERDICTS) if kind == "verifier" else None,
            )
        )
    return made


@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(items: list[Feedback], random: st.Random) -> None:
    shuffled = [*items]
    random.shuffle(shuffled)
    assert curate(shuffled, RULES) == curate(items, RULES)


@given(rows())
def test_every_item_ends_in_one_state_and_examples_rest_on_the_curated_ones(items: list[Feedback]) -> None:
    curation = curate(items, RULES)
    assert sorted(row.id for row in curation.rows) == sorted(row.id for row in items)
    assert all(row.state != "new" and row.reason for row in curation.rows)
    curated = {row.id for row in curation.rows if row.state == "curated"}
    assert curated == {identity for example in curation.examples for identity in example.feedback}
    subjects = [(e.tenant, e.prompt, e.text) for e in curation.examples]
    assert len(set(subjects)) == len(subjects)
    assert curate(curation.rows, RULES) == curation


@given(rows(), st.integers(1, 3))
def test_no_source_counts_more_often_than_its_quota(items: list[Feedback], quota: int) -> None:
    curation = curate(items, Rules(quorum=2, quota=quota))
    counted = Counter((row.tenant, row.source) for row in curation.rows if row.state == "curated")
    assert all(count <= quota for count in counted.values())


@given(rows())
def test_one_source_alone_never_makes_a_quorum(items: list[Feedback]) -> None:
    curation = curate([replace(row, source="a") for row in items], Rules(quorum=2, quota=100))
    assert all(example.by == "verifier" for example in curation.examples)


@given(rows(), st.integers(0, 40))
def test_unverified_poison_of_one_source_is_never_trained_on_as_good(items: list[Feedback], n: int) -> None:
    poison = [item(f"poison{k}", "mallory", generation=f"m{k}", correction="evil") for k in range(n)]
    curation = curate([*items, *poison], Rules(quorum=2, quota=100))
    assert "evil" not in {example.text for example in curation.examples}
    assert not any("mallory" in example.sources for example in curation.examples if example.good)


@given(rows())
def test_every_quorum_has_the_sources_it_needs(items: list[Feedback]) -> None:
    for example in curate(items, RULES).examples:
        assert example.by == "verifier" or len(example.sources) >= RULES.quorum
        assert 0 < example.weight <= 1


def test_a_verifier_labels_the_correction_good_and_the_output_bad() -> None:
    curation = curate([verified("i1")], RULES)
    assert labels(curation) == {"right": True, "wrong": False}
    assert why(curation) == {"i1": "curated: verifier"}
    example = next(e for e in curation.examples if e.good)
    assert (example.feedback, example.sources, example.weight, example.by) == (("i1",), ("s",), 1.0, "verifier")


def test_a_verifier_outvotes_any_number_of_sources() -> None:
    votes = [item(f"v{n}", f"s{n}", output="right", reward=-1.0) for n in range(9)]
    curation = curate([verified("i1"), *votes], RULES)
    assert labels(curation)["right"] is True
    assert why(curation)["v0"] == "quarantined: a verifier has decided already"


def test_an_output_that_passes_is_good_whatever_else_is_said() -> None:
    assert labels(curate([item("i", verifier="{}", output_passed=True)], RULES)) == {"wrong": True}


def test_three_sources_make_a_quorum_and_two_do_not() -> None:
    votes = [item(f"v{n}", f"s{n}", correction="right") for n in range(3)]
    curation = curate(votes, RULES)
    assert labels(curation) == {"right": True, "wrong": False}
    assert {e.by for e in curation.examples} == {"quorum"}
    reason = "quarantined: 2 of its sources agree; 3 more than contradict are needed"
    assert why(curate(votes[:2], RULES)) == {"v0": reason, "v1": reason}


def test_contradiction_takes_votes_away() -> None:
    votes = [item(f"v{n}", f"s{n}", reward=1.0) for n in range(4)]
    against = [item(f"w{n}", f"r{n}", reward=-1.0) for n in range(2)]
    assert labels(curate([*votes, against[0]], RULES)) == {"wrong": True}
    assert labels(curate([*votes, *against], RULES)) == {}
    curation = curate([*votes, against[0]], RULES)
    assert why(curation)["w0"] == "quarantined: most sources say the opposite"


def test_a_source_that_says_both_counts_for_neither() -> None:
    votes = [item(f"v{n}", f"s{n}", reward=1.0) for n in range(3)]
    both = item("w", "s0", reward=-1.0)
    assert labels(curate([*votes, both], RULES)) == {}
    more = item("v3", "s3", reward=0.5)
    curation = curate([*votes, both, more], RULES)
    assert [(e.sources, e.weight) for e in curation.examples] == [(("s1", "s2", "s3"), pytest.approx(2.5 / 3))]


def test_the_last_word_of_a_source_about_a_generation_counts() -> None:
    first = verified("i1", generation="g", received=1.0)
    last = verified("i2", generation="g", received=2.0, correction="better")
    curation = curate([last, first], RULES)
    assert labels(curation) == {"better": True, "wrong": False}
    assert why(curation)["i1"] == "superseded: i2 is a later word of the same source"


def test_the_newest_items_of_a_source_are_within_its_quota() -> None:
    curation = curate([verified(f"i{n}", received=float(n), correction=f"c{n}") for n in range(6)], RULES)
    assert [row.id for row in curation.rows if row.state == "curated"] == ["i2", "i3", "i4", "i5"]
    assert why(curation)["i0"] == "superseded: the newest 4 items of its source count"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (item("i"), "it says neither good nor bad"),
        (item("i", reward=0.0), "it says neither good nor bad"),
        (item("i", verifier="{}"), "its verifier could not judge"),
        (verified("i", correction_passed=False), "its correction fails its own verifier"),
        (verified("i", correction="wrong", correction_passed=None), "its verifier could not judge"),
    ],
)
def test_what_decides_nothing_is_put_aside_with_the_reason(row: Feedback, reason: str) -> None:
    assert why(curate([row], RULES)) == {"i": f"quarantined: {reason}"}


def test_verifiers_that_contradict_each_other_decide_nothing() -> None:
    rows = [verified("i1"), item("i2", "r", output="right", verifier="{}", output_passed=False)]
    curation = curate(rows, RULES)
    assert labels(curation) == {"wrong": False}
    assert why(curation)["i2"] == "quarantined: verifiers contradict each other"


def test_what_a_revoked_source_sent_before_is_not_taken_in() -> None:
    revoked = Revocation(key=alias_key("t", "s"), tenant="t", source="s", at=5.0)
    curation = curate([verified("i1", received=5.0), verified("i2", received=6.0, correction="new")], RULES, [revoked])
    assert labels(curation) == {"new": True, "wrong": False}
    assert why(curation)["i1"] == "quarantined: source 's' was revoked"
    assert labels(curate([verified("i1", tenant="u")], RULES, [revoked])) == {"right": True, "wrong": False}


def test_the_same_text_between_other_sides_is_another_subject() -> None:
    votes = [item(f"v{n}", f"s{n}", correction="right", prefix="x" * n) for n in range(3)]
    assert labels(curate(votes, RULES)) == {}
    example = curate([verified("i1", prefix="r", suffix="t")], RULES).examples[0]
    assert (example.prompt, example.prefix, example.suffix) == ("p", "r", "t")


def test_tenants_do_not_vote_together() -> None:
    votes = [item(f"v{n}", f"s{n}", tenant=f"t{n}", correction="right") for n in range(3)]
    assert labels(curate(votes, RULES)) == {}


def test_rules_that_let_one_source_decide_are_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        Rules(quorum=1)
    assert refused.value.detail == "expected a quorum of at least 2 sources; got 1"
    with pytest.raises(ConfigError) as refused:
        Rules(quota=0)
    assert refused.value.detail == "expected a quota of at least 1 item per source; got 0"


def test_a_hundred_thousand_items_of_one_source_are_curated_to_its_quota() -> None:
    flood = [verified(f"i{n:06}", correction=f"c{n}") for n in range(100_000)]
    curation = curate(flood, Rules(quota=500))
    assert sum(row.state == "curated" for row in curation.rows) == 500

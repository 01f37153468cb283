"""From feedback to examples: what is trained on is verified, or agreed on by several sources; the rest is put aside.

A pure function of the rows, whatever their order. Feedback never trains directly: a share of 1–5 % of poisoned
preferences is enough to steer a model (Best-of-Venom, COLM 2024), so an unverified claim needs a quorum.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from perfuse.errors import ConfigError
from perfuse.store.learning import Feedback, Revocation

By = Literal["verifier", "quorum"]
_States = dict[str, tuple[Literal["superseded", "quarantined"], str]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What feedback has to fulfil.

    Args:
        quorum: how many more distinct sources must agree than contradict where no verifier has judged; at least 2.
        quota: items of one source that count, the newest ones.
    """

    quorum: int = 3
    quota: int = 500

    def __post_init__(self) -> None:
        if self.quorum < 2:
            raise ConfigError(f"expected a quorum of at least 2 sources; got {self.quorum}")
        if self.quota < 1:
            raise ConfigError(f"expected a quota of at least 1 item per source; got {self.quota}")


@dataclass(frozen=True, slots=True)
class Example:
    """A text to make more likely for a request (`good`), or less; with the feedback that it rests on."""

    tenant: str
    prompt: str
    prefix: str
    suffix: str
    text: str
    good: bool
    weight: float
    by: By
    feedback: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curation:
    """The examples, and every row with its new state and the reason for it, by id."""

    examples: tuple[Example, ...]
    rows: tuple[Feedback, ...]


class _Subject(NamedTuple):
    """What claims are about: equal ones support or contradict each other."""

    tenant: str
    prompt: str
    prefix: str
    suffix: str
    text: str


@dataclass(frozen=True, slots=True)
class _Claim:
    subject: _Subject
    good: bool
    verified: bool
    weight: float


@dataclass(slots=True)
class _Case:
    """All claims about one subject, by verdict: (claim, row)."""

    good: list[tuple[_Claim, Feedback]] = field(default_factory=list)
    bad: list[tuple[_Claim, Feedback]] = field(default_factory=list)


def curate(rows: Iterable[Feedback], rules: Rules | None = None, revocations: Iterable[Revocation] = ()) -> Curation:
    """Label what can be labelled; of each (generation, source) the last row counts.

    A row's verifier decides alone. Where there is none, sources vote: a text is good for a request when at least
    `quorum` more sources say so than say the opposite, and bad likewise; a correction is a vote for itself and against
    the output. Verifiers that contradict each other decide nothing. An empty output, which is also what is left of a
    withdrawn one, is neither good nor bad.
    """
    limits = rules or Rules()
    every = sorted(rows, key=lambda row: row.id)
    states: _States = {}
    counted = _within_quota(_last(_not_revoked(every, revocations, states), states), limits.quota, states)
    cases: dict[_Subject, _Case] = defaultdict(_Case)
    for row in counted:
        claims, problem = _claims(row)
        if problem:
            states[row.id] = "quarantined", problem
        for claim in claims:
            case = cases[claim.subject]
            (case.good if claim.good else case.bad).append((claim, row))
    examples = []
    reasons: dict[str, str] = {}
    for subject, case in sorted(cases.items()):
        made, reason = _settle(subject, case, limits.quorum)
        if made is not None:
            examples.append(made)
        for _, row in (*case.good, *case.bad):
            reasons.setdefault(row.id, reason)
    by = {identity: example.by for example in examples for identity in example.feedback}
    return Curation(tuple(examples), tuple(_with_state(row, by, states, reasons) for row in every))


def _with_state(
    row: Feedback,
    by: Mapping[str, By],
    states: _States,
    reasons: Mapping[str, str],
) -> Feedback:
    if row.id in by:
        return replace(row, state="curated", reason=by[row.id])
    state, reason = states.get(row.id) or ("quarantined", reasons[row.id])
    return replace(row, state=state, reason=reason)


def _not_revoked(
    rows: Sequence[Feedback],
    revocations: Iterable[Revocation],
    states: _States,
) -> list[Feedback]:
    until = {(r.tenant, r.source): r.at for r in revocations}
    kept = []
    for row in rows:
        if row.received <= until.get((row.tenant, row.source), float("-inf")):
            states[row.id] = "quarantined", f"source {row.source!r} was revoked"
        else:
            kept.append(row)
    return kept


def _last(rows: Sequence[Feedback], states: _States) -> list[Feedback]:
    last: dict[tuple[str, str, str], Feedback] = {}
    for row in sorted(rows, key=lambda row: (row.received, row.id)):
        key = row.tenant, row.generation, row.source
        if key in last:
            states[last[key].id] = "superseded", f"{row.id} is a later word of the same source"
        last[key] = row
    return list(last.values())


def _within_quota(rows: Sequence[Feedback], quota: int, states: _States) -> list[Feedback]:
    used: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: (row.received, row.id), reverse=True):
        used[row.tenant, row.source] += 1
        if used[row.tenant, row.source] > quota:
            states[row.id] = "superseded", f"the newest {quota} items of its source count"
        else:
            kept.append(row)
    return kept


def _claims(row: Feedback) -> tuple[list[_Claim], str]:
    """What a row says about which texts; or why it says nothing."""
    if row.verifier:
        return _verified_claims(row)
    if row.correction is not None:
        claims = [_claim(row, row.correction, good=True)]
        unlike = row.output not in {"", row.correction}
        return ([*claims, _claim(row, row.output, good=False)] if unlike else claims), ""
    if not row.output:
        return [], "the answer it is about is empty or was withdrawn"
    if not row.reward:
        return [], "it says neither good nor bad"
    return [_claim(row, row.output, good=row.reward > 0, weight=min(abs(row.reward), 1.0))], ""


def _verified_claims(row: Feedback) -> tuple[list[_Claim], str]:
    if row.correction_passed is False:
        return [], "its correction fails its own verifier"
    claims = []
    if row.correction is not None and row.correction_passed:
        claims.append(_claim(row, row.correction, good=True, verified=True))
    if row.output_passed is not None and row.output not in {"", row.correction}:
        claims.append(_claim(row, row.output, good=row.output_passed, verified=True))
    return claims, "" if claims else "its verifier could not judge"


def _claim(row: Feedback, text: str, *, good: bool, verified: bool = False, weight: float = 1.0) -> _Claim:
    return _Claim(_Subject(row.tenant, row.prompt, row.prefix, row.suffix, text), good, verified, weight)


def _settle(subject: _Subject, case: _Case, quorum: int) -> tuple[Example | None, str]:
    verified = [[pair for pair in side if pair[0].verified] for side in (case.good, case.bad)]
    if all(verified):
        return None, "verifiers contradict each other"
    if any(verified):
        good = bool(verified[0])
        return _example(subject, verified[0] or verified[1], "verifier", good=good), "a verifier has decided already"
    for_it, against = ({row.source for _, row in side} for side in (case.good, case.bad))
    undecided = for_it & against
    margin = len(for_it - undecided) - len(against - undecided)
    if abs(margin) < quorum:
        agree = max(len(for_it - undecided), len(against - undecided))
        return None, f"{agree} of its sources agree; {quorum} more than contradict are needed"
    side = case.good if margin > 0 else case.bad
    agreeing = [pair for pair in side if pair[1].source not in undecided]
    return _example(subject, agreeing, "quorum", good=margin > 0), "most sources say the opposite"


def _example(subject: _Subject, support: Sequence[tuple[_Claim, Feedback]], by: By, *, good: bool) -> Example:
    return Example(
        **subject._asdict(),
        good=good,
        weight=sum(claim.weight for claim, _ in support) / len(support),
        by=by,
        feedback=tuple(sorted(row.id for _, row in support)),
        sources=tuple(sorted({row.source for _, row in support})),
    )

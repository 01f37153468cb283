"""Whether this machine can confine generated code, found out by doing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perfuse.errors import SandboxUnavailable
from perfuse.sandbox.process import JailedProcess, Limits

Tier = Literal["standard", "none"]


@dataclass(frozen=True, slots=True)
class Availability:
    """What confines generated code here.

    `tier` is "standard" (limits, fresh user, Landlock, seccomp in one kernel) or "none": nothing is run then.
    `user` is the uid the code runs as; `threads` how many it may start beside its first. `reasons` says what is
    missing, or what a later kernel would add.
    """

    tier: Tier
    landlock_abi: int | None
    seccomp: bool
    user: int | None
    threads: int
    reasons: tuple[str, ...]


def availability() -> Availability:
    """Confines one process and reports what is in force. Takes about as long as an empty task."""
    from perfuse._native import jail_support

    abi, seccomp = jail_support()
    missing = [name for name, there in (("Landlock", abi is not None), ("seccomp filters", seccomp)) if not there]
    if missing:
        reasons = tuple(f"this kernel has no {name}" for name in missing)
        return Availability("none", abi, seccomp, None, 0, reasons)
    try:
        with JailedProcess(Limits()) as jailed:
            facts = jailed.facts
    except SandboxUnavailable as refusal:
        return Availability("none", abi, seccomp, None, 0, (refusal.detail,))
    user, threads = facts["uid"], facts["threads"]
    assert isinstance(user, int)
    assert isinstance(threads, int)
    return Availability("standard", abi, seccomp, user, threads, tuple(_shortcomings(abi or 0, user)))


def _shortcomings(abi: int, user: int) -> list[str]:
    reasons = []
    if abi < 6:
        reasons.append(f"Landlock ABI {abi} does not scope signals and abstract sockets; seccomp alone denies them")
    if user == 0:
        reasons.append("root may not become another user here; the code runs as root without capabilities or threads")
    return reasons

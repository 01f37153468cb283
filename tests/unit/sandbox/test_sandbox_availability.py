"""What `availability` reports where something is missing."""

import os

import pytest

from perfuse import _native
from perfuse.errors import SandboxUnavailable
from perfuse.sandbox import Availability, availability
from perfuse.sandbox.process import JailedProcess


def test_this_machine_confines():
    found = availability()
    assert found.tier == "standard"
    assert found.landlock_abi is not None
    assert found.seccomp
    assert (found.user == os.getuid()) is (os.getuid() != 0)


@pytest.mark.parametrize(
    ("support", "reasons"),
    [
        ((None, True), ("this kernel has no Landlock",)),
        ((7, False), ("this kernel has no seccomp filters",)),
        ((None, False), ("this kernel has no Landlock", "this kernel has no seccomp filters")),
    ],
)
def test_a_missing_layer_means_no_tier(monkeypatch, support, reasons):
    monkeypatch.setattr(_native, "jail_support", lambda: support)
    assert availability() == Availability("none", *support, None, 0, reasons)


def test_a_refusal_means_no_tier(monkeypatch):
    def refuse(self, limits):
        raise SandboxUnavailable("the kernel said no")

    monkeypatch.setattr(JailedProcess, "__init__", refuse)
    monkeypatch.setattr(_native, "jail_support", lambda: (7, True))
    assert availability() == Availability("none", 7, True, None, 0, ("the kernel said no",))


def test_shortcomings_are_listed(monkeypatch):
    def confined_by_half(self, limits):
        self.facts = {"landlock_abi": 2, "uid": 0, "threads": 0}

    monkeypatch.setattr(JailedProcess, "__init__", confined_by_half)
    monkeypatch.setattr(JailedProcess, "close", lambda self: None)
    monkeypatch.setattr(_native, "jail_support", lambda: (2, True))
    assert availability().reasons == (
        "Landlock ABI 2 does not scope signals and abstract sockets; seccomp alone denies them",
        "root may not become another user here; the code runs as root without capabilities or threads",
    )

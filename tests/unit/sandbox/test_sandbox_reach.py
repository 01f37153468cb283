"""Which paths the jail opens for reading."""

import os
import sys
from pathlib import Path

import pytest

from perfuse.sandbox import reach


@pytest.fixture(autouse=True)
def fresh():
    reach.readable.cache_clear()
    yield
    reach.readable.cache_clear()


def covered(path: str) -> bool:
    return any(Path(path).resolve().is_relative_to(place) for place in reach.readable())


def test_the_standard_library_and_the_c_library_are_open():
    import json

    assert covered(json.__file__)
    assert covered("/dev/urandom")
    assert any(
        place.name.startswith("libc.so")
        for root in reach.readable()
        if root.is_dir()
        for place in root.glob("libc.so*")
    )


def test_no_path_lies_in_another():
    paths = reach.readable()
    assert not any(inner != outer and inner.is_relative_to(outer) for inner in paths for outer in paths)


def test_a_system_interpreter_does_not_open_the_system(monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert {Path("/"), Path("/usr"), Path("/usr/lib"), Path("/etc")}.isdisjoint(reach.readable())


def test_installed_packages_and_perfuse_are_hidden():
    import numpy

    import perfuse

    for module in (numpy, perfuse):
        assert any(Path(os.fspath(module.__file__)).is_relative_to(place) for place in reach.hidden())

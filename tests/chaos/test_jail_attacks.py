"""20 attacks and 5 forgeries against the jail, as root and as an ordinary user; what they do without it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from perfuse import sandbox
from perfuse.sandbox.probes import ATTACKS, CONTROLS, FORGERIES, PROBES
from perfuse.sandbox.trial import arguments, run_probes, surroundings

NOBODY = "65534"
REPORT = """
import json, os
from perfuse.sandbox import availability
from perfuse.sandbox.trial import run_probes
outcomes = run_probes()
failures = {f"{o.probe.kind} {o.probe.name}": o.detail for o in outcomes if not o.held}
print(json.dumps({"uid": os.getuid(), "user": availability().user, "run": len(outcomes), "failures": failures}))
"""
HARMLESS_IN_THE_OPEN = (
    "read the judge's environment",
    "write own memory through /proc",
    "write outside",
    "connect by TCP",
    "send by UDP",
    "connect to a Unix socket",
    "signal the judge",
    "fork",
    "fork bomb",
    "execute a shell",
    "thread bomb",
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="already an ordinary user")


def test_there_are_20_attacks_5_forgeries_3_controls():
    assert Counter(probe.kind for probe in PROBES) == {"attack": 20, "forgery": 5, "control": 3}
    assert len({probe.name for probe in PROBES}) == 28


def test_no_attack_and_no_forgery_succeeds():
    outcomes = run_probes()
    assert {o.probe.name: o.detail for o in outcomes if not o.held} == {}
    assert len(outcomes) == len(PROBES)


def as_user(*options: str) -> dict[str, object]:
    """Runs all probes under setpriv, which is part of util-linux like mount."""
    setpriv = shutil.which("setpriv")
    assert setpriv, "expected setpriv of util-linux"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [setpriv, *options, sys.executable, "-B", "-c", REPORT],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_root
def test_no_attack_and_no_forgery_succeeds_as_an_ordinary_user():
    # The one capability lets an interpreter under a closed home be read; the jail gives it up before anything runs.
    reach = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    found = as_user("--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", *reach)
    assert found == {"uid": int(NOBODY), "user": int(NOBODY), "run": 28, "failures": {}}


@needs_root
def test_no_attack_and_no_forgery_succeeds_as_root_without_capabilities():
    found = as_user("--bounding-set=-all")
    assert found == {"uid": 0, "user": 0, "run": 28, "failures": {}}


@pytest.mark.parametrize("probe", [p for p in ATTACKS if p.name in HARMLESS_IN_THE_OPEN], ids=lambda p: p.name)
def test_the_attack_does_succeed_without_the_jail(probe, tmp_path):
    with surroundings() as facts:
        given = arguments(probe, facts)
        call = f"{probe.code}\nimport os\nif probe(*{given!r}): os._exit(77)\n"
        done = subprocess.run([sys.executable, "-S", "-c", call], cwd=tmp_path, capture_output=True, timeout=60)
        escaped = "marker" in probe.facts and Path(given[0]).exists()
        assert done.returncode == 77 or escaped, done.stderr.decode()


@pytest.mark.parametrize("probe", FORGERIES, ids=lambda p: p.name)
def test_a_forgery_is_not_mistaken_for_the_answer_that_it_guesses(probe):
    (outcome,) = run_probes([probe])
    assert outcome.held, outcome.detail
    assert not outcome.verdict.passed


def test_controls_alone_pass_quickly():
    started = time.monotonic()
    assert [outcome.held for outcome in run_probes(CONTROLS)] == [True] * 3
    assert time.monotonic() - started < 30


def test_nothing_is_left_running():
    child = str(Path(sandbox.__file__).with_name("child.py")).encode()  # another checkout's tests may run beside these
    before = set(Path("/proc").iterdir())
    run_probes([probe for probe in PROBES if "fork" in probe.name or probe.kind == "forgery"])
    orphans = []
    for process in set(Path("/proc").iterdir()) - before:
        with suppress(OSError):
            orphans += [process] if child in (process / "cmdline").read_bytes() else []
    assert orphans == []

"""Runs the probes against this machine's jail, with something worth attacking around it."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from perfuse.sandbox.judge import Case, Verdict, run_tests
from perfuse.sandbox.probes import PROBES, Fact, Probe

_SECONDS = 1.0
_CONTROL_SECONDS = 10.0
_AFTERMATH = 0.5
"""Seconds after the verdict in which something that outlived it would have written its marker."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a probe: `held` is True when an attack or forgery was stopped as meant, or a control passed."""

    probe: Probe
    held: bool
    verdict: Verdict
    detail: str


def run_probes(probes: Iterable[Probe] = PROBES) -> list[Outcome]:
    """Runs each probe once; about 5 s for all.

    Raises:
        SandboxUnavailable: there is no jail to try.
    """
    with surroundings() as facts:
        verdicts = [(probe, _run(probe, facts)) for probe in probes]
        if any(probe.kind == "forgery" for probe, _ in verdicts):
            time.sleep(_AFTERMATH)
        return [_outcome(probe, verdict, _marker(probe, facts)) for probe, verdict in verdicts]


@contextmanager
def surroundings() -> Iterator[Mapping[Fact, object]]:
    """A secret that file modes do not guard, listeners on TCP, UDP and a Unix socket, and a process to trace.

    `marker` is a directory anyone may write; each probe gets an own name in it.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="perfuse-trial-")))
        folder.chmod(0o777)
        secret, unix_path = folder / "secret", folder / "socket"
        secret.write_text("open to all")
        secret.chmod(0o644)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(unix_path))
        unix_path.chmod(0o777)
        unix.listen()
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]))
        stack.callback(victim.kill)
        yield {
            "secret": str(secret),
            "marker": str(folder),
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "unix_path": str(unix_path),
            "victim": victim.pid,
        }


def arguments(probe: Probe, facts: Mapping[Fact, object]) -> list[object]:
    """The values of `probe.facts`."""
    return [str(_marker(probe, facts)) if fact == "marker" else facts[fact] for fact in probe.facts]


def _marker(probe: Probe, facts: Mapping[Fact, object]) -> Path:
    return Path(str(facts["marker"])) / "".join(letter for letter in probe.name if letter.isalpha())


def _run(probe: Probe, facts: Mapping[Fact, object]) -> Verdict:
    expected = secrets.token_hex(16) if probe.kind == "forgery" else True
    case = Case(arguments(probe, facts), expected)
    seconds = _CONTROL_SECONDS if probe.kind == "control" else _SECONDS
    return run_tests(probe.code, "probe", [case], seconds=seconds, scratch=probe.scratch)


def _outcome(probe: Probe, verdict: Verdict, marker: Path) -> Outcome:
    said = f"{verdict.reason}: {verdict.detail}"
    if probe.kind == "control":
        return Outcome(probe, held=verdict.passed, verdict=verdict, detail=said)
    if verdict.passed or marker.exists():
        how = "it succeeded" if verdict.passed else "it left its marker outside"
        return Outcome(probe, held=False, verdict=verdict, detail=how)
    if not said.startswith(tuple(probe.held_by)):
        wanted = " or ".join(probe.held_by)
        return Outcome(probe, held=False, verdict=verdict, detail=f"expected {wanted}…; got {said}")
    return Outcome(probe, held=True, verdict=verdict, detail=said)

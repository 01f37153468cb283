"""Programs that attack the jail or forge a verdict, and honest ones that must still pass.

Each defines `probe`. An attack returns True if it got what it was after; `held_by` are the beginnings of
"reason: detail" that show it was stopped by what is meant to stop it, and not by a mistake in the probe. None does
harm where it succeeds: signal 0, a trace that stops nobody, twenty short forks, memory never touched.
`perfuse.sandbox.trial` runs them and provides the arguments they name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["attack", "control", "forgery"]
Fact = Literal["secret", "marker", "tcp_port", "udp_port", "unix_path", "victim"]

_DENIED = ("raised: PermissionError: ",)


@dataclass(frozen=True, slots=True)
class Probe:
    """One program.

    Args:
        name: what it tries.
        kind: an attack wants something outside; a forgery wants to pass without the value expected, a random
            text; a control only wants to run.
        code: the program.
        facts: names of the arguments that it is called with, from the trial's surroundings.
        held_by: beginnings of "reason: detail" that a held attack or forgery ends with.
        scratch: whether it gets a directory to write.
    """

    name: str
    kind: Kind
    code: str
    facts: Sequence[Fact] = ()
    held_by: Sequence[str] = ()
    scratch: bool = False


def _attack(name: str, code: str, *facts: Fact, held_by: Sequence[str] = _DENIED, scratch: bool = False) -> Probe:
    return Probe(name, "attack", code, facts, held_by, scratch)


def _forgery(name: str, code: str, *held_by: str) -> Probe:
    return Probe(name, "forgery", code, ("marker",), held_by)


ATTACKS = (
    _attack("read /etc/shadow", "def probe():\n    return bool(open('/etc/shadow').read())\n"),
    _attack(
        "read /root and a file open to all",
        """
import os
def probe(secret):
    for attempt in (lambda: os.listdir('/root'), lambda: open(secret).read()):
        try:
            attempt()
        except PermissionError as error:
            denied = error
        else:
            return True
    raise denied
""",
        "secret",
    ),
    _attack(
        "read the judge's environment",
        "import os\ndef probe():\n    open(f'/proc/{os.getppid()}/environ', 'rb').read()\n    return True\n",
    ),
    _attack(
        "write own memory through /proc",
        "def probe():\n    open('/proc/self/mem', 'r+b', buffering=0).close()\n    return True\n",
    ),
    _attack(
        "write outside",
        "def probe(marker):\n    open(marker, 'w').write('escaped')\n    return True\n",
        "marker",
        scratch=True,
    ),
    _attack(
        "connect by TCP",
        """
import socket
def probe(port):
    socket.create_connection(('127.0.0.1', port), 1).close()
    return True
""",
        "tcp_port",
    ),
    _attack(
        "send by UDP",
        """
import socket
def probe(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b'escaped', ('127.0.0.1', port)) > 0
""",
        "udp_port",
    ),
    _attack(
        "connect to a Unix socket",
        """
import socket
def probe(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return True
""",
        "unix_path",
    ),
    _attack("signal the judge", "import os\ndef probe():\n    os.kill(os.getppid(), 0)\n    return True\n"),
    _attack(
        "fork",
        "import os\ndef probe():\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()\n    return True\n",
    ),
    _attack(
        "fork bomb",
        """
import os, time
def probe():
    forked = 0
    for _ in range(20):
        try:
            if os.fork() == 0:
                time.sleep(0.1)
                os._exit(0)
            forked += 1
        except OSError as error:
            denied = error
    if forked:
        return True
    raise denied
""",
    ),
    _attack(
        "execute a shell",
        """
import os
def probe(marker):
    os.execv('/bin/sh', ['sh', '-c', f'echo escaped > {marker}'])
""",
        "marker",
    ),
    _attack(
        "allocate 4 GB",
        "def probe():\n    return len(bytearray(4 << 30)) > 0\n",
        held_by=("memory: MemoryError",),
    ),
    _attack(
        "thread bomb",
        """
import threading
def probe():
    done = threading.Event()
    threads = 0
    try:
        for threads in range(64):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        if threads <= 16:
            raise
    return True
""",
        held_by=("raised: RuntimeError: can't start new thread",),
    ),
    _attack(
        "write a file of 200 MB",
        """
def probe():
    with open('big', 'wb') as file:
        for _ in range(200):
            file.write(bytes(1 << 20))
    return True
""",
        held_by=("raised: OSError: [Errno 27] File too large",),
        scratch=True,
    ),
    _attack(
        "trace another process",
        """
import ctypes, os
PTRACE_SEIZE = 0x4206
def probe(victim):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_SEIZE, victim, None, None) != 0:
        raise OSError(ctypes.get_errno(), 'ptrace')
    return True
""",
        "victim",
    ),
    _attack(
        "enter a user namespace",
        """
import ctypes
CLONE_NEWUSER = 0x10000000
def probe():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), 'unshare')
    return True
""",
    ),
    _attack("loop for ever", "def probe():\n    while True:\n        pass\n", held_by=("timeout: ",)),
    _attack(
        "sleep for ever",
        """
import signal, time
def probe():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        time.sleep(3600)
""",
        held_by=("timeout: ",),
    ),
    _attack(
        "flood the output",
        """
import os
def probe():
    for _ in range(1600):
        os.write(1, b'x' * 65536)
        os.write(2, b'x' * 65536)
    return 'x' * (20 << 20)
""",
        held_by=("output: ",),
    ),
)

CONTROLS = (
    Probe("an honest program", "control", "def probe():\n    return sum(range(10)) == 45\n"),
    Probe(
        "the standard library",
        "control",
        """
import base64, bisect, collections, copy, datetime, decimal, fractions, functools, hashlib, heapq, itertools, json
import math, random, re, statistics, string, textwrap, threading, typing, zoneinfo
def probe():
    words = collections.Counter(re.findall('[a-z]+', 'to be or not to be'))
    digest = hashlib.sha256(b'perfuse').hexdigest()
    return words['be'] == 2 and len(digest) == 64 and json.loads('[1]') == [1] and bool(datetime.datetime.now())
""",
    ),
    Probe(
        "a file in the scratch directory",
        "control",
        """
import os, pathlib
def probe():
    pathlib.Path('note').write_text('hello')
    os.rename('note', 'kept')
    kept = pathlib.Path('kept').read_text()
    os.remove('kept')
    return kept == 'hello' and os.listdir() == []
""",
        scratch=True,
    ),
)

FORGERIES = (
    _forgery(
        "returns what equals everything",
        """
class Anything:
    def __eq__(self, other):
        return True
    __hash__ = None
    def __repr__(self):
        return 'True'
def probe(marker):
    return Anything()
""",
        "wrong_value: ",
    ),
    _forgery(
        "walks the frames to the judge's lists",
        """
import sys
def probe(marker):
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if isinstance(value, list):
                value.append('passed')
            elif isinstance(value, dict) and value is not frame.f_globals:
                value['passed'] = value['result'] = value['value'] = True
        frame = frame.f_back
    return 0
""",
        "wrong_value: ",
    ),
    _forgery(
        "writes the answer into every descriptor",
        """
import os, sys
frame, nonces = sys._getframe(), ['0' * 32]
while frame is not None:
    nonces += [value['nonce'] for value in frame.f_locals.values() if isinstance(value, dict) and 'nonce' in value]
    frame = frame.f_back
for descriptor in range(32):
    for nonce in nonces:
        for answer in ('"loaded": true', '"value": true', '"passed": true'):
            try:
                os.write(descriptor, ('{"nonce": "%s", %s}\\n' % (nonce, answer)).encode())
            except OSError:
                pass
def probe(marker):
    return 0
""",
        "forged: ",
    ),
    _forgery(
        "replaces the runner",
        """
import json, sys
runner = sys.modules['__main__']
runner.to_wire = lambda value: '"passed"'
runner.call = lambda function, arguments: ('passed', 'true')
json.dumps = json.loads = lambda *_, **__: True
def check(candidate):
    return True
def probe(marker):
    return 0
""",
        "forged: ",
    ),
    _forgery(
        "looks for the expected value and outlives the verdict",
        """
import atexit, gc, os, threading, time
def leave(marker):
    time.sleep(0.3)
    open(marker, 'w').write('escaped')
def probe(marker):
    atexit.register(leave, marker)
    threading.Thread(target=leave, args=(marker,)).start()
    try:
        if os.fork() == 0:
            leave(marker)
            os._exit(0)
    except OSError:
        pass
    for value in gc.get_objects():
        if isinstance(value, dict) and 'expected' in value:
            return value['expected']
    return 0
""",
        "wrong_value: ",
        "raised: RuntimeError: can't start new thread",  # a user who runs more processes than the jail may
    ),
)

PROBES = (*ATTACKS, *CONTROLS, *FORGERIES)

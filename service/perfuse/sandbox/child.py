"""The program inside the jail: confines itself, then runs one task and answers with values, never verdicts.

Started as a script by `perfuse.sandbox.process` with the path of `perfuse._native` as its argument. It imports
almost nothing, because its start is most of the price of a task: `json` alone would double it. The judge imports
`to_wire` and `from_wire` from here, so both sides speak the same notation:

    None, bool, int, float, str, list    as in JSON
    tuple                                {"tuple": [...]}
    dict                                 {"dict": [[key, value], ...]}
    int beyond 63 bits                   {"int": "0x…"}

One message is one line of ASCII. Nothing here is trusted by the judge once the task's code was read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import CodeType, ModuleType, SimpleNamespace, TracebackType

try:
    from _json import encode_basestring_ascii, make_scanner
except ImportError:  # an interpreter without the C accelerator
    from json.encoder import encode_basestring_ascii
    from json.scanner import make_scanner

CANDIDATE = "candidate"
"""Name of the module that the task's code becomes."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "OPENSSL_CONF": "/dev/null"}
"""All that a program in the jail gets to know of the environment. Node reads a configuration before anything else."""

_LONGEST_DETAIL = 300
_PLAIN_INT = 1 << 63
_CHUNK = 1 << 16


class NotAValue(TypeError):
    """Only None, bool, int, float, str, list, tuple and dict cross the wall; the message names what came."""


def to_wire(value: object) -> str:
    """`value` as one line of ASCII JSON in the notation above.

    Subclasses count as the plain value they hold, so nothing that a program defines (`__eq__`, `__iter__`,
    `__repr__`) is called.

    Raises:
        NotAValue: for any other type, at any depth.
        RecursionError: for nesting that is too deep or endless.
    """
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        if -_PLAIN_INT <= int.__index__(value) < _PLAIN_INT:
            return int.__repr__(int.__index__(value))
        return '{"int": "' + hex(value) + '"}'
    if isinstance(value, float):
        return _float_to_wire(float.__add__(value, 0.0))
    if isinstance(value, str):
        return encode_basestring_ascii(str.__str__(value))
    if isinstance(value, list):
        return "[" + ", ".join([to_wire(item) for item in list.__iter__(value)]) + "]"
    if isinstance(value, tuple):
        return '{"tuple": [' + ", ".join([to_wire(item) for item in tuple.__iter__(value)]) + "]}"
    if isinstance(value, dict):
        pairs = [f"[{to_wire(key)}, {to_wire(item)}]" for key, item in dict.items(value)]
        return '{"dict": [' + ", ".join(pairs) + "]}"
    raise NotAValue(type(value).__name__)


def _float_to_wire(value: float) -> str:
    if value != value:
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def from_wire(value: object) -> object:
    """The Python value that a parsed line means.

    Raises:
        ValueError: for an object that is none of the three above.
    """
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"tuple": [*items]} if len(value) == 1:
            return tuple(from_wire(item) for item in items)
        case {"dict": [*pairs]} if len(value) == 1:
            return {from_wire(key): from_wire(item) for key, item in pairs}
        case {"int": str(digits)} if len(value) == 1:
            return int(digits, 16)
        case _:
            raise ValueError("not the notation of the sandbox")


def parse(line: str) -> object:
    """JSON to Python with `json`'s own scanner, without importing `json`."""
    constants = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
    rules = SimpleNamespace(
        strict=True,
        object_hook=None,
        object_pairs_hook=None,
        parse_float=float,
        parse_int=int,
        parse_constant=constants.__getitem__,
        parse_string=None,
        parse_object=None,
        parse_array=None,
        memo={},
    )
    value, _ = make_scanner(rules)(line, 0)  # type: ignore[arg-type]  # any object with these attributes does
    return value


class Lines:
    """Messages, one per line, over two descriptors."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._pending = bytearray()

    def receive(self) -> dict[str, object] | None:
        """The next message, or None when the judge has hung up."""
        while (end := self._pending.find(b"\n")) < 0:
            chunk = os.read(self._incoming, _CHUNK)
            if not chunk:
                return None
            self._pending += chunk
        line = self._pending[:end].decode("ascii")
        del self._pending[: end + 1]
        message = parse(line)
        assert isinstance(message, dict)
        return message

    def send(self, nonce: str, kind: str, payload: str) -> None:
        """One message: the nonce of the question, what kind of answer, and its JSON."""
        left = memoryview(f'{{"nonce": "{nonce}", "{kind}": {payload}}}\n'.encode("ascii"))
        while left:
            left = left[os.write(self._outgoing, left) :]


def describe(error: BaseException) -> str:
    """Class names from the error's own up to BaseException, the text, and the candidate's last line, as JSON."""
    try:
        text = str(error)[:_LONGEST_DETAIL]
    except BaseException:  # noqa: BLE001 (the error's class is the candidate's: anything can come)
        text = "its text could not be made"
    names = [kind.__name__ for kind in type(error).__mro__ if kind is not object]
    return to_wire([names, text, _last_line(error.__traceback__)])


def _last_line(traceback: TracebackType | None) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == f"<{CANDIDATE}>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def load(source: str, entry_point: str) -> tuple[str, str, Callable[..., object] | None]:
    """Runs the candidate's module: the kind of answer, its JSON, and the function if there is one."""
    try:
        code: CodeType = compile(source, f"<{CANDIDATE}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "syntax", describe(error), None
    module = ModuleType(CANDIDATE)
    sys.modules[CANDIDATE] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 (what the jail is for)
    except BaseException as error:  # noqa: BLE001 (SystemExit from the candidate is an answer too)
        return "raised", describe(error), None
    function = module.__dict__.get(entry_point)
    if not callable(function):
        return "missing", to_wire(entry_point), None
    return "loaded", "true", function


def call(function: Callable[..., object], arguments: list[object]) -> tuple[str, str]:
    """Calls the candidate's function: the kind of answer and its JSON."""
    try:
        value = function(*arguments)
    except BaseException as error:  # noqa: BLE001 (as in load)
        return "raised", describe(error)
    try:
        return "value", to_wire(value)
    except NotAValue as error:
        return "unwritable", to_wire(str(error))
    except (RecursionError, MemoryError):
        return "unwritable", to_wire("value nested without end")


def run(lines: Lines) -> None:
    """Reads one task and answers its cases until the judge hangs up. All that is read here is untrusted."""
    task = lines.receive()
    if task is None:
        return
    kind, payload, function = load(str(task["code"]), str(task["entry_point"]))
    lines.send(str(task["nonce"]), kind, payload)
    while function is not None and (case := lines.receive()) is not None:
        arguments = from_wire(case["arguments"])
        assert isinstance(arguments, list)
        lines.send(str(case["nonce"]), *call(function, arguments))


def reach_imports_by_descriptor() -> list[int]:
    """Rewrites the import path to descriptors of its directories, and returns them.

    Root's jail runs as a user who may not enter the directories above the interpreter (a home of mode 0700);
    a descriptor opened before needs no way in. Landlock still checks every file.
    """
    descriptors: dict[str, int] = {}
    for entry in sys.path:
        if os.path.isdir(entry):  # noqa: PTH112 (pathlib would double the time of the start)
            descriptors[entry] = os.open(entry, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = {entry: f"/proc/self/fd/{fd}" for entry, fd in descriptors.items()}
    sys.path[:] = list(names.values())
    for module in list(sys.modules.values()):
        if isinstance(search := getattr(module, "__path__", None), list):
            search[:] = [_moved(place, names) for place in search]
    sys.path_importer_cache.clear()
    return list(descriptors.values())


def _moved(place: str, names: Mapping[str, str]) -> str:
    for entry, name in names.items():
        if place.startswith(entry + "/"):
            return name + place[len(entry) :]
    return place


def load_native(path: str) -> ModuleType:
    """`perfuse._native` from its file: the package itself is out of reach of an isolated interpreter."""
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    loader = ExtensionFileLoader("_native", path)
    module = loader.create_module(ModuleSpec("_native", loader, origin=path))
    loader.exec_module(module)
    return module


def main(native: str) -> None:
    """Takes the policy from stdin, confines the process, says ready, runs the task.

    With a `command` in the policy it becomes that program instead, whose output then follows in the same pipe.
    """
    module = load_native(native)
    incoming, outgoing = os.dup(0), os.dup(1)
    lines = Lines(incoming, outgoing)
    policy = lines.receive()
    if policy is None:
        return
    nonce, command = str(policy.pop("nonce")), policy.pop("command", None)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    keep = [0, 1, 2, incoming, outgoing, *reach_imports_by_descriptor()]
    try:
        facts: dict[str, object] = module.confine(keep=keep, **policy)
    except OSError as error:
        lines.send(nonce, "refused", to_wire(str(error)))
        return
    lines.send(nonce, "ready", to_wire(facts))
    if isinstance(command, list):
        os.dup2(outgoing, 1)
        os.execve(str(command[0]), [str(word) for word in command], ENVIRONMENT)  # noqa: S606 (no shell, our words)
    run(lines)


if __name__ == "__main__":
    main(sys.argv[1])

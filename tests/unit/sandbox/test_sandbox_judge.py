"""Verdicts of `run_tests`, one per way a program can end."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from perfuse.errors import InvalidRequest, SandboxUnavailable
from perfuse.sandbox import Case, Task, process, run_many, run_tests

ADD = "def add(a, b):\n    return a + b\n"


def verdict(code, *cases, entry_point="f", **limits):
    found = run_tests(code, entry_point, cases or [Case([], None)], **limits)
    return found.reason, found.case, found.detail


def test_a_right_program_passes():
    found = run_tests(ADD, "add", [Case([1, 2], 3), Case(["a", "b"], "ab"), Case([[1], [2]], [1, 2])])
    assert (found.passed, found.reason, found.case, found.detail) == (True, "passed", None, "3 cases passed")
    assert 0 < found.seconds < 2


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(): return 2", ("wrong_value", 0, "expected None; got 2")),
        ("def f(): return {1}", ("wrong_value", 0, "expected None; got a set, which is not a plain value")),
        (
            "def f():\n    x = []\n    x.append(x)\n    return x",
            ("wrong_value", 0, "expected None; got a 'value nested without end', which is not a plain value"),
        ),
        ("def f(): return 10**5000", ("wrong_value", 0, "expected None; got a int too large to show")),
        ("def f(): return 'x y' * 99", ("wrong_value", 0, "expected None; got '" + ("x y" * 99)[:119] + "…")),
        (
            "def f():\n    return 1 // 0",
            ("raised", 0, "ZeroDivisionError: integer division or modulo by zero (line 2)"),
        ),
        ("1 // 0", ("raised", None, "ZeroDivisionError: integer division or modulo by zero (line 1)")),
        ("import sys\nsys.exit(0)", ("raised", None, "SystemExit: 0 (line 2)")),
        ("def f(): raise KeyboardInterrupt", ("raised", 0, "KeyboardInterrupt:  (line 1)")),
        ("def f(: pass", ("syntax", None, "SyntaxError: invalid syntax (<candidate>, line 1)")),
        ("x = '\0'", ("syntax", None, "SyntaxError: source code string cannot contain null bytes")),
        ("def g(): pass", ("missing", None, "the code defines no function 'f'")),
        ("f = 3", ("missing", None, "the code defines no function 'f'")),
        ("def f(): return 'x' * (2 << 20)", ("output", 0, "the answer is longer than 1048576 bytes")),
        ("def f(): return bytearray(4 << 30)", ("memory", 0, "MemoryError:  (line 1)")),
        ("x = bytearray(4 << 30)", ("memory", None, "MemoryError:  (line 1)")),
        ("import os\nos._exit(0)", ("crashed", None, "exited with status 0 before it had answered")),
        ("import os\ndef f(): os.abort()", ("crashed", 0, "killed by SIGABRT")),
        (
            "import os\ndef f():\n    while True: os.closerange(3, 32)",
            ("crashed", 0, "it closed the pipe of its answers"),
        ),
        ("import signal\ndef f(): signal.raise_signal(40)", ("crashed", 0, "killed by signal 40")),
        ("def f(): raise ValueError('\\x1b[2J\\n')", ("raised", 0, "ValueError: \\x1b[2J\\x0a (line 1)")),
        ("def f(): raise type('E' * 900, (ValueError,), {})", ("raised", 0, "E" * 400 + "…")),
        ("def f(): return input()", ("raised", 0, "EOFError: EOF when reading a line (line 1)")),
        (
            "class E(Exception):\n    def __str__(self): raise self\ndef f(): raise E",
            ("raised", 0, "E: its text could not be made (line 3)"),
        ),
    ],
)
def test_what_is_wrong_is_named(code, expected):
    assert verdict(code) == expected


def test_an_endless_program_is_ended_on_time():
    started = time.monotonic()
    assert verdict("def f():\n    while True: pass", seconds=0.5) == ("timeout", 0, "no answer in time")
    assert time.monotonic() - started < 5


def test_used_up_processor_seconds_are_a_timeout():
    code = "import signal\ndef f(): signal.raise_signal(signal.SIGXCPU)"  # what the kernel sends then
    assert verdict(code) == ("timeout", 0, "its processor seconds were used up")


def test_an_expected_exception_must_be_raised():
    code = "def f(x):\n    return {}[x] if x else 0\n"
    assert run_tests(code, "f", [Case([1], None, raises="KeyError"), Case([1], None, raises="LookupError")]).passed
    assert verdict(code, Case([1], None, raises="ValueError")) == (
        "raised",
        0,
        "expected ValueError to be raised; got KeyError: 1 (line 2)",
    )
    assert verdict(code, Case([0], None, raises="KeyError")) == (
        "wrong_value",
        0,
        "expected KeyError to be raised; got 0",
    )


def test_the_first_failing_case_is_named():
    assert verdict("def f(x): return x", Case([1], 1), Case([1], 1.0)) == ("wrong_value", 1, "expected 1.0; got 1")
    assert run_tests("def f(x): return x", "f", [Case([1], 1.0, tolerance=0.0)]).passed


def test_arguments_keep_their_types():
    code = "def f(*args): return [type(a).__name__ for a in args]"
    arguments = [None, True, 1, 10**30, 1.0, float("nan"), "é\n", [1], (1,), {1: 2}]
    names = ["NoneType", "bool", "int", "int", "float", "float", "str", "list", "tuple", "dict"]
    assert run_tests(code, "f", [Case(arguments, names)]).passed


def test_arguments_longer_than_a_pipe_arrive():
    assert run_tests("def f(x): return len(x)", "f", [Case(["x" * (8 << 20)], 8 << 20)]).passed


def test_a_program_that_never_reads_its_arguments_times_out():
    code = "import time\ntime.sleep(60)"
    assert verdict(code, Case(["x" * (8 << 20)], 0), seconds=0.3) == ("timeout", None, "no answer in time")


def test_an_answer_without_the_nonce_is_a_forgery():
    code = (
        "import sys\n"
        "lines = sys._getframe(2).f_locals['lines']\n"
        "def f(x):\n    lines.send('0' * 32, 'value', '1')\n    return x\n"
    )
    assert verdict(code, Case([1], 1)) == ("forged", 0, "what came is no answer to this question")


def test_an_answer_ahead_of_its_question_is_a_forgery():
    code = (
        "import sys\n"
        "frame = sys._getframe(2)\n"
        "frame.f_locals['lines'].send(frame.f_locals['task']['nonce'], 'loaded', 'true')\n"
        "def f(x):\n    return x\n"
    )
    assert verdict(code, Case([1], 1))[:2] == ("forged", 0)


def test_unknown_kinds_of_answers_are_refused():
    send = "import sys\nruns = sys._getframe(2)\n"
    module = send + "runs.f_locals['lines'].send(runs.f_locals['task']['nonce'], 'value', '1')\n"
    error = send + "runs.f_locals['lines'].send(runs.f_locals['task']['nonce'], 'raised', '1')\n"
    for code in (module, error):
        assert verdict(code) == ("forged", None, "what came is no answer to this question")
    late = "import sys\nsys.modules['__main__'].call = lambda *_: ('loaded', 'true')\ndef f(): pass\n"
    assert verdict(late) == ("forged", 0, "what came is no answer to this question")


def test_a_deep_forged_answer_does_not_harm_the_judge():
    code = (
        "import sys\n"
        "sys.modules['__main__'].call = lambda *_: ('value', '[' * 100_000 + ']' * 100_000)\n"
        "def f(): pass\n"
    )
    assert verdict(code)[0] in {"forged", "wrong_value"}


def test_hashes_and_so_sets_are_the_same_every_time():
    code = "def f(): return list({'alpha', 'beta', 'gamma', 'delta'}), hash('perfuse')"
    first = verdict(code)
    assert first == verdict(code)
    assert first[0] == "wrong_value"


def test_the_environment_of_the_judge_stays_outside(monkeypatch):
    monkeypatch.setenv("PERFUSE_SECRET", "s3cret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    code = "import os\ndef f(): return sorted(os.environ)"
    assert run_tests(code, "f", [Case([], ["LC_ALL", "LD_LIBRARY_PATH", "PYTHONHASHSEED"])]).passed


def test_perfuse_and_installed_packages_cannot_be_imported():
    code = "def f(name):\n    __import__(name)\n"
    for name in ("perfuse", "numpy", "pytest"):
        assert verdict(code, Case([name], None))[2].startswith(f"ModuleNotFoundError: No module named '{name}'")


def test_the_scratch_directory_is_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "def f():\n    open('note', 'w').write('x')\n    return open('note').read()\n"
    assert run_tests(code, "f", [Case([], "x")], scratch=True).passed
    assert list(tmp_path.iterdir()) == []
    assert verdict(code)[2] == "PermissionError: [Errno 1] Operation not permitted: 'note' (line 2)"


def test_many_tasks_keep_their_order_and_do_not_share_state():
    tasks = [Task(f"import re\nre.left = {n}\ndef f(x): return x + {n}", "f", [Case([1], 1 + n % 3)]) for n in range(8)]
    fresh = Task("import re\ndef f(): return hasattr(re, 'left')", "f", [Case([], False)])
    found = run_many([*tasks, fresh], parallel=3)
    assert [v.passed for v in found] == [n == n % 3 for n in range(8)] + [True]


def test_one_bad_task_ends_the_batch():
    with pytest.raises(InvalidRequest, match=r"^expected at least one case; got none$"):
        run_many([Task(ADD, "add", [Case([1, 2], 3)]), Task(ADD, "add", [])])


@pytest.mark.parametrize(
    ("cases", "limits", "message", "field"),
    [
        ([], {}, "expected at least one case; got none", "/cases"),
        ([Case([], 1)], {"seconds": 0}, "expected more than 0 and at most 3600 seconds; got 0", None),
        ([Case([], 1)], {"seconds": float("nan")}, "expected more than 0 and at most 3600 seconds; got nan", None),
        ([Case([], 1)], {"memory_mb": 8}, "expected at least 64 MiB of memory; got 8", None),
        (
            [Case([], 1), Case([{1}], 1)],
            {},
            "expected None, bool, int, float, str, list, tuple or dict; got set",
            "/cases/1",
        ),
        ([Case([], b"")], {}, "expected None, bool, int, float, str, list, tuple or dict; got bytes", "/cases/0"),
    ],
)
def test_a_task_that_cannot_be_judged_is_refused(cases, limits, message, field):
    with pytest.raises(InvalidRequest) as caught:
        run_tests(ADD, "add", cases, **limits)
    assert (caught.value.detail, caught.value.field) == (message, field)


def test_no_interpreter_no_run(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(SandboxUnavailable) as caught:
        run_tests(ADD, "add", [Case([1, 2], 3)])
    assert caught.value.detail == (
        "expected to start '/no/such/python', but: [Errno 2] No such file or directory: '/no/such/python'"
    )


def test_no_compiled_module_no_run(monkeypatch):
    monkeypatch.setattr(process, "native_module", lambda: "/no/such/module.so")
    with pytest.raises(SandboxUnavailable) as caught:
        run_tests(ADD, "add", [Case([1, 2], 3)])
    assert caught.value.detail == (
        "expected a jailed interpreter, but it did not start: "
        "ImportError: /no/such/module.so: cannot open shared object file: No such file or directory"
    )


def test_a_refusal_of_the_kernel_means_no_run(monkeypatch, tmp_path):
    marker = tmp_path / "ran"
    monkeypatch.setattr(process.os, "getpid", lambda: 1)  # the jail then sees a parent that is not its own
    with pytest.raises(SandboxUnavailable) as caught:
        run_tests(f"open({str(marker)!r}, 'w')", "f", [Case([], None)])
    assert caught.value.detail.startswith(
        "expected a kernel that confines generated code; it refused: expected parent 1, found "
    )
    assert not marker.exists()


def test_a_jailed_process_dies_with_its_judge():
    script = (
        "import os, time\n"
        "from perfuse.sandbox.process import JailedProcess, Limits\n"
        "print(JailedProcess(Limits()).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    jailed = Path("/proc") / done.stdout.strip()
    for _ in range(100):
        if not jailed.exists() or "\nState:\tZ" in (jailed / "status").read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"{jailed} outlived its judge")

"""The program inside the jail, run here without confinement: what it reads, answers and refuses."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from perfuse.sandbox import child, process

NONCE = "0" * 32


@pytest.fixture
def talk(monkeypatch):
    """Gives `function` messages on a pipe and returns what it answers. The candidate's module is forgotten after."""
    monkeypatch.setitem(sys.modules, child.CANDIDATE, ModuleType(child.CANDIDATE))

    def talk(function, *messages):
        (incoming, to), (back, outgoing) = os.pipe(), os.pipe()
        os.write(to, "".join(json.dumps({"nonce": NONCE, **message}) + "\n" for message in messages).encode())
        os.close(to)
        try:
            function(incoming, outgoing)
        finally:
            os.close(incoming)
            os.close(outgoing)
        with os.fdopen(back) as answers:
            return [json.loads(line) for line in answers]

    return talk


def run(incoming, outgoing):
    child.run(child.Lines(incoming, outgoing))


def task(code, entry_point="f"):
    return {"code": code, "entry_point": entry_point}


def test_cases_are_answered_in_turn(talk):
    code = "def f(x):\n    return 1 / x\n"
    answers = talk(run, task(code), {"arguments": [2]}, {"arguments": [0]}, {"arguments": []})
    assert answers == [
        {"nonce": NONCE, "loaded": True},
        {"nonce": NONCE, "value": 0.5},
        {
            "nonce": NONCE,
            "raised": [["ZeroDivisionError", "ArithmeticError", "Exception", "BaseException"], "division by zero", 2],
        },
        {
            "nonce": NONCE,
            "raised": [
                ["TypeError", "Exception", "BaseException"],
                "f() missing 1 required positional argument: 'x'",
                None,
            ],
        },
    ]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def f(:", "syntax"),
        ("1 / 0", "raised"),
        ("raise SystemExit", "raised"),
        ("g = 1", "missing"),
        ("f = 1", "missing"),
    ],
)
def test_a_module_that_cannot_be_called_ends_the_run(talk, code, kind):
    (answer,) = talk(run, task(code), {"arguments": []})
    assert sorted(answer) == sorted(["nonce", kind])


@pytest.mark.parametrize("body", ["return {1}", "x = []; x.append(x); return x"])
def test_what_is_not_a_value_is_named(talk, body):
    _, answer = talk(run, task(f"def f(): {body}"), {"arguments": []})
    assert answer["unwritable"] in {"set", "value nested without end"}


def test_an_error_without_a_text_is_described(talk):
    code = "class E(Exception):\n    def __str__(self): raise KeyboardInterrupt\ndef f(): raise E\n"
    _, answer = talk(run, task(code), {"arguments": []})
    assert answer["raised"] == [["E", "Exception", "BaseException"], "its text could not be made", 3]


def test_a_judge_that_hangs_up_ends_it(talk):
    assert talk(run) == []


def test_dataclasses_find_their_module(talk):
    code = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\ndef f(): return P().x\n"
    assert talk(run, task(code), {"arguments": []})[1] == {"nonce": NONCE, "value": 1}


def confining(monkeypatch, incoming, outgoing, confine):
    """`main` with its descriptors replaced and without touching those of the test."""
    duplicates = iter([incoming, outgoing])
    monkeypatch.setattr(child, "load_native", lambda path: SimpleNamespace(confine=confine))
    monkeypatch.setattr(child, "reach_imports_by_descriptor", lambda: [9])
    monkeypatch.setattr(child.os, "dup", lambda _: next(duplicates))
    monkeypatch.setattr(child.os, "dup2", lambda *_: None)
    child.main("native.so")


def test_confinement_comes_before_the_task_is_read(talk, monkeypatch):
    seen = []

    def confine(**policy):
        seen.append(policy)
        return {"uid": 7}

    answers = talk(
        lambda i, o: confining(monkeypatch, i, o, confine),
        {"readable": ["/lib"]},
        task("def f(): return 1"),
        {"arguments": []},
    )
    assert [sorted(answer) for answer in answers] == [["nonce", "ready"], ["loaded", "nonce"], ["nonce", "value"]]
    assert answers[0]["ready"] == {"dict": [["uid", 7]]}
    assert seen[0]["readable"] == ["/lib"]
    assert seen[0]["keep"][-1] == 9


def test_a_refused_confinement_ends_before_any_code(talk, monkeypatch):
    def confine(**policy):
        raise OSError("no Landlock")

    answers = talk(lambda i, o: confining(monkeypatch, i, o, confine), {}, task("print('ran')"))
    assert answers == [{"nonce": NONCE, "refused": "no Landlock"}]


def test_no_policy_no_run(talk, monkeypatch):
    assert talk(lambda i, o: confining(monkeypatch, i, o, None)) == []


def test_the_compiled_module_is_loaded_from_its_file():
    assert callable(child.load_native(process.native_module()).confine)


def test_imports_go_through_descriptors(tmp_path, monkeypatch):
    package = tmp_path / "garden"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rose.py").write_text("COLOUR = 'red'")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "absent.zip"), str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    imported = ModuleType("garden")
    imported.__path__ = [str(package), "/elsewhere"]
    monkeypatch.setattr(sys, "modules", {"garden": imported})
    (descriptor,) = child.reach_imports_by_descriptor()
    try:
        assert sys.path == [f"/proc/self/fd/{descriptor}"]
        assert imported.__path__ == [f"/proc/self/fd/{descriptor}/garden", "/elsewhere"]
        assert Path(f"{imported.__path__[0]}/rose.py").read_text() == "COLOUR = 'red'"
    finally:
        os.close(descriptor)

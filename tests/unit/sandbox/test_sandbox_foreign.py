"""Verdicts on programs in JavaScript, Rust, C and shell, and what the jail keeps from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perfuse.errors import SandboxUnavailable
from perfuse.sandbox import Case, ForeignLanguage, Program, judge_programs, lacking
from perfuse.sandbox.drivers import FOREIGN_LANGUAGES
from perfuse.sandbox.foreign import run_trusted
from perfuse.training.corpus.languages import ForeignTask, held_out_foreign
from perfuse.training.corpus.tasks import Case as TaskCase

SECONDS = 20.0
TOGETHER = 60


def programs(tasks: Sequence[ForeignTask]) -> list[Program]:
    def case(of: TaskCase) -> Case:
        return Case(of.arguments, of.expected)

    return [Program(t.code, t.entry_point, [case(c) for c in t.cases], t.in_place) for t in tasks]


@pytest.fixture(params=FOREIGN_LANGUAGES)
def language(request: pytest.FixtureRequest) -> ForeignLanguage:
    return judgeable(request.param)


def judgeable(language: ForeignLanguage) -> ForeignLanguage:
    if (reason := lacking(language)) is not None:
        pytest.skip(f"{language} cannot be judged here: {reason}")
    return language


def verdict(language: ForeignLanguage, code: str, *cases: Case, name: str = "f", seconds: float = SECONDS) -> object:
    (found,) = judge_programs(judgeable(language), [Program(code, name, cases or [Case([3], 6)])], seconds=seconds)
    return found.reason, found.case, found.detail


def test_generated_functions_give_what_the_intermediate_form_gives(language: ForeignLanguage) -> None:
    chosen = programs(held_out_foreign(language, TOGETHER, seed=1))
    expected = [case.expected for program in chosen for case in program.cases]
    assert run_trusted(language, chosen, seconds=60.0) == expected


def test_reference_code_passes_the_judge(language: ForeignLanguage) -> None:
    verdicts = judge_programs(language, programs(held_out_foreign(language, 6)), seconds=SECONDS)
    assert [v.detail for v in verdicts] == [f"{len(t.cases)} cases passed" for t in held_out_foreign(language, 6)]
    assert all(v.passed for v in verdicts)


RIGHT = {
    "javascript": "const f = (x) => 2 * x;\n",
    "rust": "fn f(x: i32) -> i32 { 2 * x }\n",
    "c": "static int twice(int x) { return 2 * x; }\nlong f(int x) { return twice(x); }\n",
    "shell": "f() { echo $(($1 * 2)); }\n",
}
WRONG = {
    "javascript": "function f(x) { return 2 * x + 1; }\n",
    "rust": "fn f(x: i64) -> i64 { 2 * x + 1 }\n",
    "c": "int f(int x) { return 2 * x + 1; }\n",
    "shell": "f() { echo $(($1 * 2 + 1)); }\n",
}
BROKEN = {
    "javascript": "function f(x) { return 2 * ; }\n",
    "rust": "fn f(x: i64) -> i64 { 2 * }\n",
    "c": "int f(int x) { return 2 * ; }\n",
    "shell": "f() { echo $((; }\n",
}
ENDLESS = {
    "javascript": "function f(x) { while (true) {} }\n",
    "rust": "fn f(x: i64) -> i64 { loop {} }\n",
    "c": "int f(int x) { volatile int y = 1; while (y) {} return x; }\n",
    "shell": "f() { while :; do :; done; }\n",
}
LOUD = {
    "javascript": 'function f() { while (true) process.getBuiltinModule("node:fs").writeSync(1, "x".repeat(9999)); }\n',
    "rust": 'fn f(x: i64) -> i64 { loop { println!("{}", "x".repeat(9999)); } }\n',
    "c": 'int f(int x) { while (1) puts("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"); }\n',
    "shell": "f() { while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done; }\n",
}


def test_the_value_counts_not_how_it_is_computed(language: ForeignLanguage) -> None:
    assert verdict(language, RIGHT[language]) == ("passed", None, "1 cases passed")


def test_a_wrong_value_is_named_with_its_case(language: ForeignLanguage) -> None:
    cases = Case([3], 7), Case([4], 8)
    assert verdict(language, WRONG[language], *cases) == ("wrong_value", 1, "expected 8; got 9")


def test_code_that_is_not_the_language_is_a_matter_of_syntax(language: ForeignLanguage) -> None:
    assert verdict(language, BROKEN[language])[:2] == ("syntax", None)  # type: ignore[index]


def test_another_name_is_a_missing_function(language: ForeignLanguage) -> None:
    assert verdict(language, RIGHT[language], name="asked_for")[:2] == ("missing", None)  # type: ignore[index]


def test_an_endless_program_is_ended(language: ForeignLanguage) -> None:
    assert verdict(language, ENDLESS[language], seconds=1.5) == ("timeout", 0, "no answer in time")


def test_endless_output_is_cut(language: ForeignLanguage) -> None:
    reason, case, _ = verdict(language, LOUD[language])  # type: ignore[misc]
    assert (reason, case) in {("output", 0), ("wrong_value", 0), ("raised", 0)}  # node's pipe refuses before it is long


READS = {
    "javascript": 'function f(path) { return process.getBuiltinModule("node:fs").readFileSync(path, "utf8"); }\n',
    "rust": 'fn f(path: &str) -> String { std::fs::read_to_string(path).unwrap_or("denied".into()) }\n',
    "c": 'const char *f(const char *path) { return fopen(path, "r") ? "read" : "denied"; }\n',
    "shell": 'f() { cat "$1" || echo denied; }\n',
}


def test_a_program_reads_no_file_that_all_may_read(language: ForeignLanguage, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("read")
    for folder in (secret, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    found = verdict(language, READS[language], Case([str(secret)], "read"))
    assert found[0] in {"wrong_value", "raised"}  # type: ignore[index]
    assert "denied" in found[2]  # type: ignore[index]


OUTSIDE = {
    "javascript": 'function f(path) { process.getBuiltinModule("node:fs").writeFileSync(path, "x"); return "done"; }\n',
    "rust": 'fn f(path: &str) -> String { std::fs::write(path, "x").unwrap(); "done".into() }\n',
    "c": 'const char *f(const char *path) { return fopen(path, "w") ? "done" : "denied"; }\n',
    "shell": 'f() { echo x > "$1" && echo "done"; }\n',
}


def test_a_program_writes_no_file(language: ForeignLanguage, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    tmp_path.chmod(0o777)
    assert verdict(language, OUTSIDE[language], Case([str(marker)], "done"))[0] != "passed"  # type: ignore[index]
    assert not marker.exists()


STARTS = {
    "javascript": 'function f() { process.getBuiltinModule("node:child_process").execSync("id"); return "done"; }\n',
    "rust": 'fn f(x: i64) -> String { std::process::Command::new("/bin/echo").spawn().unwrap(); "done".into() }\n',
    "c": 'const char *f(int x) { return system("echo 6") ? "denied" : "done"; }\n',
    "shell": "f() { /usr/bin/env >/dev/null && echo done; }\n",
}


def test_a_program_starts_no_other_program(language: ForeignLanguage) -> None:
    assert verdict(language, STARTS[language], Case([3], "done"))[0] != "passed"  # type: ignore[index]


def test_a_shell_function_may_use_filters_but_not_without_end() -> None:
    assert verdict("shell", "f() { echo $1 | tr 3 6 | rev | cut -c1; }\n")[0] == "passed"  # type: ignore[index]
    bomb = "f() { f $1 | f $1 & }\n"
    assert verdict("shell", bomb, seconds=1.5)[0] != "passed"  # type: ignore[index]


@pytest.mark.parametrize(
    ("language", "code", "reach"),
    [
        ("c", '#include "/etc/shadow"\nint f(int x) { return 6; }\n', "'#'"),
        ("c", 'int f(int x) { __asm__("nop"); return 6; }\n', "'__asm__'"),
        ("rust", 'fn f(x: i64) -> usize { include_str!("/etc/shadow").len() }\n', "'include_str'"),
        ("rust", '#[link(name = "m")] extern "C" {}\nfn f(x: i64) -> i64 { 6 }\n', "'#'"),
        ("rust", 'fn f(x: i64) -> &\'static str { env!("HOME") }\n', "'env'"),
        ("rust", 'fn f(x: i64) -> usize { include_str /**/ ! ("/etc/shadow").len() }\n', "'include_str'"),
        ("c", '/**/ #include "/etc/shadow"\nint f(int x) { return 6; }\n', "'#'"),
        ("c", '%\\\n:include "/etc/shadow"\nint f(int x) { return 6; }\n', "'\\\\'"),
    ],
)
def test_text_that_reaches_out_of_itself_is_not_given_to_a_compiler(
    language: ForeignLanguage, code: str, reach: str
) -> None:
    assert verdict(language, code) == ("syntax", None, f"{reach} is not given to a compiler")


def test_the_headers_that_are_there_anyway_may_be_named() -> None:
    code = "#include <stdlib.h>\n#include <ctype.h>\nint f(int x) { return abs(-2 * x); }\n"
    assert verdict("c", code) == ("passed", None, "1 cases passed")


def test_without_a_toolchain_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfuse.sandbox import toolchains

    monkeypatch.setenv("PATH", "/nonexistent")
    toolchains.found.cache_clear()
    try:
        with pytest.raises(SandboxUnavailable) as refusal:
            judge_programs("rust", [Program(RIGHT["rust"], "f", [Case([3], 6)])])
        assert refusal.value.detail == "expected rustc on PATH to judge rust; it is not there"
    finally:
        toolchains.found.cache_clear()

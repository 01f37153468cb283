"""Driver programs: a candidate in JavaScript, Rust, C or shell, called with literal arguments, and how to read them.

A driver prints one record per case, in order: a line of JSON `{"value": …}`, or in shell the raw output behind which a
record separator stands. What a case expects is not in it; only its kind is, where a language needs to know that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from perfuse.sandbox.judge import Case

ForeignLanguage = Literal["javascript", "rust", "c", "shell"]
FOREIGN_LANGUAGES: tuple[ForeignLanguage, ...] = get_args(ForeignLanguage)
SEPARATOR = "\x1e"
MISSING = "\x1d"
_ROOM = 4096
"""Bytes of a text that a C function changes in place."""


@dataclass(frozen=True, slots=True)
class Program:
    """A candidate, the function to call, and the calls. `in_place`: a C function leaves its text in its argument."""

    code: str
    entry_point: str
    cases: Sequence[Case]
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a driver printed where a value was due."""

    text: str


def driver(language: ForeignLanguage, programs: Sequence[Program]) -> str:
    """One source that defines and calls all `programs`, in order; candidates beside each other must be trusted."""
    return _WRITERS[language](programs)


def answers(language: ForeignLanguage, output: str, programs: Sequence[Program]) -> list[object]:
    """The values in `output`, for the cases of all programs as far as it goes; Unreadable where one is malformed."""
    cases = [case for program in programs for case in program.cases]
    if language == "shell":
        records = output.replace(MISSING, "").split(SEPARATOR)[:-1]
        return [_shell_value(record, case) for record, case in zip(records, cases, strict=False)]
    return [_line_value(line) for line in output.splitlines()[: len(cases)]]


def _line_value(line: str) -> object:
    try:
        match json.loads(line):
            case {"value": value}:
                return value
    except (ValueError, RecursionError):
        pass
    return Unreadable(line)


def _shell_value(record: str, case: Case) -> object:
    """The kind that is expected decides how text is read, as it does for whoever calls a shell function."""
    text = record.removesuffix("\n")
    try:
        if isinstance(case.expected, list):
            return [int(line) for line in text.split("\n")] if text else []
        return int(text) if isinstance(case.expected, int) else text
    except ValueError:
        return Unreadable(text)


def _javascript(programs: Sequence[Program]) -> str:
    runs = "".join(
        f"run({json.dumps(p.code)}, {json.dumps(p.entry_point)}, {json.dumps([list(c.args) for c in p.cases])});\n"
        for p in programs
    )
    return _JAVASCRIPT + runs


_JAVASCRIPT = """const {writeSync} = require("node:fs");
const write = (record) => writeSync(1, JSON.stringify(record) + "\\n");
const run = (code, name, cases) => {
  let call;
  try {
    call = new Function(code + "\\nreturn " + name + ";")();
  } catch (error) {
    write(error instanceof SyntaxError ? {syntax: String(error)} : {missing: String(error)});
    return;
  }
  for (const given of cases) {
    try {
      write({value: call(...given)});
    } catch (error) {
      write({raised: String(error)});
    }
  }
};
"""


def _rust(programs: Sequence[Program]) -> str:
    parts = ["#![allow(warnings)]"]
    for place, program in enumerate(programs):
        given = (", ".join(map(_rust_value, case.args)) for case in program.cases)
        calls = "".join(f'println!("{{{{\\"value\\": {{:?}}}}}}", {program.entry_point}({args}));\n' for args in given)
        parts.append(f"mod m{place} {{\n{program.code}\npub fn cases_of_the_driver() {{\n{calls}}}\n}}")
    runs = "".join(f"m{place}::cases_of_the_driver();\n" for place in range(len(programs)))
    return "\n".join([*parts, f"fn main() {{\n{runs}}}\n"])


def _rust_value(value: object) -> str:
    if isinstance(value, list):
        return f"&[{', '.join(map(_rust_value, value))}]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() or c == " " else f"\\u{{{ord(c):x}}}" for c in value) + '"'
    return json.dumps(value)


_C = r"""#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void driver_text(const char *text) {
    printf("{\"value\": \"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\' || *p < 32) printf("\\u%04x", *p);
        else putchar(*p);
    }
    printf("\"}\n");
}
static void driver_list(const int *values, int count) {
    printf("{\"value\": [");
    for (int i = 0; i < count; i++) printf("%s%d", i ? ", " : "", values[i]);
    printf("]}\n");
}
"""


def _c(programs: Sequence[Program]) -> str:
    parts = [_C]
    for place, program in enumerate(programs):
        name = program.entry_point
        # side by side, functions of one name would clash
        own = f"driver_{place}_{name}"
        code = program.code if len(programs) == 1 else f"#define {name} {own}\n{program.code}\n#undef {name}\n"
        called = name if len(programs) == 1 else own
        calls = "".join(f"    {{ {_c_call(called, program, case)} }}\n" for case in program.cases)
        parts.append(f"{code}\nstatic void driver_run_{place}(void) {{\n{calls}}}\n")
    runs = "".join(f"    driver_run_{place}();\n" for place in range(len(programs)))
    return "\n".join([*parts, f"int main(void) {{\n    setvbuf(stdout, NULL, _IOLBF, 0);\n{runs}    return 0;\n}}\n"])


def _c_call(name: str, program: Program, case: Case) -> str:
    """Declares the arguments, calls, prints."""
    declared, passed = [], []
    for place, value in enumerate(case.args):
        if isinstance(value, list):
            declared.append(f"int a{place}[] = {{{', '.join(map(str, value)) or '0'}}};")
            passed += [f"a{place}", str(len(value))]
        elif isinstance(value, str):
            declared.append(f"char a{place}[{_ROOM}] = {_c_text(value)};")
            passed.append(f"a{place}")
        else:
            passed.append(json.dumps(value))
    call = f"{name}({', '.join(passed)})"
    if isinstance(case.expected, list):
        done = f"{call}; driver_list(a0, {passed[1]});"
    elif isinstance(case.expected, str):
        done = f"{call}; driver_text(a0);" if program.in_place else f"driver_text({call});"
    elif isinstance(case.expected, bool):
        done = f'printf("{{\\"value\\": %s}}\\n", {call} ? "true" : "false");'
    else:
        done = f'printf("{{\\"value\\": %lld}}\\n", (long long)({call}));'
    return " ".join([*declared, done])


def _c_text(value: str) -> str:
    return '"' + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:03o}" for b in value.encode()) + '"'


def _shell(programs: Sequence[Program]) -> str:
    parts = []
    for program in programs:
        name = program.entry_point
        calls = "".join(f"({name} {_shell_words(case.args)})\nprintf '\\036'\n" for case in program.cases)
        known = f"case $(type {name} 2>&1) in *function*) ;; *) printf '\\035' ;; esac"
        parts.append(f"{program.code}\n{known}\n{calls}")
    return "\n".join(parts)


def _shell_words(args: Sequence[object]) -> str:
    words = [word for value in args for word in (value if isinstance(value, list) else [value])]
    return " ".join("'" + str(word).replace("'", "'\\''") + "'" for word in words)


_WRITERS: Mapping[ForeignLanguage, Callable[[Sequence[Program]], str]] = {
    "javascript": _javascript,
    "rust": _rust,
    "c": _c,
    "shell": _shell,
}

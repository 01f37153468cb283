"""Where messages point, and what of them is told."""

from __future__ import annotations

import pytest

from perfuse.syntax.places import gist, line_pointed_to

CODE = "one\ntwo\nthree\nfour\nfive\n"
PYTHON = """Traceback (most recent call last):
  File "/app/run.py", line 90, in <module>
    print(f(3))
  File "main.py", line 2, in f
    return g(x)
  File "main.py", line 4, in g
    return x[9]
IndexError: list index out of range
"""
NODE = """/tmp/main.js:3
  return x.y.z;
           ^

TypeError: Cannot read properties of undefined (reading 'z')
    at f (/tmp/main.js:3:12)
    at Object.<anonymous> (/tmp/main.js:5:1)

Node.js v20
"""
RUST = """warning: unused variable: `y`
error[E0425]: cannot find value `z` in this scope
 --> src/main.rs:2:5
  |
2 |     z
error: aborting due to 1 previous error
"""
GCC = (
    "main.c: In function 'f':\nmain.c:4:12: error: 'z' undeclared (first use in this function)\n    4 |     return z;\n"
)


@pytest.mark.parametrize(
    ("error", "line", "told"),
    [
        (PYTHON, 4, "IndexError: list index out of range"),
        (NODE, 3, "TypeError: Cannot read properties of undefined (reading 'z')"),
        (RUST, 2, "error[E0425]: cannot find value `z` in this scope"),
        (GCC, 4, "error: 'z' undeclared (first use in this function)"),
        ("main.sh: line 5: syntax error: unexpected end of file\n", 5, None),
        ("SyntaxError: invalid syntax (<candidate>, line 3)", 3, None),
        ("NameError: name 'x' is not defined (line 2)", 2, None),
        ("ValueError: x (line 99)", None, None),
        ("wrong answer", None, None),
        ("", None, ""),
    ],
)
def test_a_message_points_and_says(error: str, line: int | None, told: str | None) -> None:
    assert line_pointed_to(error, CODE) == line
    assert gist(error) == (error.strip() if told is None else told)

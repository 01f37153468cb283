"""What the example agents are to solve, how they try an answer, and what they say of it."""

import ast
import subprocess
import sys

TASK = "Given numbers, keep those that are even, double each one and return them sorted."
CASES = [{"args": [[3, 2, 8, 4]], "expected": [4, 8, 16]}, {"args": [[1]], "expected": []}]


def works(code: str) -> bool:
    """Whether the function in `code` passes the cases, tried in a process of its own."""
    try:
        trial = f"{code}\nfor case in {CASES!r}:\n    assert {name_of(code)}(*case['args']) == case['expected']\n"
        child = subprocess.run([sys.executable, "-I", "-c", trial], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (SyntaxError, StopIteration, subprocess.TimeoutExpired):
        return False
    return child.returncode == 0


def feedback(generation_id: str, code: str) -> dict:
    """The cases as tests, which the server runs in its own sandbox."""
    tests = {"kind": "python_tests", "entry_point": name_of(code), "cases": CASES}
    return {"generation_id": generation_id, "source": "example-agent", "verifier": tests}


def name_of(code: str) -> str:
    """The first function in `code`."""
    return next(node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))

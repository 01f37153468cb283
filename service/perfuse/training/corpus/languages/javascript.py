"""The intermediate form as JavaScript."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from perfuse.training.corpus.languages.braces import INDENT, Braces
from perfuse.training.corpus.languages.expressions import ATOM, TERM, Expressions
from perfuse.training.corpus.languages.form import Function, Gathered, bounds, gathered, last_of, lowered


def emit(form: Function) -> str:
    """The function as source, ending with a newline."""
    writer = _JavaScript(form)
    return framed(form, writer.block(writer.form.body))


def framed(form: Function, body: Sequence[str]) -> str:
    """The function around the lines of a body."""
    head = f"function {form.camel}({', '.join(name for name, _ in form.parameters)}) {{"
    return "\n".join([head, *(INDENT + line for line in body), "}"]) + "\n"


class _Expressions(Expressions):
    equal = "==="
    unequal = "!=="

    def power(self, base: ast.expr, exponent: int) -> tuple[str, int]:
        return f"{self.write(base, ATOM)} ** {exponent}", TERM

    def quotient(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        return f"Math.floor({self.write(left, TERM)} / {self.write(right, ATOM)})", ATOM

    def call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        written, binds = super().call(function, arguments)
        return f"Math.{written}", binds


class _JavaScript(Braces):
    expressions = _Expressions()

    def __init__(self, form: Function) -> None:
        last = form.body[-1]
        found = gathered(last.value) if isinstance(last, ast.Return) else None
        # arrays have methods for this, ranges have none
        super().__init__(form if found is None or bounds(found.source) is None else lowered(form))

    def declaration(self, name: str) -> str:
        return "let " if self.assignments[name] > 1 else "const "

    def changed(self, name: str, operator: ast.operator, value: ast.expr) -> list[str]:
        if isinstance(operator, ast.FloorDiv):
            return [f"{name} = Math.floor({name} / {self.expressions.write(value, ATOM)});"]
        return super().changed(name, operator, value)

    def returned(self, value: ast.expr) -> list[str]:
        found = gathered(value)
        return super().returned(value) if found is None else [f"return {self._chain(found)};"]

    def _chain(self, found: Gathered) -> str:
        """Array methods, one per step."""
        write = self.expressions.write
        start = write(found.source)
        methods = {"any": "some", "all": "every", "first_index": "findIndex", "last_index": "findLastIndex"}
        if (method := methods.get(found.how)) is not None:
            return f"{start}.{method}({found.name} => {write(found.each)})"
        if found.test is not None:
            start += f".filter({found.name} => {write(found.test)})"
        if found.counts:
            return f"{start}.length"
        if not found.unchanged:
            start += f".map({found.name} => {write(found.each)})"
        match found.how:
            case "sum":
                return f"{start}.reduce((a, b) => a + b, 0)"
            case "prod":
                return f"{start}.reduce((a, b) => a * b, 1)"
            case _:
                return start

    def loop(self, name: str, source: ast.expr, body: Sequence[ast.stmt]) -> list[str]:
        write = self.expressions.write
        if (found := bounds(source)) is None:
            return [f"for (const {name} of {write(source)}) {{", *self.indented(body), "}"]
        last = last_of(found[1])
        test = f"{name} < {write(found[1])}" if last is None else f"{name} <= {write(last)}"
        return [f"for (let {name} = {write(found[0])}; {test}; {name}++) {{", *self.indented(body), "}"]

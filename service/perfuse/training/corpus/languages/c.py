"""The intermediate form as C: no memory is allocated, so a list comes back in the place of the one that went in."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from perfuse.training.corpus.languages.braces import INDENT, Braces
from perfuse.training.corpus.languages.expressions import SUM, Expressions
from perfuse.training.corpus.languages.form import (
    Function,
    Gathered,
    Kind,
    bounds,
    gathered,
    last_of,
    lowered,
    substituted,
)

RESULTS = {"int": "int ", "bool": "bool ", "str": "const char *"}
_PARAMETERS = {"int": "int {0}", "bool": "bool {0}", "str": "const char *{0}", "list[int]": "const int *{0}, int count"}


def emit(form: Function) -> str:
    """The function as source, ending with a newline."""
    writer = _C(lowered(form))
    return framed(form, writer.block(writer.form.body))


def framed(form: Function, body: Sequence[str]) -> str:
    """The function around the lines of a body. A result of the kind of a parameter that can be written is put there."""
    written = is_in_place(tuple(kind for _, kind in form.parameters), form.result)
    kinds = {kind: said.removeprefix("const ") for kind, said in _PARAMETERS.items()} if written else _PARAMETERS
    said = ", ".join(kinds[kind].format(name) for name, kind in form.parameters)
    head = f"{'void ' if written else RESULTS[form.result]}{form.snake}({said}) {{"
    return "\n".join([head, *(INDENT + line for line in body), "}"]) + "\n"


def is_in_place(parameters: Sequence[Kind], result: Kind) -> bool:
    """Whether a C function changes its argument instead of returning something."""
    return result in {"str", "list[int]"} and result in parameters


class _Expressions(Expressions):
    def bound(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=place):
                return f"{name}[{self.write(place)}]", 8
            case _:
                return super().bound(node)

    def call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        if function == "abs":
            return super().call(function, arguments)
        left, right = arguments
        sign = ">" if function == "max" else "<"
        written = f"{self.write(left, SUM)} {sign} {self.write(right, SUM)}"
        return f"{written} ? {self.write(left, 1)} : {self.write(right, 1)}", 0


class _C(Braces):
    expressions = _Expressions()

    def declaration(self, name: str) -> str:  # noqa: ARG002 (all locals of the form are integers)
        return "int "

    def assigned(self, name: str, value: ast.expr) -> list[str]:
        match value:
            case ast.Call(func=ast.Name(id="max" | "min" as which), args=[ast.Name(id=same), other]) if same == name:
                sign = ">" if which == "max" else "<"
                written = self.expressions.write
                return [f"if ({written(other, SUM)} {sign} {name}) {name} = {written(other)};"]
            case _:
                return super().assigned(name, value)

    def changed(self, name: str, operator: ast.operator, value: ast.expr) -> list[str]:
        if isinstance(operator, ast.Add) and isinstance(value, ast.Constant) and value.value == 1:
            return [f"{name}++;"]
        return super().changed(name, operator, value)

    def condition(self, test: ast.expr, body: Sequence[ast.stmt], otherwise: Sequence[ast.stmt]) -> list[str]:
        if otherwise or len(body) > 1:
            return super().condition(test, body, otherwise)
        inner = self.indented(body)
        if len(inner) == 1:
            return [f"if {self.bracketed(test)} {inner[0].strip()}"]
        return [f"if {self.bracketed(test)} {{", *inner, "}"]

    def returned(self, value: ast.expr) -> list[str]:
        found = gathered(value)
        if found is None:
            return super().returned(value)
        return self._in_place(found) if found.how == "list" else self._search(found)

    def _in_place(self, found: Gathered) -> list[str]:
        assert found.test is None
        place = _element(found.source)
        each = self.expressions.write(substituted(found.each, found.name, place))
        return [_ahead(), f"{INDENT}{self.expressions.write(place)} = {each};", "}"]

    def _search(self, found: Gathered) -> list[str]:
        test = self.expressions.write(substituted(found.each, found.name, _element(found.source)))
        head = _ahead() if found.how == "first_index" else "for (int i = count - 1; i >= 0; i--) {"
        return [head, f"{INDENT}if ({test}) return i;", "}", "return -1;"]

    def loop(self, name: str, source: ast.expr, body: Sequence[ast.stmt]) -> list[str]:
        write = self.expressions.write
        if (found := bounds(source)) is None:
            first = f"{INDENT}int {name} = {write(_element(source))};"
            return [_ahead(), first, *self.indented(body), "}"]
        last = last_of(found[1])
        test = f"{name} < {write(found[1])}" if last is None else f"{name} <= {write(last)}"
        return [f"for (int {name} = {write(found[0])}; {test}; {name}++) {{", *self.indented(body), "}"]


def _element(source: ast.expr) -> ast.expr:
    return ast.Subscript(source, ast.Name("i", ast.Load()), ast.Load())


def _ahead() -> str:
    return "for (int i = 0; i < count; i++) {"

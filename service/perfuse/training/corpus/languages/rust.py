"""The intermediate form as Rust."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from perfuse.training.corpus.languages.braces import INDENT, Braces
from perfuse.training.corpus.languages.expressions import ATOM, TERM, Expressions
from perfuse.training.corpus.languages.form import Function, Gathered, bounds, gathered, last_of

PARAMETERS = {"int": "i64", "bool": "bool", "str": "&str", "list[int]": "&[i64]"}
RESULTS = {**PARAMETERS, "str": "String", "list[int]": "Vec<i64>"}


def emit(form: Function) -> str:
    """The function as source, ending with a newline."""
    writer = _Rust(form)
    *before, last = form.body
    assert isinstance(last, ast.Return)
    assert last.value is not None
    return framed(form, [*writer.block(before), writer.value(last.value)])


def framed(form: Function, body: Sequence[str]) -> str:
    """The function around the lines of a body."""
    changed = form.assignments
    said = ", ".join(
        f"{'mut ' if changed[name] > 1 else ''}{name}: {PARAMETERS[kind]}" for name, kind in form.parameters
    )
    head = f"fn {form.snake}({said}) -> {RESULTS[form.result]} {{"
    return "\n".join([head, *(INDENT + line for line in body), "}"]) + "\n"


class _Expressions(Expressions):
    def __init__(self, typed: frozenset[str]) -> None:
        self._typed = typed

    def power(self, base: ast.expr, exponent: int) -> tuple[str, int]:
        if exponent == 2 and isinstance(base, ast.Name):
            return super().power(base, exponent)
        return f"{self.write(base, ATOM)}.pow({exponent})", ATOM

    def choice(self, test: ast.expr, yes: ast.expr, no: ast.expr) -> tuple[str, int]:
        return f"if {self.write(test)} {{ {self.write(yes)} }} else {{ {self.write(no)} }}", 0

    def call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        # a method needs a receiver whose type is known already, so not one that is inferred from its use
        arguments = sorted(arguments, key=self._is_inferred)
        rest = ", ".join(self.write(argument) for argument in arguments[1:])
        return f"{self.write(arguments[0], ATOM)}.{function}({rest})", ATOM

    def _is_inferred(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id not in self._typed)

    def quotient(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        return f"{self.write(left, TERM)} / {self.write(right, ATOM)}", TERM


class _Rust(Braces):
    brackets = False

    def __init__(self, form: Function) -> None:
        super().__init__(form)
        loops = {
            node.target.id
            for statement in form.body
            for node in ast.walk(statement)
            if isinstance(node, ast.For) and isinstance(node.target, ast.Name)
        }
        self.expressions = _Expressions(frozenset({name for name, _ in form.parameters} | loops))

    def declaration(self, name: str) -> str:
        return "let mut " if self.assignments[name] > 1 else "let "

    def value(self, node: ast.expr) -> str:
        """The last expression of the function."""
        found = gathered(node)
        if found is not None:
            return self._chain(found)
        written = self.expressions.write(node)
        return f"{written}.to_string()" if isinstance(node, ast.Constant) and isinstance(node.value, str) else written

    def returned(self, value: ast.expr) -> list[str]:
        return [f"return {self.value(value)};"]

    def _chain(self, found: Gathered) -> str:
        """Iterator adapters, one per step."""
        write = self.expressions.write
        spans = self._range(found.source)
        start = f"{write(found.source)}.iter()" if spans is None else f"({spans})"
        each = f"&{found.name}" if spans is None else found.name
        searches = {"first_index": "position", "last_index": "rposition"}
        if (method := searches.get(found.how)) is not None:
            return f"{start}.{method}(|{each}| {write(found.each)}).map_or(-1, |i| i as i64)"
        if found.how in {"any", "all"}:
            return f"{start}.{found.how}(|{each}| {write(found.each)})"
        if found.test is not None:
            start += f".filter(|&{each}| {write(found.test)})"
        if found.counts:
            return f"{start}.count() as i64"
        if not found.unchanged:
            start += f".map(|{each}| {write(found.each)})"
        elif found.how == "list":
            start += ".copied()"
        return start + {"sum": ".sum()", "prod": ".product()", "list": ".collect()"}[found.how]

    def _range(self, source: ast.expr) -> str | None:
        if (found := bounds(source)) is None:
            return None
        last = last_of(found[1])
        write = self.expressions.write
        return f"{write(found[0])}..{write(found[1])}" if last is None else f"{write(found[0])}..={write(last)}"

    def loop(self, name: str, source: ast.expr, body: Sequence[ast.stmt]) -> list[str]:
        spans = self._range(source)
        head = f"for &{name} in {self.expressions.write(source)}" if spans is None else f"for {name} in {spans}"
        return [f"{head} {{", *self.indented(body), "}"]

"""Statements of the intermediate form in the languages that write blocks in braces: JavaScript, Rust, C."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from perfuse.training.corpus.languages.expressions import Expressions
from perfuse.training.corpus.languages.form import Function

INDENT = "    "


class Braces:
    """Writes one function; languages say how they declare, loop and bracket."""

    expressions = Expressions()
    brackets = True
    """Whether conditions stand in brackets."""

    def __init__(self, form: Function) -> None:
        self.form = form
        self.assignments = form.assignments
        self._declared = {name for name, _ in form.parameters}

    def block(self, statements: Sequence[ast.stmt]) -> list[str]:
        """Lines of the statements, not indented."""
        return [line for statement in statements for line in self.statement(statement)]

    def statement(self, statement: ast.stmt) -> list[str]:
        """Lines of one statement."""
        match statement:
            case ast.Return(value=value):
                assert value is not None
                return self.returned(value)
            case ast.Break():
                return ["break;"]
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return self.assigned(name, value)
            case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
                return self.changed(name, operator, value)
            case ast.If(test=test, body=body, orelse=otherwise):
                return self.condition(test, body, otherwise)
            case ast.While(test=test, body=body):
                return [f"while {self.bracketed(test)} {{", *self.indented(body), "}"]
            case ast.For(target=ast.Name(id=name), iter=source, body=body):
                return self.loop(name, source, body)
            case _:
                raise ValueError(f"not in the intermediate form: {ast.unparse(statement)}")

    def indented(self, statements: Sequence[ast.stmt]) -> list[str]:
        """Lines of a block one level deeper. What is declared inside is unknown outside."""
        outside = set(self._declared)
        lines = [INDENT + line for line in self.block(statements)]
        self._declared = outside
        return lines

    def bracketed(self, test: ast.expr) -> str:
        """A condition as `if` and `while` want it."""
        written = self.expressions.write(test)
        return f"({written})" if self.brackets else written

    def condition(self, test: ast.expr, body: Sequence[ast.stmt], otherwise: Sequence[ast.stmt]) -> list[str]:
        """`if`, with `else` if there is one."""
        head = f"if {self.bracketed(test)} {{"
        if not otherwise:
            return [head, *self.indented(body), "}"]
        return [head, *self.indented(body), "} else {", *self.indented(otherwise), "}"]

    def assigned(self, name: str, value: ast.expr) -> list[str]:
        """An assignment, which declares a name that is new."""
        head = "" if name in self._declared else self.declaration(name)
        self._declared.add(name)
        return [f"{head}{name} = {self.expressions.write(value)};"]

    def changed(self, name: str, operator: ast.operator, value: ast.expr) -> list[str]:
        """`name += value` and its like."""
        sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "/"}[type(operator)]
        return [f"{name} {sign}= {self.expressions.write(value)};"]

    def returned(self, value: ast.expr) -> list[str]:
        """The end of the function."""
        return [f"return {self.expressions.write(value)};"]

    def declaration(self, name: str) -> str:
        """What stands before a name that is assigned for the first time, with a space."""
        raise NotImplementedError

    def loop(self, name: str, source: ast.expr, body: Sequence[ast.stmt]) -> list[str]:
        """A loop over a list or a range."""
        raise NotImplementedError

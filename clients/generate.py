"""Write the generated half of the Python client out of openapi.yaml: its models and its operations.

    python clients/generate.py             rewrite them (part of `make openapi`)
    python clients/generate.py --check     show what differs from what is there; exit code 1 if anything does

Models of answers and of nested fields come from datamodel-code-generator, operations from `client.py.jinja`. Bounds
and patterns are left out: the server judges values, and says why; the client knows types only.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "openapi.yaml"
PACKAGE = HERE / "python/src/perfuse_client"
LEFT_OUT = frozenset({"openai"})
"""Tags of operations that have a client of their own."""

Schema = dict[str, Any]  # JSON

_WIDTH = 120
_REF = "#/components/schemas/"
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_BOUNDS = (
    *("pattern", "format", "discriminator", "minLength", "maxLength", "minItems", "maxItems"),
    *("minProperties", "maxProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
)
_HEADER = '"""{}\n\nWritten by clients/generate.py out of openapi.yaml; do not edit.\n"""'
_OPTIONS = (
    *("--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel"),
    *("--target-python-version", "3.10", "--no-use-union-operator", "--use-annotated", "--strict-nullable"),
    *("--enum-field-as-literal", "all", "--use-one-literal-as-default", "--collapse-root-models"),
    *("--use-schema-description", "--use-field-description", "--use-object-type"),
    *("--base-class", "perfuse_client.record.Record", "--disable-timestamp", "--no-formatters"),
)


@dataclass(frozen=True)
class Parameter:
    """One argument of an operation. What is not required is None by default, and then not sent."""

    name: str
    kind: str
    required: bool
    description: str

    @property
    def declared(self) -> str:
        """As it stands in a signature."""
        return f"{self.name}: {self.kind}" if self.required else f"{self.name}: Optional[{self.kind}] = None"


@dataclass(frozen=True)
class Operation:
    """One operation of the document, as the template wants it."""

    name: str
    method: str
    path: str
    description: str
    answer: str
    streams: bool
    takes_body: bool
    places: list[Parameter] = field(default_factory=list)
    query: list[Parameter] = field(default_factory=list)
    fields: list[Parameter] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> list[Parameter]:
        """The keyword arguments, first those that must be given."""
        return sorted([*self.query, *self.fields], key=lambda each: not each.required)

    @property
    def target(self) -> str:
        """The path as a Python expression."""
        path = re.sub(r"\{(\w+)\}", r"{segment(\1)}", self.path)
        return f'f"{path}"' if self.places else f'"{path}"'

    @property
    def reader(self) -> str:
        """What makes the answer out of bytes."""
        return "bytes.decode" if self.answer == "str" else f"{self.answer}.model_validate_json"

    def returned(self, *, asynchronous: bool, stream: bool) -> str:
        """The type that a method gives."""
        if not stream:
            return self.answer
        event = f"Event[{self.answer}]"
        return f"AsyncGenerator[{event}, None]" if asynchronous else f"Generator[{event}, None, None]"

    def body(self, *, stream: bool) -> dict[str, str]:
        """Names of the body's fields and the expressions that are sent."""
        said = {each.name: each.name for each in self.fields}
        if "idempotency_key" in said:
            said["idempotency_key"] = "idempotency_key or fresh_key()"
        return {**self.constants, **({"stream": "True"} if stream else {}), **said}

    def documentation(self, *, stream: bool) -> str:
        """The docstring, without the indentation of its first line."""
        first = self.description
        if stream:
            first += " Gives the events of its generation, last a `Result`; closed before, it ends the server's work."
        lines = [*textwrap.wrap(first, _WIDTH - 11), "", "Args:"]
        told = [*self.places, *self.named]
        told.append(Parameter("timeout", "", required=False, description="seconds of silence; None: the client's"))
        for each in told:
            if each.description:
                text = f"{each.name}: {each.description}"
                lines += textwrap.wrap(text, _WIDTH - 8, initial_indent="    ", subsequent_indent="        ")
        return textwrap.indent("\n".join(lines), " " * 8).strip() + "\n" + " " * 8


class Unsupported(Exception):
    """The document holds what no operation can be made of yet."""


@dataclass
class Reader:
    """Makes operations out of a document. Notes the models they need, and choices among words as named types."""

    document: Schema
    choices: dict[str, str] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)

    def operations(self) -> Iterator[Operation]:
        """All but those with a client of their own, in the document's order."""
        for path, item in self.document["paths"].items():
            for method, said in item.items():
                if not LEFT_OUT & set(said["tags"]):
                    yield self._operation(path, method, said)

    def _operation(self, path: str, method: str, said: Schema) -> Operation:
        placed = [each for each in said.get("parameters", ()) if each["in"] == "path"]
        asked = [each for each in said.get("parameters", ()) if each["in"] == "query"]
        content = next(answer["content"] for status, answer in said["responses"].items() if status.startswith("2"))
        body = self._body(said)
        fixed = {name: f'"{schema["const"]}"' for name, schema in body["properties"].items() if "const" in schema}
        return Operation(
            name=said["operationId"],
            method=method.upper(),
            path=path,
            description=said["description"],
            answer=self._answer(said["operationId"], content),
            streams="text/event-stream" in content,
            takes_body="requestBody" in said,
            places=[self._parameter(each["name"], each["schema"], required=True) for each in placed],
            query=[
                self._parameter(each["name"], {**each, **each["schema"]}, required=each["required"]) for each in asked
            ],
            fields=[
                self._parameter(name, schema, required=name in body["required"])
                for name, schema in body["properties"].items()
                if name not in fixed and name != "stream"
            ],
            constants=fixed,
        )

    def _body(self, said: Schema) -> Schema:
        none: Schema = {"properties": {}, "required": []}
        if "requestBody" not in said:
            return none
        schema = said["requestBody"]["content"]["application/json"]["schema"]
        if "$ref" in schema:
            schema = self._named(schema["$ref"])
        if "properties" not in schema:
            raise Unsupported(f"{said['operationId']}: its body is no object with fields; got {sorted(schema)}")
        return {**none, **schema}

    def _answer(self, name: str, content: Schema) -> str:
        if "application/json" in content:
            return self._model(content["application/json"]["schema"]["$ref"])
        if "text/plain" in content:
            return "str"
        raise Unsupported(f"{name}: it answers with none of JSON and text; got {sorted(content)}")

    def _parameter(self, name: str, schema: Schema, *, required: bool) -> Parameter:
        described = schema.get("description", "")
        if (default := schema.get("default")) not in (None, "") and not isinstance(default, bool):
            described = f"{described}; {default!r} unless given" if described else f"{default!r} unless given"
        return Parameter(name, self._kind(name, _without_null(schema)), required, described)

    def _kind(self, name: str, schema: Schema) -> str:
        """The Python type of an argument."""
        if "$ref" in schema:
            found = self._named(schema["$ref"])
            if "properties" not in found:
                return self._kind(name, found)
            return f"Union[{self._model(schema['$ref'])}, Mapping[str, object]]"
        if "enum" in schema:
            words = ", ".join(f'"{word}"' for word in schema["enum"])
            self.choices[name.title().replace("_", "")] = f"Literal[{words}]"
            return name.title().replace("_", "")
        if union := schema.get("oneOf") or schema.get("anyOf"):
            return f"Union[{', '.join(self._kind(name, each) for each in union)}]"
        if schema.get("type") == "array":
            return f"Sequence[{self._kind(name, schema['items'])}]"
        if schema.get("type") == "object":
            return "Mapping[str, object]"
        return _PLAIN[schema["type"]] if "type" in schema else "object"

    def _model(self, reference: str) -> str:
        name = reference.removeprefix(_REF)
        self.models.add(name)
        return name

    def _named(self, reference: str) -> Schema:
        found: Schema = self.document["components"]["schemas"][reference.removeprefix(_REF)]
        return found


def _without_null(schema: Schema) -> Schema:
    """The schema of what is sent where something is sent. None means left out, so it must be the default."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) == len(schema.get("anyOf", ())):
        return schema
    if schema["default"] is not None:
        raise Unsupported(f"null is not the default of a field that may be null: {schema}")
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def client(document: Schema) -> str:
    """The module with the operations."""
    reader = Reader(document)
    operations = list(reader.operations())
    environment = jinja2.Environment(  # noqa: S701  # Python, not HTML
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("client.py.jinja").render(
        operations=operations, models=sorted(reader.models), choices=sorted(reader.choices.items())
    )


def models(document: Schema) -> str:
    """The module with the models: of answers, and of what stands inside request bodies."""
    items = document["paths"].values()
    operations = [said for item in items for said in item.values() if not LEFT_OUT & set(said["tags"])]
    schemas = document["components"]["schemas"]
    wanted: set[str] = set()
    for said in operations:
        answers = [answer["content"] for status, answer in said["responses"].items() if status.startswith("2")]
        bodies = _references(said.get("requestBody", {}))
        roots = _references(answers) | {inner for name in bodies for inner in _references(schemas[name])}
        while roots:
            wanted |= roots
            roots = {inner for name in roots for inner in _references(schemas[name])} - wanted
    reduced = {**document, "paths": {}, "components": {"schemas": _unbounded({n: schemas[n] for n in sorted(wanted)})}}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "openapi.json"), Path(folder, "models.py")
        source.write_text(json.dumps(reduced), encoding="utf-8")
        header = _HEADER.format("What answers and nested fields are made of.")
        command = [sys.executable, "-m", "datamodel_code_generator", "--input", str(source), "--output", str(target)]
        subprocess.run([*command, "--custom-file-header", header, *_OPTIONS], check=True)  # noqa: S603
        written = target.read_text(encoding="utf-8")
    # What may be any JSON is an object; a docstring of one line stands on one line.
    written = re.sub(r"(?m)\bAny(?=\]| =|$)", "object", written)
    return re.sub(r'""".*?"""', lambda found: _docstring(found[0]), written, flags=re.DOTALL)


def _docstring(quoted: str) -> str:
    inside = quoted.strip('"').strip()
    return quoted if "\n" in inside else f'"""{inside}"""'


def _references(node: object) -> set[str]:
    """Names of the schemas that a piece of the document refers to."""
    if isinstance(node, dict):
        own = {str(node["$ref"]).removeprefix(_REF)} if "$ref" in node else set()
        return own.union(*(_references(each) for name, each in node.items() if name != "discriminator"))
    if isinstance(node, list):
        return set().union(*(_references(each) for each in node))
    return set()


def _unbounded(schemas: Schema) -> Schema:
    """Without bounds and patterns, and with descriptions that fit into the line; the keys are names, not keywords."""
    return {name: _bare(schema) for name, schema in schemas.items()}


def _bare(node: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _bare(value) for name, value in node.items() if name not in {*_BOUNDS, "properties", "description"}}
    if "properties" in node:
        kept["properties"] = _unbounded(node["properties"])
    if "description" in node:
        kept["description"] = "\n".join(_wrapped(line) for line in node["description"].split("\n"))
    return kept


def _wrapped(line: str) -> str:
    deeper = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, _WIDTH - 10, subsequent_indent=deeper if line.startswith(" ") else "")


def formatted(name: str, source: str) -> str:
    """The module as ruff would write it."""
    as_file = ("--quiet", "--stdin-filename", str(PACKAGE / name), "-")
    for step in (("check", "--fix-only"), ("format",)):
        command = [sys.executable, "-m", "ruff", *step, *as_file]
        source = subprocess.run(command, input=source, text=True, capture_output=True, check=True).stdout  # noqa: S603
    return source


def main() -> int:
    """Write or compare the modules; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    differs = False
    for name, source in (("client.py", client(document)), ("models.py", models(document))):
        wanted, file = formatted(name, source), PACKAGE / name
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        if not check:
            file.write_text(wanted, encoding="utf-8")
        elif wanted != there:
            differs = True
            lines = difflib.unified_diff(there.splitlines(), wanted.splitlines(), str(file), "regenerated", lineterm="")
            sys.stderr.writelines(f"{line}\n" for line in lines)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())

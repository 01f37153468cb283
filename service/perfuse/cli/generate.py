"""`perfuse generate`: fill text here, or on a server, and watch the canvas being unmasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from perfuse.cli.options import Json, Key, ModelFolders, ModelName, Url
from perfuse.cli.remote import ask
from perfuse.cli.terminal import emit, emit_json, errors, interactive, say
from perfuse.errors import InvalidRequest
from perfuse.requests import Preview, SamplerOptions, TextRequest

_OPTIONS = [field.name for field in fields(SamplerOptions)]
_MASKS = "\u2591\ufffd"

Show = Callable[[str, int, int], None]


def command(
    prompt: Annotated[str, typer.Argument(help="what to write, in words")] = "",
    *,
    prefix: Annotated[str, typer.Option(help="text before the fill")] = "",
    suffix: Annotated[str, typer.Option(help="text after the fill")] = "",
    template: Annotated[str | None, typer.Option(help="text with <mask> or <mask:N> marks")] = None,
    length: Annotated[int | None, typer.Option(help="most tokens of the fill")] = None,
    steps: Annotated[int | None, typer.Option(help="most forwards")] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, random, "
            "ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop or editing"
        ),
    ] = "auto",
    option: Annotated[
        list[str] | None, typer.Option(help=f"of the sampler, NAME=VALUE; NAME is {', '.join(_OPTIONS)}")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0: the most likely token")] = 0.0,
    guidance: Annotated[float, typer.Option(help="classifier-free scale; 1: off")] = 1.0,
    guidance_ramp: Annotated[float, typer.Option(help="share of the span over which the scale rises from 1")] = 0.0,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    n: Annotated[int, typer.Option(help="number of outputs")] = 1,
    schema: Annotated[Path | None, typer.Option(help="file with a JSON Schema; the fill is valid by it")] = None,
    regex: Annotated[str | None, typer.Option(help="pattern that the whole fill matches")] = None,
    language: Annotated[str, typer.Option(help="python, javascript, rust, c, shell, or text")] = "python",
    syntax: Annotated[
        str, typer.Option(help="where the text does not parse: repair, check, off; auto: repair where it should parse")
    ] = "auto",
    refine: Annotated[Path | None, typer.Option(help="file with code to be put right")] = None,
    error: Annotated[str | None, typer.Option(help="what went wrong with that code")] = None,
    width: Annotated[str, typer.Option(help="how much of it is written anew: line, around, whole, auto")] = "auto",
    model: ModelName = None,
    models: ModelFolders = None,
    url: Url = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Fill text: the output goes to stdout, the canvas is shown on the terminal while it fills."""
    asked: dict[str, object] = {
        "prompt": prompt,
        "prefix": prefix,
        "suffix": suffix,
        "template": template,
        "length": length,
        "steps": steps,
        "sampler": sampler,
        "temperature": temperature,
        "guidance": guidance,
        "seed": seed,
        "n": n,
        "model": model,
        "schema": None if schema is None else _read(schema),
        "regex": regex,
        "language": language,
        "syntax": syntax,
        "refine": _refinement(refine, error, width),
    }
    if option:
        asked["sampler_options"] = _options(option)
    if guidance_ramp:
        asked["guidance_ramp"] = guidance_ramp
    with _canvas() as show:
        answer = _remote(url, key, asked, show) if url else _local(models or [], asked, show)
    if json:
        emit_json(answer)
        return
    outputs = answer["outputs"]
    assert isinstance(outputs, list | tuple)
    for output in outputs:
        emit(output["text"])
        if problem := output.get("syntax_error"):
            say(f"line {problem['line']}, column {problem['column']}: {problem['message']}")
        say(f"{output['finish_reason']}, {output['forwards']} forwards, confidence {output['confidence']:.2f}")


def _options(given: Sequence[str]) -> dict[str, object]:
    """The sampler's options by name. Raises InvalidRequest."""
    found: dict[str, object] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in _OPTIONS:
            raise InvalidRequest(f"no sampler has an option {name!r}; expected one of {', '.join(_OPTIONS)}")
        try:
            found[name] = value if name == "schedule" else (int if name == "window" else float)(value)
        except ValueError:
            raise InvalidRequest(f"expected --option NAME=VALUE with a number; got {one!r}") from None
    return found


def _refinement(code: Path | None, error: str | None, width: str) -> dict[str, str] | None:
    """`refine` of the request. Raises InvalidRequest."""
    if code is None or error is None:
        if code is not None or error is not None:
            raise InvalidRequest("expected --refine FILE together with --error TEXT", field="/refine")
        return None
    try:
        return {"code": code.read_text(encoding="utf-8"), "error": error, "width": width}
    except (OSError, UnicodeDecodeError) as failed:
        raise InvalidRequest(f"expected code in {str(code)!r}: {failed}", field="/refine/code") from failed


def _read(schema: Path) -> dict[str, object]:
    """The JSON object in a file. Raises InvalidRequest."""
    import msgspec

    try:
        return msgspec.json.decode(schema.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"expected a JSON object in {str(schema)!r}: {error}", field="/schema") from error


def _local(models: list[Path], fields: Mapping[str, object], show: Show) -> dict[str, object]:
    import msgspec

    from perfuse.arrow_engine import ArrowEngine

    schema = fields["schema"]
    assert schema is None or isinstance(schema, dict)
    try:
        request = msgspec.convert({**fields, "schema": None}, TextRequest)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the request cannot be read: {error}") from error

    def preview(shown: Preview) -> None:
        canvas = shown.body.get("canvas", "")
        show(str(canvas() if callable(canvas) else canvas), shown.step, shown.of)

    engine = ArrowEngine(models)
    result = engine.diffuse(
        prompt=request.prompt,
        prefix=request.prefix,
        suffix=request.suffix,
        template=request.template,
        length=request.length,
        steps=request.steps,
        sampler=request.sampler,
        temperature=request.temperature,
        sampler_options=request.sampler_options,
        guidance=request.guidance,
        guidance_ramp=request.guidance_ramp,
        seed=request.seed,
        n=request.n,
        model=request.model,
        schema=schema,
        regex=request.regex,
        language=request.language,
        syntax=request.syntax,
        refine=request.refine,
        on_preview=preview,
    )
    answer: dict[str, object] = msgspec.to_builtins(result)
    return answer


def _remote(url: str, key: str | None, fields: Mapping[str, object], show: Show) -> dict[str, object]:
    def preview(body: Mapping[str, object]) -> None:
        step, of = body["step"], body["of"]
        assert isinstance(step, int)
        assert isinstance(of, int)
        show(str(body.get("canvas", "")), step, of)

    return ask(url, key, "diffuse", {"modality": "text", **fields}, preview)


@contextmanager
def _canvas() -> Iterator[Show]:
    """Shows a canvas that fills; nothing where nobody watches."""
    if not interactive():
        yield lambda *_: None
        return
    with Live(console=errors, transient=True, refresh_per_second=30) as live:

        def show(canvas: str, step: int, of: int) -> None:
            text = Text(canvas)
            for mask in _MASKS:
                text.highlight_words([mask], "dim cyan")
            text.append(f"\n{step} of about {of} steps", "dim")
            live.update(text, refresh=True)

        yield show

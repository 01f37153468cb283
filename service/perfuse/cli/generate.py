"""`perfuse generate`: fill text here, or on a server, and watch the canvas being unmasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from perfuse.cli.options import Json, Key, ModelFolders, ModelName, Url
from perfuse.cli.remote import ask
from perfuse.cli.terminal import emit, emit_json, errors, interactive, say
from perfuse.requests import Preview, TextRequest

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
        str, typer.Option(help="auto, verified, entropy, threshold, low_confidence or ancestral")
    ] = "auto",
    temperature: Annotated[float, typer.Option(help="0: the most likely token")] = 0.0,
    guidance: Annotated[float, typer.Option(help="classifier-free scale; 1: off")] = 1.0,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    n: Annotated[int, typer.Option(help="number of outputs")] = 1,
    model: ModelName = None,
    models: ModelFolders = None,
    url: Url = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Fill text: the output goes to stdout, the canvas is shown on the terminal while it fills."""
    fields: dict[str, object] = {
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
    }
    with _canvas() as show:
        answer = _remote(url, key, fields, show) if url else _local(models or [], fields, show)
    if json:
        emit_json(answer)
        return
    outputs = answer["outputs"]
    assert isinstance(outputs, list | tuple)
    for output in outputs:
        emit(output["text"])
        say(f"{output['finish_reason']}, {output['forwards']} forwards, confidence {output['confidence']:.2f}")


def _local(models: list[Path], fields: Mapping[str, object], show: Show) -> dict[str, object]:
    import msgspec

    from perfuse.arrow_engine import ArrowEngine

    request = msgspec.convert(fields, TextRequest)

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
        guidance=request.guidance,
        seed=request.seed,
        n=request.n,
        model=request.model,
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

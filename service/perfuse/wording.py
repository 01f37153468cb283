"""How a request for code is put to a text model; training rows and served requests say it the same way."""

from __future__ import annotations

from typing import Literal, get_args

Language = Literal["python", "javascript", "rust", "c", "shell"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


def worded(prompt: str, language: Language = "python", *, broken: str = "", error: str = "") -> str:
    """The prompt as the model reads it.

    Args:
        prompt: what the code is to do.
        language: named before the prompt, except Python, which the model writes where nothing is named.
        broken: a program that does not do it yet, shown behind the prompt.
        error: what went wrong with it, the last line of its message.
    """
    said = prompt if language == "python" else f"{language}: {prompt}"
    if broken:
        said += f"\nwrong:\n{broken}"
    if error:
        said += f"\nerror: {error}"
    return said

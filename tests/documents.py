"""What the documents of the repository say, in a form that tests can run."""

from __future__ import annotations

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SERVED = "127.0.0.1:8000"
"""Where the documents say a server is."""
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def curl_lines(document: Path) -> list[str]:
    """The `curl` commands of a document, each ready for a shell."""
    return [block for block in blocks(document, "sh") if block.startswith("curl ")]


def posted(command: str) -> tuple[str, dict[str, object]]:
    """Path and JSON body of a `curl … -d '…'` command."""
    path = re.search(r"http://127\.0\.0\.1:8000(/\S+)", command)
    body = re.search(r"-d '(.*)'", command, re.DOTALL)
    assert path is not None, command
    assert body is not None, command
    return path[1], json.loads(body[1])

"""Which parser a language has, also by other packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perfuse.errors import ConfigError, PluginFailed
from perfuse.syntax import python
from perfuse.syntax.expecting import parseable
from perfuse.syntax.fault import Fault
from perfuse.syntax.parsers import languages, parser_of
from perfuse.syntax.refinement import shown
from plugged import importable

MODULE = """
from perfuse.syntax.fault import Fault

def faults(code):
    if "!" in code:
        raise ValueError("what is this")
    return [] if code.endswith(".") else [Fault(0, len(code), 1, "expected a full stop")]
"""


@pytest.fixture
def cobol(tmp_path: Path) -> Iterator[None]:
    """A package with a parser of COBOL, and one that leads nowhere."""
    metadata = tmp_path / "perfuse_cobol-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: perfuse-cobol\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[perfuse.parsers]\ncobol = perfuse_cobol:faults\nlost = perfuse_cobol:lost\n"
    )
    (tmp_path / "perfuse_cobol.py").write_text(MODULE)
    with importable(tmp_path):
        yield


def test_python_has_its_own_and_text_has_none() -> None:
    assert languages() == ["python", "javascript", "rust", "c", "shell", "text"]
    assert parser_of("python") is python.faults
    assert parser_of("text") is None
    for language in ("javascript", "rust", "c", "shell"):
        parser = parser_of(language)
        assert parser is not None
        assert parser("(((")


def test_an_installed_parser_brings_its_language(cobol: None) -> None:
    assert languages()[-2:] == ["cobol", "lost"]
    parser = parser_of("cobol")
    assert parser is not None
    assert parser("MOVE 1 TO X.") == []
    assert parser("MOVE") == [Fault(0, 4, 1, "expected a full stop")]
    assert parseable("", ".", "cobol")
    assert shown("Move.", "cobol", None).prompt == "cobol: Move."


def test_an_installed_parser_fails_in_its_own_name(cobol: None) -> None:
    parser = parser_of("cobol")
    assert parser is not None
    with pytest.raises(PluginFailed, match=r"^the parser 'cobol' failed: ValueError: what is this$"):
        parser("!")
    with pytest.raises(ConfigError, match=r"^the parser 'lost' \(perfuse_cobol:lost\) cannot be loaded: "):
        parser_of("lost")

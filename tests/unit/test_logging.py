from __future__ import annotations

import io
import json
import logging as stdlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from perfuse import logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_level_time_fields_and_request_id() -> None:
    console = io.StringIO()
    logging.configure("t", as_json=True, console=console)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.get("perfuse.x").info("request_finished", status=200, path=Path("a"))
    line = json.loads(console.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request_finished",
        "status": 200,
        "path": "PosixPath('a')",
        "request_id": "r1",
        "level": "info",
        "logger": "perfuse.x",
    }


def test_the_console_is_plain_where_nobody_watches() -> None:
    console = io.StringIO()
    logging.configure("t", console=console)
    logging.get("perfuse.x").warning("engine_lost", engine=0)
    assert "\x1b" not in console.getvalue()
    assert "engine_lost" in console.getvalue()
    assert "engine=0" in console.getvalue()


def test_standard_loggers_go_the_same_way_and_into_the_file(tmp_path: Path) -> None:
    logging.configure("front", console=io.StringIO(), log_dir=tmp_path / "logs")
    stdlib.getLogger("other").info("it_happened", extra={"count": 3})
    line = json.loads((tmp_path / "logs" / "front.jsonl").read_text())
    assert (line["event"], line["count"], line["logger"]) == ("it_happened", 3, "other")


def test_the_level_is_respected() -> None:
    console = io.StringIO()
    logging.configure("t", level="error", console=console)
    logging.get("perfuse.x").warning("nothing")
    assert console.getvalue() == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_tracebacks_show_no_values(as_json: bool) -> None:
    console = io.StringIO()
    logging.configure("t", console=console, as_json=as_json)

    def fails(prompt: str) -> None:
        raise ValueError(len(prompt))

    try:
        fails("a secret " + "prompt")
    except ValueError as error:
        logging.get("perfuse.x").error("request_failed", exc_info=error)
    assert "in fails" in console.getvalue()
    assert "a secret prompt" not in console.getvalue()

"""Structured logs: event names in snake_case, values as fields, `request_id` from the context. Never a prompt.

The console gets colours on a terminal, plain text otherwise, JSON on request; `logs/<part>.jsonl` in the data directory
rotates. Loggers of the standard library go the same way.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Literal, TextIO

import msgspec
import structlog

Level = Literal["debug", "info", "warning", "error"]

ROTATE_BYTES = 10_000_000
ROTATE_FILES = 5

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(
    part: str,
    *,
    level: Level = "info",
    as_json: bool = False,
    log_dir: Path | None = None,
    console: TextIO | None = None,
) -> None:
    """Set up logging of this process.

    Args:
        part: what this process is ("front", "supervisor"); names the file.
        level: least severe event logged.
        as_json: JSON lines on the console.
        log_dir: where the rotating file goes; None: no file.
        console: stderr if None.
    """
    stream = sys.stderr if console is None else console
    handlers: list[logging.Handler] = [_handler(logging.StreamHandler(stream), json=as_json, colours=stream.isatty())]
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            log_dir / f"{part}.jsonl", maxBytes=ROTATE_BYTES, backupCount=ROTATE_FILES, encoding="utf-8", delay=True
        )
        handlers.append(_handler(file, json=True, colours=False))
    root = logging.getLogger()
    for old in root.handlers:
        old.close()
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `get(__name__).info("request_finished", status=200)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _handler(handler: logging.Handler, *, json: bool, colours: bool) -> logging.Handler:
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
        if json
        else [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    return handler


def _dumps(event: object, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()

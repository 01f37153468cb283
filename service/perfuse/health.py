"""Asking a server whether it lives or is ready. Standard library only: containers ask every few seconds.

`python -m perfuse.health [--ready] [URL]` costs a twentieth of the CPU time of `perfuse health`, which does the same.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from urllib.parse import urlsplit

from perfuse.errors import InvalidRequest, Unavailable

_OK = 200


def default_url() -> str:
    """Where the server of this machine or container answers: `PERFUSE_URL`, else loopback at `PERFUSE_PORT` or 8000."""
    return os.environ.get("PERFUSE_URL") or f"http://127.0.0.1:{os.environ.get('PERFUSE_PORT', '8000')}"


def status(url: str, *, ready: bool, seconds: float) -> str:
    """What the server says of itself: "alive" or "ready".

    Args:
        url: of the server.
        ready: ask /readyz (requests can be served) instead of /livez (the front answers).
        seconds: how long to wait for an answer.

    Raises:
        InvalidRequest: not the URL of a server.
        Unavailable: no answer in time, or another one than 200.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise InvalidRequest(f"expected a URL like http://127.0.0.1:8000, got {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/{'readyz' if ready else 'livez'}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"no answer from {url}: {error}", hint="is the server running? see `perfuse serve`") from None
    finally:
        connection.close()
    if answer.status != _OK:
        raise Unavailable(f"{url} answers {answer.status}: {body.get('detail')}", hint=body.get("hint"))
    return str(body.get("status"))


def main() -> None:
    """Entry point of `python -m perfuse.health`: exits with 0 if the server is well, else with 1 and a sentence."""
    parser = argparse.ArgumentParser(prog="perfuse health", description="Ask a server whether it is alive.")
    parser.add_argument("url", nargs="?", default=default_url())
    parser.add_argument("--ready", action="store_true", help="ask whether it can serve requests")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to wait for an answer")
    arguments = parser.parse_args()
    try:
        said = status(arguments.url, ready=arguments.ready, seconds=arguments.seconds)
    except (InvalidRequest, Unavailable) as error:
        sys.exit(f"error: {error.detail}")
    sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main()

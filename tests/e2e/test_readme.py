"""README's `curl` lines work as printed on a server started as README says."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from documents import REPOSITORY, curl_lines
from perfuse.evaluation.load import Server, serving

README = REPOSITORY / "README.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("readme") / "data") as started:
        asyncio.run(started.ready())
        yield started


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", curl_lines(README), ids=range(len(curl_lines(README))))
def test_a_curl_line_answers(server: Server, line: str) -> None:
    command = line.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if '"stream": true' in line:
        events = [block.partition("\n")[0] for block in done.stdout.strip().split("\n\n")]
        assert events[0] == "event: accepted"
        assert events[-1] == "event: result"
        assert "event: preview" in events
        return
    answer = json.loads(done.stdout)
    assert answer["id"].startswith("gen_")
    if "/plan" in line:
        assert answer["status"] == "verified"
    else:
        prefix, suffix = (
            ("", "")
            if "prefix" not in line
            else ("def sorted_doubled(numbers):\n    return sorted(", " for number in numbers)\n")
        )
        for output in answer["outputs"]:
            assert output["text"] == prefix + output["fill"] + suffix

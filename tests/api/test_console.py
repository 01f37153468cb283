"""The console's files: what is sent with them, that they are small, and that they can be left out."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from api.conftest import Serve
from perfuse.api import console
from perfuse.planning.mazes import MAZES

FOLDER = Path(console.__path__[0])
ASSETS = sorted(file.name for file in FOLDER.iterdir() if file.suffix in {".html", ".css", ".js"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.text == (FOLDER / "index.html").read_text(encoding="utf-8")


async def test_all_that_the_page_refers_to_is_there(client: httpx2.AsyncClient) -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = {*re.findall(r'(?:href|src)="(console/[^"]+)"', page)}
    named |= {
        f"console/{name}" for file in FOLDER.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', file.read_text())
    }
    assert {f"console/{name}" for name in ASSETS} == named | {"console/index.html"}
    for path in sorted(named):
        answer = await client.get(f"/{path}")
        assert answer.status_code == 200
        assert (
            answer.headers["content-type"] == f"text/{'css' if path.endswith('.css') else 'javascript'}; charset=utf-8"
        )


async def test_a_copy_that_still_holds_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    tag = (await client.get("/")).headers["etag"]
    again = await client.get("/", headers={"if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await client.get("/", headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..%2fapp.py"])
async def test_nothing_but_the_files_is_served(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/console/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


async def test_without_the_console_there_is_nothing_at_the_root(serve: Serve) -> None:
    async with serve(console=False) as client:
        for path in ("/", "/console/console.js"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert answer.json()["detail"] == f"there is nothing at {path}"


def test_it_is_one_small_page_that_builds_no_markup_and_asks_nobody_else() -> None:
    sources = {name: (FOLDER / name).read_text(encoding="utf-8") for name in ASSETS}
    assert sum(len(source.splitlines()) for source in sources.values()) < 800
    assert sum(len(source.encode()) for source in sources.values()) < 200_000
    for name, source in sources.items():
        assert (
            re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", source) == []
        ), name
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", source) == [], name
        assert re.findall(r' style="| on\w+="', source) == [], name


def test_its_mazes_are_those_of_the_planner() -> None:
    source = (FOLDER / "plan.js").read_text(encoding="utf-8").replace('"\n    + "', "")
    drawn = {name: tuple(rows.split()) for name, rows in re.findall(r'"(maze2d-\w+)": "([^"]+)"', source)}
    assert drawn == {name: maze.rows for name, maze in MAZES.items()}

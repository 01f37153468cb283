"""Official clients and agent frameworks talk to a real server as they are."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import openai
import pytest
from mcp.client.client import Client

import shipped
from documents import REPOSITORY, SERVED, blocks
from perfuse.evaluation.load import Server, serving
from processes import wait_for

TASK = "Given numbers, keep those that are even, double each one and return them sorted."
CODE = "def sorted_even_doubled(numbers):\n    return sorted(number * 2 for number in numbers if number % 2 == 0)\n"
MESSAGES = [{"role": "user", "content": TASK}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("agents") / "data", "--evolution", "off") as started:
        asyncio.run(started.ready())
        yield started


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [shipped.CODE]
    assert client.models.retrieve("code-small").id == shipped.CODE


def test_openais_client_completes_between_prompt_and_suffix(client: openai.OpenAI) -> None:
    asked = {
        "model": "code-small",
        "prompt": "def sorted_doubled(numbers):\n    return sorted(",
        "suffix": " for number in numbers)\n",
        "max_tokens": 12,
        "seed": 0,
    }
    whole = client.completions.create(**asked)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("number * 2", "stop")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(["number", " *", " ", "2"])
    assert whole.usage.prompt_tokens > whole.usage.completion_tokens
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "number * 2"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_openais_client_chats_and_feedback_takes_the_id(client: openai.OpenAI, url: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model="code-small", messages=MESSAGES, seed=7)
    answer = raw.parse()
    assert raw.request_id
    assert answer.choices[0].message.content == CODE
    assert answer.choices[0].finish_reason == "stop"
    said = {"generation_id": answer.id, "source": "agent-7", "accepted": True}
    assert httpx2.post(f"{url}/feedback", json=said).status_code == 202


def test_openais_client_streams_what_it_would_get_whole(client: openai.OpenAI) -> None:
    asked = {"model": "code-small", "messages": MESSAGES, "seed": 3, "temperature": 1.0, "n": 2}
    whole = client.chat.completions.create(**asked)
    texts, ends, usage = ["", ""], {}, None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.index not in ends
            texts[choice.index] += choice.delta.content or ""
            ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert usage == whole.usage
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert texts == [choice.message.content for choice in whole.choices]


def test_openais_client_is_told_that_the_length_was_reached(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="code-small", messages=MESSAGES, max_completion_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert CODE.startswith(answer.choices[0].message.content or "?")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_openais_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model="code-small", messages=MESSAGES, top_p=0.5)
    assert unsupported.value.message == "Error code: 400 - top_p is supported only as 1 (leave it out)"
    assert (unsupported.value.param, unsupported.value.code) == ("top_p", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="code-small", prompt="x = 1\n" * 400)
    assert (long.value.param, long.value.code) == ("prompt", "context_length_exceeded")


def test_a_stream_that_is_left_frees_the_engine(client: openai.OpenAI, url: str) -> None:
    def gone() -> float:
        found = re.search(
            r'^perfuse_client_gone_total{kind="diffuse"} (\S+)', httpx2.get(f"{url}/metrics").text, re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    before = gone()
    with client.completions.create(model="code-small", prompt="", n=16, temperature=2, stream=True) as stream:
        next(iter(stream))
    wait_for(lambda: gone() == before + 1, 60)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_mcps_client_writes_plans_and_sends_feedback(url: str, mode: str) -> None:
    steps: list[float] = []

    async def progress(done: float, of: float | None, message: str | None) -> None:
        steps.append(done)

    async with Client(f"{url}/mcp", mode=mode) as agent:
        assert [tool.name for tool in (await agent.list_tools()).tools] == [
            "fill",
            "generate",
            "refine",
            "plan",
            "feedback",
        ]
        written = await agent.call_tool("generate", {"prompt": TASK, "seed": 7}, progress_callback=progress)
        assert written.structured_content["outputs"][0]["text"] == CODE
        goal = {"position": [1, 1], "tolerance": 0.5}
        asked = {"environment": "maze2d-umaze", "state": [3, 1, 0, 0], "goal": goal}
        assert (await agent.call_tool("plan", asked)).structured_content["status"] == "verified"
        said = {"generation_id": written.structured_content["id"], "source": "agent-7", "accepted": True}
        told = await agent.call_tool("feedback", said)
        assert told.structured_content["feedback_id"].startswith("fb_")
    assert steps == sorted(set(steps))
    assert steps


@pytest.mark.parametrize("name", ["openai", "mcp"])
def test_the_printed_scripts_run(server: Server, name: str) -> None:
    (script,) = blocks(REPOSITORY / "docs" / "how-to" / f"{name}.md", "python")
    here = script.replace(SERVED, f"127.0.0.1:{server.port}")
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert CODE.strip() in done.stdout
    assert name == "mcp" or "number * 2\n" in done.stdout


@pytest.mark.parametrize("name", ["langgraph_agent", "pydantic_ai_agent", "openai_agents_agent"])
def test_an_example_agent_solves_its_task_and_sends_feedback(url: str, name: str) -> None:
    script = REPOSITORY / "examples" / "agents" / f"{name}.py"
    done = subprocess.run([sys.executable, str(script), url], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^works: True, feedback: fb_\S+$", done.stdout, re.MULTILINE), done.stdout

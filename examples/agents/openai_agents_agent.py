"""An agent of OpenAI's Agents SDK: writes a function by the OpenAI face, tries it, and sends feedback by MCP.

pip install openai-agents
python examples/agents/openai_agents_agent.py http://127.0.0.1:8000
"""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI
from task import TASK, feedback, works

URL = sys.argv[1]
set_tracing_disabled(disabled=True)
CLIENT = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none")
CODER = Agent(name="coder", model=OpenAIChatCompletionsModel("code-small", CLIENT))


async def main() -> None:
    """Ask, then say what came of it."""
    result = await Runner.run(CODER, TASK)
    code = result.final_output
    generation = result.raw_responses[-1].output[0].provider_data["response_id"]
    async with MCPServerStreamableHttp({"url": f"{URL}/mcp"}, client_session_timeout_seconds=30) as server:
        told = await server.call_tool("feedback", feedback(generation, code))
    sys.stdout.write(f"{code}\nworks: {works(code)}, feedback: {told.structured_content['feedback_id']}\n")


asyncio.run(main())

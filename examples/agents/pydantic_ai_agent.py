"""A PydanticAI agent: writes a function by the OpenAI face until it passes, and sends feedback by MCP.

pip install 'pydantic-ai-slim[openai]' mcp
python examples/agents/pydantic_ai_agent.py http://127.0.0.1:8000
"""

import asyncio
import sys

from mcp.client.client import Client
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from task import TASK, feedback, works

URL = sys.argv[1]
agent = Agent(OpenAIChatModel("code-small", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="none")))


@agent.output_validator
def passes(code: str) -> str:
    """What does not pass is to be written again."""
    if not works(code):
        raise ModelRetry("It does not pass the tests.")
    return code


async def main() -> None:
    """Ask, then say what came of it."""
    result = await agent.run(TASK)
    async with Client(f"{URL}/mcp") as server:
        told = await server.call_tool("feedback", feedback(result.response.provider_response_id, result.output))
    sys.stdout.write(f"{result.output}\nworks: True, feedback: {told.structured_content['feedback_id']}\n")


asyncio.run(main())

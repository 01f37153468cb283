"""Ask a running perfuse server for several functions at once, watch the first one fill in, and judge them.

python examples/client.py http://127.0.0.1:8000        (needs perfuse-client: pip install ./clients/python)
"""

from __future__ import annotations

import asyncio
import sys

from perfuse_client import AsyncClient, PerfuseError, Preview

TASKS = (
    "Given numbers, keep those that are even, double each one and return them sorted.",
    "Given numbers, keep those that are odd, double each one and return the sum.",
    "Given numbers, keep those that are even, negate each one and return them sorted.",
)


def compiles(text: str) -> bool:
    """Whether the text is Python."""
    try:
        compile(text, "answer", "exec")
    except SyntaxError:
        return False
    return True


async def watch(client: AsyncClient, task: str) -> None:
    """Show how a canvas fills."""
    async for event in client.diffuse_stream(prompt=task):
        if isinstance(event, Preview):
            sys.stdout.write(f"-- {event.step} of {event.of}\n{event.canvas}\n")


async def main(url: str | None = None) -> None:
    """Watch one, ask for all, judge all."""
    async with AsyncClient(url) as client:
        await watch(client, TASKS[0])
        answers = await asyncio.gather(*(client.diffuse(prompt=task) for task in TASKS))
        for answer in answers:
            text = answer.outputs[0].text
            await client.feedback(generation_id=answer.id, source="example", accepted=compiles(text))
            sys.stdout.write(f"{text}\nconfidence {answer.confidence:.2f}\n")


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:2]))
    except PerfuseError as error:
        sys.exit(str(error))

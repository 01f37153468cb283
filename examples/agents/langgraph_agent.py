"""A LangGraph agent: writes a function by the OpenAI face, tries it, writes again if it fails, and sends feedback.

pip install langchain-openai langgraph httpx2
python examples/agents/langgraph_agent.py http://127.0.0.1:8000
"""

import sys
from typing import TypedDict

import httpx2
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from task import TASK, feedback, works

URL = sys.argv[1]
MODEL = ChatOpenAI(base_url=f"{URL}/v1", api_key="none", model="code-small")


class State(TypedDict, total=False):
    """What the graph knows."""

    tries: int
    code: str
    generation: str
    feedback: str


def write(state: State) -> State:
    """Ask; from the second time on with some chance, and another seed."""
    tries = state.get("tries", 0)
    answer = MODEL.invoke(TASK, seed=tries, temperature=0.5 * bool(tries))
    return {"tries": tries + 1, "code": answer.content, "generation": answer.response_metadata["id"]}


def tell(state: State) -> State:
    """Say what came of the last answer."""
    told = httpx2.post(f"{URL}/feedback", json=feedback(state["generation"], state["code"])).raise_for_status()
    return {"feedback": told.json()["feedback_id"]}


graph = StateGraph(State).add_node("write", write).add_node("tell", tell).add_edge(START, "write").add_edge("tell", END)
graph.add_conditional_edges("write", lambda state: "tell" if works(state["code"]) or state["tries"] == 4 else "write")
done = graph.compile().invoke({})
sys.stdout.write(f"{done['code']}\nworks: {works(done['code'])}, feedback: {done['feedback']}\n")

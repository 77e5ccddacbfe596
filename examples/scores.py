"""Scores of answers, written to the log of the run: at once by the program, or later by another process."""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import Sidecar, log

agent = Agent(TestModel(custom_output_text="It left on Monday."), name="support")
sidecar = Sidecar("jsonl:runs/")


async def answer(question: str) -> tuple[str, str]:
    """Answer and run id; the client sends the id back together with the user's thumb."""
    result = await agent.run(question)
    return result.output, result.run_id


def thumb(run_id: str, up: bool, why: str = "") -> None:
    sidecar.score(run_id, "helpful", up, comment=why or None)


with sidecar:
    sidecar.observe(agent)
    _, first = asyncio.run(answer("Where is order 4711?"))
    _, second = asyncio.run(answer("And where is 4712?"))
    thumb(first, True)
    thumb(second, False, "that was not my question")

for run in log.runs("runs/", log.Filter.parse(scores=["helpful=false"])):
    comments = [event.data.comment for event in log.load_run("runs/", run.run_id).scores]
    print(f"{run.score_values}: {comments}")

# Later, in a shell:  sidestream note RUN --score reviewed --label pass

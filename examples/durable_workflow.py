"""Durable workflow with DBOS: the process is killed within a tool, another process resumes, and the log has one run.

DBOS derives the run id from the workflow, and replays recorded answers on resumption. Both processes therefore write
the same first lines of the same run, and readers of the log count each line once. Metrics of a process include the
replayed answers: if workflows are resumed often, let `sidestream collect` count from the log.
"""

import asyncio
import os
import subprocess
import sys
import time

from dbos import DBOS, SetWorkflowID
from pydantic_ai import Agent
from pydantic_ai.durable_exec.dbos import DBOSDurability

from sidestream import Sidecar, log

sidecar = Sidecar("jsonl:runs/")
agent = sidecar.observe(Agent(os.environ.get("MODEL", "test"), name="support", capabilities=[DBOSDurability()]))


@agent.tool_plain
def look_up_order(order: str) -> str:
    if "--killed-in-tool" in sys.argv:
        time.sleep(0.5)  # the background thread writes the log within a tenth of a second
        os._exit(1)
    return f"{order} is on its way"


@DBOS.workflow()
async def support(question: str) -> str:
    return (await agent.run(question)).output


async def main() -> None:
    DBOS(config={"name": "support", "system_database_url": "sqlite:///workflows.sqlite", "log_level": "ERROR"})
    DBOS.launch()
    with SetWorkflowID("order-A-1"):
        workflow = await DBOS.start_workflow_async(support, "Where is my order?")
    print(await workflow.get_result())
    DBOS.destroy()


if __name__ == "__main__":
    if "--killed-in-tool" not in sys.argv:
        subprocess.run([sys.executable, __file__, "--killed-in-tool"], check=False)
    asyncio.run(main())
    sidecar.flush()
    for run in log.runs("runs/"):
        print(f"{run.run_id}: {run.outcome}, {run.requests} requests, {run.tool_calls} tool call")

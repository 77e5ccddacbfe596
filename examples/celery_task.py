"""Agent in a Celery task. Start `celery -A celery_task worker`, then send a question with `python celery_task.py`.

The sidecar is created at import. After the fork it starts anew in each child process of the worker, and delivers all
pending events when the worker shuts down.
"""

import os

from celery import Celery
from pydantic_ai import Agent

from sidestream import Sidecar

app = Celery(
    "celery_task", broker=os.environ.get("BROKER", "filesystem://"), backend=os.environ.get("BACKEND", "file://results")
)
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}

sidecar = Sidecar("jsonl:runs/")
agent = sidecar.observe(Agent(os.environ.get("MODEL", "test"), name="worker"))


@app.task
def ask(question: str) -> str:
    with sidecar.tags(queue="questions"):
        return agent.run_sync(question).output


if __name__ == "__main__":
    print(ask.delay("What is a queue?").get(timeout=60))

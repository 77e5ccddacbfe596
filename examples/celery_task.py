"""An agent in a Celery task. `celery -A celery_task worker`, then `python celery_task.py` sends a question.

The sidecar is made where the module is imported; the worker's child processes, which run the tasks, get their own start
of it, and deliver what they have when the worker ends.
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

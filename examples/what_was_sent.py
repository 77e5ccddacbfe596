"""Messages sent to the model, read from the log: the full list of a request, although each message is logged once."""

from pydantic_ai import Agent

from sidestream import Sidecar, log

agent = Agent("test", name="support", instructions="Answer in one sentence.")

with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    first = agent.run_sync("Where is my parcel?")
    agent.run_sync("And the other one?", message_history=first.all_messages())

last = log.load_run("runs/", log.runs("runs/")[-1].run_id)
for message in log.sent_messages(last, request=1, paths="runs/"):
    for part in message["parts"]:
        print(f"{message['kind']:8} {part['part_kind']:12} {part['content']}")

[(instructions, sent)] = [(step.input, step.sent) for step in last.steps if step.sent]
print("instructions:", instructions)
print("written in this run:", len(sent.new), "of", sent.messages, "messages")

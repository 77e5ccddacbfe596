"""Reading of logs that the JSONL exporter wrote: events, runs, statistics, search, comparison.

    from sidestream import log

    for run in log.runs("runs/"):
        print(run.started, run.agent_name, run.outcome, run.cost_usd)

    for event in log.events("runs/", types={"error"}):
        print(event.run_id, event.data.exception_type)

    tree = log.load_run("runs/", "01a1feb1")        # one run with its sub-agents: steps, deltas, conversation
    print(log.statistics("runs/", log.Filter.parse(since="24h")).by_agent)

Every `paths` argument accepts a folder, a file (`.jsonl`, `.jsonl.gz`), a glob, or a list of these.
"""

from __future__ import annotations

from .files import Paths, log_files
from .index.parts import ScoreFacts
from .reader import Problem, read
from .runs.cases import cases
from .runs.conversations import Conversation, conversations
from .runs.diff import Change, RunDiff, StepDiff, diff
from .runs.errors import ErrorGroup, errors
from .runs.filters import Filter, Order, parse_duration, parse_time
from .runs.iteration import events, runs
from .runs.lists import RunList
from .runs.loading import load_run
from .runs.previews import Preview, previews
from .runs.quantiles import Quantiles
from .runs.score_tests import ScoreTest
from .runs.search import Hit, search
from .runs.sent import SentMessage
from .runs.sent_messages import sent_messages
from .runs.stats import statistics
from .runs.summary import RunSummary
from .runs.totals import Group, ScoreSums, Statistics
from .runs.tree import Delta, Located, Message, Part, RunLog, Sent, Step

__all__ = [
    "Change",
    "Conversation",
    "Delta",
    "ErrorGroup",
    "Filter",
    "Group",
    "Hit",
    "Located",
    "Message",
    "Order",
    "Part",
    "Paths",
    "Preview",
    "Problem",
    "Quantiles",
    "RunDiff",
    "RunList",
    "RunLog",
    "RunSummary",
    "ScoreFacts",
    "ScoreSums",
    "ScoreTest",
    "Sent",
    "SentMessage",
    "Statistics",
    "Step",
    "StepDiff",
    "cases",
    "conversations",
    "diff",
    "errors",
    "events",
    "load_run",
    "log_files",
    "parse_duration",
    "parse_time",
    "previews",
    "read",
    "runs",
    "search",
    "sent_messages",
    "statistics",
]

"""Scenes of the demo: a support agent, called in the ways applications call agents, with every outcome of a run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TextIO, TypeAlias

import pydantic_ai
from pydantic_ai import Agent, PartDeltaEvent, TextPartDelta
from pydantic_ai.models import Model, infer_model

from sidestream import InMemoryExporter, Sidecar
from sidestream.errors import ConfigurationError
from sidestream_exporters import ConsoleExporter, JSONLExporter

from .agent import Shop, support_agents
from .script import answer
from .summary import Summary, find_log, runs_of

Support: TypeAlias = Agent[Shop, str]

MODEL_NAME = "gpt-5-mini"
"""Model requested from the local server, with a known price so that costs are shown."""
FAST = 100.0
"""Speed factor of `--fast`."""
LISTEN_TO = 8
"""Text deltas after which the caller cancels or leaves the stream."""
PAUSE = 0.7
"""Seconds to read a scene's announcement."""
FLUSH_SECONDS = 1.0
"""Longest wait for the exporters after a scene, so that console lines of two scenes do not mix."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


# --- the scenes ----------------------------------------------------------------------------------------------------


async def completes(support: Support) -> None:
    question = "Where is my order 4711, and can I send it back if the bag does not fit?"
    async with support.run_stream_events(question, deps=Shop()) as events:
        async for _ in events:
            pass


async def retries(support: Support) -> None:
    async with support.run_stream("What became of my order PP-4712?", deps=Shop()) as result:
        async for _ in result.stream_text(delta=True):
            pass


async def two_at_once(support: Support) -> None:
    async def step_by_step() -> None:
        async with support.iter("How much is shipping to Vienna?", deps=Shop()) as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as stream:
                        async for _ in stream:
                            pass

    await asyncio.gather(step_by_step(), support.run("Are you open on Saturdays?", deps=Shop()))


async def fails(support: Support) -> None:
    async with support.run_stream("My chain skips when I climb. What now?", deps=Shop()) as result:
        async for _ in result.stream_text(delta=True):
            pass


async def is_cancelled(support: Support) -> None:
    async def listen() -> None:
        pieces = 0
        async with support.run_stream_events("Which winter tyres do you recommend?", deps=Shop()) as events:
            async for event in events:
                pieces += _is_text(event)
                if pieces == LISTEN_TO:
                    task.cancel()

    task = asyncio.create_task(listen())
    [ending] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(ending, Exception):  # CancelledError, which is expected, is no Exception
        raise ending


async def is_abandoned(support: Support) -> None:
    pieces = 0
    async with support.run_stream_events("Tell me the story of the shop.", deps=Shop()) as events:
        async for event in events:
            pieces += _is_text(event)
            if pieces == LISTEN_TO:
                break


def _is_text(event: object) -> bool:
    return isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta)


@dataclass(frozen=True)
class Scene:
    """One scene of the demo: a call of the agent with a certain outcome."""

    title: str
    play: Callable[[Support], Awaitable[None]]
    scripted: bool = False
    """Whether the scene needs the local server, which fails on request; a real model skips the scene."""


SCENES = (
    Scene("A run completes, with two tools in parallel and a sub-agent (run_stream_events)", completes),
    Scene("A run retries: a tool sends the model back, then works (run_stream)", retries),
    Scene("Two runs at once: one streamed step by step, one not streamed (iter and run)", two_at_once),
    Scene("A run fails: the provider breaks off in the middle of the answer (run_stream)", fails, scripted=True),
    Scene("A run is cancelled in the middle of the answer (task.cancel)", is_cancelled),
    Scene("A run is abandoned: the program stops listening half-way (break)", is_abandoned),
)


# --- the performance -----------------------------------------------------------------------------------------------


def run_demo(
    *,
    out: str = "runs/",
    verbose: bool = False,
    fast: bool = False,
    as_json: bool = False,
    model: str | None = None,
    exporters: Sequence[str] = (),
    loop: bool = False,
) -> int:
    """Run every scene, with the console exporter on stderr and the summary on stdout; returns the exit code.

    Args:
        out: Path of the log: a folder, or a file ending in `.jsonl`.
        verbose: Whether the console shows prompts, arguments, results and the streaming text too.
        fast: Whether to skip the delays of a human pace.
        as_json: Whether the summary is one JSON object.
        model: Name of a real model for pydantic-ai, in place of the local server.
        exporters: Further exporters, as `make_exporter` takes them.
        loop: Whether to repeat the scenes until Ctrl-C; the summary covers the last round.

    Raises:
        ConfigurationError: A package or an API key is missing, or a setting is invalid.
    """
    pydantic_ai.BANNER_ENABLED = False  # keeps stderr free for the console exporter
    if model is None:
        _require_server()
    real_model = None if model is None else _real_model(model)
    scenes = [scene for scene in SCENES if real_model is None or not scene.scripted]
    memory = InMemoryExporter()
    sidecar = Sidecar(ConsoleExporter(verbose=verbose), JSONLExporter(out), *exporters, memory)
    code = 0
    with sidecar:
        try:
            while True:
                code = asyncio.run(_perform(sidecar, scenes, real_model, FAST if fast else 1.0))
                if not loop:
                    break
                memory.clear()
        except KeyboardInterrupt:
            code = INTERRUPTED
    stats = sidecar.stats()
    *shown, _ = stats.exporters.items()  # the last one is the in-memory exporter of the summary
    summary = Summary(
        runs=runs_of(memory.events),
        exporters=dict(shown),
        log=find_log(out),
        recording_errors=stats.recording_errors,
        skipped=[scene.title for scene in SCENES if scene not in scenes],
        interrupted=code == INTERRUPTED,
    )
    _write("", sys.stderr)
    _write(summary.as_json() if as_json else summary.as_text(verbose=verbose), sys.stdout)
    return code


async def _perform(sidecar: Sidecar, scenes: Sequence[Scene], real_model: Model | None, speed: float) -> int:
    failed = False
    async with _model(real_model, speed) as model:
        support, billing = support_agents(model)
        sidecar.observe(support)
        sidecar.observe(billing)
        for number, scene in enumerate(scenes, 1):
            _announce(f"{number}/{len(scenes)}  {scene.title}")
            await asyncio.sleep(PAUSE / speed)
            problem = None
            try:
                await scene.play(support)
            except Exception as error:
                problem = type(error).__qualname__
                failed = failed or not scene.scripted
            await asyncio.to_thread(sidecar.flush, FLUSH_SECONDS)
            if problem:
                _write(f"The caller got {problem}, as it would have without the sidecar.", sys.stderr)
    return 1 if failed else 0


@asynccontextmanager
async def _model(real_model: Model | None, speed: float) -> AsyncIterator[Model]:
    if real_model is not None:
        yield real_model
        return
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from .server import ModelServer

    # `trust_env=False`: a proxy of the environment cannot reach this machine's loopback address.
    async with ModelServer(answer, speed=speed) as server, DefaultAsyncHttpxClient(trust_env=False) as http:
        client = AsyncOpenAI(base_url=server.base_url, api_key="demo", max_retries=0, http_client=http)
        yield OpenAIChatModel(MODEL_NAME, provider=OpenAIProvider(openai_client=client))


def _require_server() -> None:
    """Raises `ConfigurationError` if a package of the local server or its client is missing."""
    try:
        import openai  # noqa: F401

        from . import server  # noqa: F401
    except ImportError as error:
        name = error.name or "a package"
        raise ConfigurationError(f"the demo needs {name}: pip install 'sidestream[demo]'") from None


def _real_model(name: str) -> Model:
    try:
        return infer_model(name)
    except Exception as error:  # providers raise different types for a missing package or key, or an unknown name
        raise ConfigurationError(f"model {name!r} cannot be used: {error}") from error


def _announce(text: str) -> None:
    """Print a scene's title to stderr, the console exporter's stream."""
    bold = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    _write(f"\n\x1b[1m{text}\x1b[0m" if bold else f"\n{text}", sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)

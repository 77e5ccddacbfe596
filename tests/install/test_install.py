"""`install()` and `uninstall()`: observation of every agent of the process, and its removal."""

from __future__ import annotations

import gc
import inspect
import logging
import subprocess
import sys
import textwrap
import threading
import traceback
import typing
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.test import TestModel

import sidestream
from sidestream import ConfigurationError, InMemoryExporter, Sidecar
from sidestream.diagnostics import forget

BARE_INIT = Agent.__init__


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    forget()
    yield
    sidestream.uninstall()
    assert Agent.__init__ is BARE_INIT


@pytest.fixture
def memory() -> InMemoryExporter:
    return InMemoryExporter()


def make_agent(name: str = "made", **options: Any) -> Agent:
    return Agent(TestModel(), name=name, **options)


def names_of_runs(sidecar: Sidecar, memory: InMemoryExporter) -> list[str | None]:
    assert sidecar.flush() == {}
    return [event.agent_name for event in memory.of("agent_end")]


def is_observed(agent: Any, sidecar: Sidecar) -> bool:
    return any(capability is sidecar.capability for capability in agent.root_capability.capabilities)


class TestWhoIsObserved:
    def test_new(self, memory: InMemoryExporter) -> None:
        """An agent made after the call."""
        sidecar = sidestream.install(memory)
        make_agent("new").run_sync("?")
        assert names_of_runs(sidecar, memory) == ["new"]

    def test_existing(self, memory: InMemoryExporter) -> None:
        """An agent made before the call."""
        agent = make_agent("old")
        sidecar = sidestream.install(memory)
        agent.run_sync("?")
        assert names_of_runs(sidecar, memory) == ["old"]

    def test_subclass(self, memory: InMemoryExporter) -> None:
        """An agent of a user's subclass with a longer constructor, made before and after."""

        class Special(Agent[None, str]):
            def __init__(self, name: str) -> None:
                super().__init__(TestModel(), name=name)
                self.special = True

        old = Special("old")
        sidecar = sidestream.install(memory)
        for agent in (old, Special("new")):
            agent.run_sync("?")
            assert agent.special
        assert names_of_runs(sidecar, memory) == ["old", "new"]

    def test_wrapper(self, memory: InMemoryExporter) -> None:
        """A run through a `WrapperAgent` is observed once."""
        sidecar = sidestream.install(memory)
        WrapperAgent(make_agent("wrapped")).run_sync("?")
        assert names_of_runs(sidecar, memory) == ["wrapped"]

    def test_already_observed(self, memory: InMemoryExporter) -> None:
        """An agent already observed by the same sidecar is observed once."""
        with Sidecar(memory) as sidecar:
            agent = make_agent("mine", capabilities=[sidecar.capability])
            sidestream.install(sidecar=sidecar)
            agent.run_sync("?")
            make_agent("mine too", capabilities=[sidecar.capability]).run_sync("?")
            assert names_of_runs(sidecar, memory) == ["mine", "mine too"]

    def test_in_the_making(self, memory: InMemoryExporter) -> None:
        """An agent under construction in another thread during `install`."""
        begun, go_on = threading.Event(), threading.Event()

        class Slow(AbstractCapability[Any]):
            def for_agent(self, agent: Any) -> AbstractCapability[Any]:
                begun.set()
                assert go_on.wait(30)
                return AbstractCapability()  # another capability, so that the agent's list is rebuilt

        made: list[Agent] = []
        thread = threading.Thread(target=lambda: made.append(make_agent(capabilities=[Slow()])))
        thread.start()
        assert begun.wait(30)
        threading.Timer(0.1, go_on.set).start()
        sidecar = sidestream.install(memory)
        thread.join()
        assert is_observed(made[0], sidecar)

    def test_proxies_sleep_on(self, memory: InMemoryExporter) -> None:
        """The search for agents resolves no lazy object that claims another class."""

        class Proxy:
            @property  # type: ignore[misc]
            def __class__(self) -> type:
                raise AssertionError("woken")

        proxy = Proxy()
        sidestream.install(memory)
        assert proxy is not None

    def test_the_dead_are_let_go(self, memory: InMemoryExporter) -> None:
        """Agents are held weakly."""
        sidestream.install(memory)
        agent = make_agent()
        agent.run_sync("?")
        ref = weakref.ref(agent)
        del agent
        gc.collect()
        assert ref() is None


class TestUninstall:
    def test_restores(self, memory: InMemoryExporter) -> None:
        """Restores `Agent.__init__`, each agent's capabilities and `sys.meta_path`, and closes its own sidecar."""
        old, path = make_agent(), list(sys.meta_path)
        before = list(old.root_capability.capabilities)
        sidecar = sidestream.install(memory)
        assert Agent.__init__ is not BARE_INIT
        new = make_agent()
        sidestream.uninstall()
        assert Agent.__init__ is BARE_INIT
        assert old.root_capability.capabilities == before
        assert not is_observed(new, sidecar)
        assert sys.meta_path == path
        assert not sidecar.active

    def test_keeps_what_is_the_users(self, memory: InMemoryExporter) -> None:
        """A given sidecar stays open, and keeps the agents observed by `observe()`."""
        with Sidecar(memory) as sidecar:
            mine, other = sidecar.observe(make_agent("mine")), make_agent("other")
            sidestream.install(sidecar=sidecar)
            sidestream.uninstall()
            mine.run_sync("?")
            other.run_sync("?")
            assert names_of_runs(sidecar, memory) == ["mine"]

    def test_without_install(self) -> None:
        """No-op without an installation."""
        sidestream.uninstall()

    def test_foreign_wrapper(self, memory: InMemoryExporter) -> None:
        """A wrapper of another library stays in place, and Sidestream's wrapper below only forwards."""
        sidecar = sidestream.install(sidecar=Sidecar(memory))  # stays open
        ours = Agent.__init__

        def foreign(self: Any, *args: Any, **kwargs: Any) -> None:
            ours(self, *args, **kwargs)

        Agent.__init__ = foreign  # type: ignore[method-assign]
        try:
            sidestream.uninstall()
            assert Agent.__init__ is foreign
            assert not is_observed(make_agent(), sidecar)
        finally:
            Agent.__init__ = BARE_INIT  # type: ignore[method-assign]
            sidecar.close()

    def test_again(self, memory: InMemoryExporter) -> None:
        """`install` works again afterwards, also if only the sidecar was closed."""
        sidestream.install("memory").close()
        agent = make_agent("again")
        sidecar = sidestream.install(memory)
        agent.run_sync("?")
        assert names_of_runs(sidecar, memory) == ["again"]


class TestTwice:
    def test_is_once(self, memory: InMemoryExporter) -> None:
        """The second call returns the first sidecar, and a run is logged once."""
        sidecar = sidestream.install(memory)
        assert sidestream.install() is sidecar
        assert sidestream.install(sidecar=sidecar) is sidecar
        make_agent("once").run_sync("?")
        assert names_of_runs(sidecar, memory) == ["once"]

    def test_other_settings(self, memory: InMemoryExporter, caplog: pytest.LogCaptureFixture) -> None:
        """Later settings are ignored with a warning."""
        sidecar = sidestream.install(memory)
        with caplog.at_level(logging.WARNING, logger="sidestream"):
            assert sidestream.install("memory", tags={"a": "b"}) is sidecar
        assert "already installed" in caplog.text


class TestMistakes:
    def test_both(self, memory: InMemoryExporter) -> None:
        """A sidecar together with settings for a sidecar."""
        with Sidecar(memory) as sidecar, pytest.raises(ConfigurationError, match="not both"):
            sidestream.install("memory", sidecar=sidecar)

    def test_closed(self, memory: InMemoryExporter) -> None:
        """A closed sidecar."""
        sidecar = Sidecar(memory)
        sidecar.close()
        with pytest.raises(ConfigurationError, match="closed"):
            sidestream.install(sidecar=sidecar)

    def test_unknown_exporter(self) -> None:
        """Invalid settings install nothing."""
        with pytest.raises(ConfigurationError, match="no exporter 'nope'"):
            sidestream.install("nope")
        assert Agent.__init__ is BARE_INIT


class TestTransparency:
    def test_signature(self, memory: InMemoryExporter) -> None:
        """Signature, names, documentation and hints of the constructor are unchanged."""

        def looks() -> list[Any]:
            init = Agent.__init__
            return [
                inspect.signature(Agent),
                inspect.signature(init),
                inspect.getfullargspec(init),
                inspect.getdoc(init),
                inspect.getsource(init),
                init.__name__,
                init.__qualname__,
                init.__module__,
                init.__annotations__,
                typing.get_overloads(init),
            ]

        bare = looks()
        sidestream.install(memory)
        assert looks() == bare

    def test_name_inference(self, memory: InMemoryExporter) -> None:
        """An agent without a name gets the name of the caller's variable."""
        sidecar = sidestream.install(memory)
        inferred = Agent(TestModel())
        inferred.run_sync("?")
        assert inferred.name == "inferred"
        assert names_of_runs(sidecar, memory) == ["inferred"]

    def test_traceback(self, memory: InMemoryExporter) -> None:
        """A failing constructor raises with the same traceback."""

        def fail() -> str:
            try:
                Agent(TestModel(), retries="many", capabilities=[3])  # type: ignore[call-overload]
            except Exception:
                return traceback.format_exc()
            raise AssertionError("it was made")

        bare = fail()
        sidestream.install(memory)
        assert fail() == bare

    def test_failure_of_ours(self, memory: InMemoryExporter, caplog: pytest.LogCaptureFixture) -> None:
        """An agent that cannot be observed is made and runs, with one log message."""

        class Closed(Agent[None, str]):
            hidden = True

            @property
            def root_capability(self) -> Any:
                if self.hidden:
                    raise RuntimeError("none of your business")
                return super().root_capability

        sidestream.install(memory)
        with caplog.at_level(logging.ERROR, logger="sidestream"):
            agents = [Closed(TestModel()), Closed(TestModel())]
        assert caplog.text.count("cannot observe") == 1
        for agent in agents:
            agent.hidden = False
            assert agent.run_sync("?").output


class TestThreads:
    def test_all_at_once(self, memory: InMemoryExporter) -> None:
        """Threads make and run agents during installs and uninstalls: finally, all are observed or none is."""
        agents: list[Agent] = []
        failures: list[BaseException] = []
        stop = threading.Event()

        def work(number: int) -> None:
            try:
                while not stop.is_set():
                    agents.append(agent := make_agent(f"agent-{number}"))
                    agent.run_sync("?")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        with Sidecar(memory) as sidecar:
            for _ in range(5):
                sidestream.install(sidecar=sidecar)
                sidestream.uninstall()
            assert Agent.__init__ is BARE_INIT
            sidestream.install(sidecar=sidecar)
            while len(agents) < 30 and not failures:
                stop.wait(0.01)
            stop.set()
            for thread in threads:
                thread.join()
            assert failures == []
            assert [agent for agent in agents if not is_observed(agent, sidecar)] == []
            sidestream.uninstall()
            assert [agent for agent in agents if is_observed(agent, sidecar)] == []
            assert sidecar.stats().recording_errors == 0


def test_before_pydantic_ai(tmp_path: Any) -> None:
    """Without importing the module; the import hook is removed by the import, or by `uninstall()` before the import."""
    program = """
        import sys
        import sidestream
        bare = list(sys.meta_path)
        sidestream.install("memory")
        sidestream.uninstall()
        assert sys.meta_path == bare
        memory = sidestream.InMemoryExporter()
        sidecar = sidestream.install(memory, sdk="none")
        assert "pydantic_ai" not in sys.modules and sys.meta_path != bare

        from pydantic_ai import Agent
        from pydantic_ai.models.test import TestModel
        import pydantic_ai.agent
        assert sys.meta_path == bare
        assert pydantic_ai.agent.__spec__.loader is pydantic_ai.agent.__loader__
        assert type(pydantic_ai.agent.__loader__) is type(pydantic_ai.__loader__)
        Agent(TestModel(), name="late").run_sync("?")
        sidecar.flush()
        assert [event.agent_name for event in memory.of("agent_end")] == ["late"]
        wrapped = Agent.__init__
        sidestream.uninstall()
        assert Agent.__init__ is wrapped.__wrapped__
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")

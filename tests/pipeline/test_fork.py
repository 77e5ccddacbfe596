"""Forking processes: the parent delivers the parent's events, a child's events are complete, and no process hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.subprograms import AGENT, OBSERVED, run_program

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"), pytest.mark.scenario_15]

CHILD = """
    import signal
    def child(work):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            work()
            os._exit(0)
        return pid

    def join(pids):
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0, "a child failed or hung"
"""


def test_children_forked_while_runs_and_workers_are_busy(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        {CHILD}# ---
        import threading, time
        sidecar = Sidecar(f"jsonl:{{LOG}}/", buffer_events=1_000_000)
        stop = threading.Event()
        def busy(name):
            number = 0
            while not stop.is_set():
                record(sidecar, f"{{name}}-{{number}}", 50)
                number += 1
                time.sleep(0)
        threads = [threading.Thread(target=busy, args=(f"parent-{{i}}",), daemon=True) for i in range(2)]
        for thread in threads:
            thread.start()
        def work():
            for number in range(3):
                record(sidecar, f"child-{{os.getpid()}}-{{number}}", 200)
            assert sidecar.close() == {{}}
            assert sidecar.stats().exporters["jsonl"].seen == 606
        pids = []
        for _ in range(8):
            pids.append(child(work))
            time.sleep(0.01)
        join(pids)
        stop.set()
        for thread in threads:
            thread.join()
        """,
    )
    assert ended.code == 0, ended.err
    files, runs = ended.files(), ended.runs()
    assert len(files) == 9
    assert all(types[0] == "agent_start" and types[-1] == "agent_end" for types in runs.values())
    assert sum(run_id.startswith("child") for run_id in runs) == 24
    for events in files.values():
        assert len({event.run_id.startswith("child") for event in events}) == 1


@pytest.mark.parametrize("leaves_by", ["raise SystemExit", "sidecar.flush(); os._exit(0)", "return"])
def test_a_pre_fork_server(tmp_path: Path, leaves_by: str) -> None:
    """The parent makes the sidecar and runs an agent; three children run their own agents and exit."""
    ended = run_program(
        tmp_path,
        f"""{AGENT}# ---
        import multiprocessing
        def serve(number):
            for _ in range(2):
                asyncio.run(speak())
            {leaves_by}
        if __name__ == "__main__":
            asyncio.run(speak())
            fork = multiprocessing.get_context("fork")
            children = [fork.Process(target=serve, args=(number,)) for number in range(3)]
            for each in children:
                each.start()
            asyncio.run(speak())
            for each in children:
                each.join(20)
            assert [each.exitcode for each in children] == [0, 0, 0]
        """,
        WORDS="3",
    )
    assert ended.code == 0, ended.err
    files = ended.files()
    assert len(files) == 4
    assert len(ended.runs()) == 8
    assert all(types[-1] == "agent_end" for types in ended.runs().values())
    assert sorted(len({event.run_id for event in events}) for events in files.values()) == [2, 2, 2, 2]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_that_closes_nothing_has_delivered_everything(tmp_path: Path, method: str) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        import multiprocessing
        sidecar = Sidecar(f"jsonl:{{LOG}}/")
        def work(name):
            record(sidecar, name, 300)
        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=work, args=(f"child-{{number}}",)) for number in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join(20)
            record(sidecar, "parent")
        """,
    )
    assert ended.code == 0, ended.err
    assert {run_id: len(types) for run_id, types in ended.runs().items()} == {
        "child-0": 302,
        "child-1": 302,
        "child-2": 302,
        "parent": 3,
    }
    assert len(ended.files()) == 4


def test_a_child_forked_within_a_run_writes_nothing_of_it(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{AGENT}# ---
        import atexit
        from pydantic_ai.models.test import TestModel
        @agent.tool_plain
        async def forks() -> str:
            pid = os.fork()
            if pid == 0:
                atexit._run_exitfuncs()  # without the event loop, which refuses to run in a child from Python 3.14 on
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            return "done"
        asyncio.run(agent.run("go", model=TestModel()))
        """,
    )
    assert ended.code == 0, ended.err
    assert len(ended.files()) == 1
    (types,) = ended.runs().values()
    assert types.count("tool_end") == 1
    assert types[-1] == "agent_end"


def test_a_child_does_not_inherit_the_locks_that_others_held(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        {CHILD}# ---
        import threading
        from sidestream import InMemoryExporter
        memory = InMemoryExporter()
        sidecar = Sidecar(memory)
        going_on = sidecar.open_run("going on", "agent", None)
        going_on.start()
        sidecar.flush()
        held, done = threading.Event(), threading.Event()
        def hold():
            pipeline = sidecar._pipeline
            workers = pipeline._workers
            with sidecar._lock, pipeline._intake._lock, workers._role, workers._starting, memory._lock:
                with pipeline._subscriptions[0]._lock:
                    held.set()
                    done.wait(20)
        threading.Thread(target=hold).start()
        held.wait()
        def work():
            record(sidecar, "child")
            going_on.end("abandoned")
            assert sidecar.close(10) == {{}}
            assert [event.run_id for event in memory] == ["child"] * 3
        try:
            join([child(work)])
        finally:
            done.set()
        """,
    )
    assert ended.code == 0, ended.err


def test_a_child_forked_while_an_exporter_is_in_a_call_has_one_that_starts_anew(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        {CHILD}# ---
        import threading
        class Hanging(Exporter):
            name = "hanging"
            interval = 0.01
            def __init__(self):
                self.entered, self.released, self.calls = threading.Event(), threading.Event(), []
            def start(self):
                self.calls.append("start")
            def export(self, events):
                self.calls.append(len(events))
                self.entered.set()
                self.released.wait(20)
            def after_fork(self):
                self.calls = ["after_fork"]
                self.released = threading.Event()
                self.released.set()
        hanging = Hanging()
        sidecar = Sidecar(hanging)
        record(sidecar, "parent", 10)
        hanging.entered.wait(20)
        def work():
            stats = sidecar.stats()
            assert (stats.runs, stats.exporters["hanging"].seen) == (0, 0)
            assert stats.exporters["hanging"].busy_seconds is None
            record(sidecar, "child")
            assert sidecar.close(10) == {{}}
            assert hanging.calls[:2] == ["after_fork", "start"]
            assert sum(hanging.calls[2:]) == 3
        join([child(work)])
        assert sidecar.stats().exporters["hanging"].pending == 12
        hanging.released.set()
        assert sidecar.close(10) == {{}}
        """,
    )
    assert ended.code == 0, ended.err


def test_a_fork_waits_for_the_import_of_an_exporter(tmp_path: Path) -> None:
    (tmp_path / "slow_library.py").write_text("import imported, time\nimported.begun.set()\ntime.sleep(0.2)\n")
    (tmp_path / "imported.py").write_text("import threading\nbegun = threading.Event()\n")
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        {CHILD}# ---
        import imported
        class Importing(Exporter):
            name = "importing"
            eager = True
            def start(self):
                import slow_library
            def export(self, events):
                pass
        sidecar = Sidecar(Importing())
        imported.begun.wait(20)
        def work():
            import slow_library
            record(sidecar, "child")
            assert sidecar.close(10) == {{}}
        join([child(work)])
        """,
    )
    assert ended.code == 0, ended.err


def test_a_grandchild_is_as_good_as_a_child_and_a_closed_sidecar_stays_closed(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        {CHILD}# ---
        sidecar, closed = Sidecar(f"jsonl:{{LOG}}/"), Sidecar("memory")
        closed.close()
        record(sidecar, "parent")
        def grandchild():
            record(sidecar, "grandchild")
            record(closed, "nobody")
            assert closed.stats().exporters["memory"].dropped == {{"closed": 3}}
            sidecar.close()
        def work():
            join([child(grandchild)])
            record(sidecar, "child")
            sidecar.close()
        join([child(work)])
        """,
    )
    assert ended.code == 0, ended.err
    assert {run_id: len(types) for run_id, types in ended.runs().items()} == {"parent": 3, "child": 3, "grandchild": 3}
    assert len(ended.files()) == 3

"""Ends of a program: its exit code and stderr are unchanged, and its events are in the log or counted."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.subprograms import AGENT, OBSERVED, Ended, Program, run_program

pytestmark = [pytest.mark.scenario_15, pytest.mark.scenario_23]

fcntl = pytest.importorskip("fcntl") if sys.platform != "win32" else None
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def both(tmp_path: Path, source: str, **env: str) -> tuple[Ended, Ended]:
    """Run the same program bare and observed."""
    bare = Program(tmp_path / "bare", source, OBSERVE="0", **env)
    observed = Program(tmp_path / "observed", source, **env)
    return bare.wait(), observed.wait()


def same_noise(bare: Ended, observed: Ended) -> bool:
    def normal(ended: Ended) -> list[str]:
        """Last lines of tracebacks and other output; frames differ because of Sidestream's."""
        text = ended.err.replace(str(ended.log.parent), "")
        return [line for line in text.splitlines() if not line.startswith((" ", "Traceback"))]

    return normal(bare) == normal(observed)


def dropped(err: str) -> int:
    """Number of dropped events according to the program's last message for each reason."""
    return sum({key: int(count) for key, count in re.findall(r"events dropped (.*) so_far=(\d+)", err)}.values())


class TestEndOfAProgram:
    def test_a_sidecar_that_nobody_closes_has_delivered_everything(self, tmp_path: Path) -> None:
        ended = run_program(tmp_path, f"{AGENT}# ---\nasyncio.run(speak())")
        assert (ended.code, ended.err) == (0, "")
        (types,) = ended.runs().values()
        assert types[0] == "agent_start"
        assert types[-1] == "agent_end"

    def test_one_that_was_local_to_a_function_has_too(self, tmp_path: Path) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            import gc
            def main():
                record(Sidecar(f"jsonl:{{LOG}}/"), "local", 500)
            main()
            gc.collect()
            """,
        )
        assert (ended.code, ended.err) == (0, "")
        assert len(ended.runs()["local"]) == 502

    def test_sys_exit_in_a_coroutine_leaves_with_its_code(self, tmp_path: Path) -> None:
        program = f"""{AGENT}# ---
        async def main():
            async with agent.run_stream("go") as stream:
                async for text in stream.stream_text(delta=True):
                    sys.exit(7)
        asyncio.run(main())
        """
        bare, observed = both(tmp_path, program)
        assert (bare.code, observed.code) == (7, 7)
        assert same_noise(bare, observed)
        (types,) = observed.runs().values()
        assert types[-1] == "agent_end"

    def test_an_unhandled_exception_is_reported_as_ever(self, tmp_path: Path) -> None:
        program = f"""{AGENT}# ---
        asyncio.run(speak())
        raise LookupError("mine")
        """
        bare, observed = both(tmp_path, program)
        assert (bare.code, observed.code) == (1, 1)
        assert same_noise(bare, observed)
        (types,) = observed.runs().values()
        assert types[-1] == "agent_end"

    @needs_signals
    def test_ctrl_c_in_mid_run_ends_the_run_as_cancelled(self, tmp_path: Path) -> None:
        source = f"{AGENT}# ---\nasyncio.run(speak())"
        programs = [
            Program(tmp_path / observe, source, OBSERVE=observe, WORDS="10000", PAUSE="0.01") for observe in ("0", "1")
        ]
        for program in programs:
            program.wait_for_line()
            program.send(signal.SIGINT)
        bare, observed = (program.wait() for program in programs)
        assert bare.code == observed.code
        assert same_noise(bare, observed)
        (events,) = observed.files().values()
        assert events[-1].event_type == "agent_end"
        assert events[-1].data.outcome == "cancelled"

    @needs_signals
    def test_a_signal_handler_may_close_the_sidecar(self, tmp_path: Path) -> None:
        program = Program(
            tmp_path,
            f"""{OBSERVED}# ---
            import signal, sys
            sidecar = Sidecar(f"jsonl:{{LOG}}/", "memory")
            def leave(number, frame):
                sidecar.close()
                sys.exit(5)
            signal.signal(signal.SIGTERM, leave)
            run = sidecar.open_run("r", "agent", None)
            run.start()
            print("go", flush=True)
            while True:
                run.custom("step")
            """,
        )
        program.wait_for_line()
        program.send(signal.SIGTERM)
        ended = program.wait()
        assert ended.code == 5
        assert ended.err == "" or dropped(ended.err)
        (events,) = ended.files().values()
        assert events[0].event_type == "agent_start"

    def test_a_run_in_another_thread_that_goes_on_does_not_hold_up_the_exit(self, tmp_path: Path) -> None:
        program = f"""{AGENT}# ---
        import threading, time
        threading.Thread(target=lambda: asyncio.run(speak()), daemon=True).start()
        time.sleep(0.5)
        """
        ended = run_program(tmp_path, program, WORDS="100000", PAUSE="0.001")
        assert ended.code == 0
        assert "sidestream" not in ended.err
        (types,) = ended.runs().values()
        assert types[0] == "agent_start"

    def test_runs_of_exit_handlers_are_in_the_log_or_counted(self, tmp_path: Path) -> None:
        ended = run_program(
            tmp_path,
            f"""
            import atexit
            atexit.register(lambda: record(late, "after the close"))
# ---
            {OBSERVED}# ---
            sidecar, late = Sidecar(f"jsonl:{{LOG}}/"), Sidecar(f"jsonl:{{LOG}}/late.jsonl")
            record(sidecar, "before")
            first = Sidecar(f"jsonl:{{LOG}}/first.jsonl")
            atexit.register(lambda: record(sidecar, "in a handler"))
            atexit.register(lambda: record(first, "first of its sidecar", 2))
            """,
        )
        assert ended.code == 0
        assert "Traceback" not in ended.err
        runs = ended.runs()
        assert len(runs["before"]) == len(runs["in a handler"]) == 3
        assert "after the close" not in runs
        # Since Python 3.12, no thread can be started so late.
        assert len(runs.get("first of its sidecar", ())) + dropped(ended.err) == 4


@needs_signals
class TestSignals:
    """The default action of SIGTERM or SIGINT kills a process at once, without exit handlers."""

    @pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
    def test_what_is_finished_is_in_the_log_and_the_signal_kills_as_ever(self, tmp_path: Path, number: str) -> None:
        program = f"""
            import os, signal
            signal.signal(signal.{number}, signal.SIG_DFL)
            # ---
            {AGENT}# ---
            asyncio.run(speak())
            os.kill(os.getpid(), signal.{number})
        """
        bare, observed = both(tmp_path, program)
        assert bare.code == observed.code == -getattr(signal, number)
        assert same_noise(bare, observed)
        (types,) = observed.runs().values()
        assert types[-1] == "agent_end"

    def test_a_server_that_shuts_down_gracefully_and_raises_the_signal_again_loses_nothing(
        self, tmp_path: Path
    ) -> None:
        ended = run_program(
            tmp_path,
            f"""{AGENT}# ---
            import signal
            async def serve():
                asked = asyncio.Event()
                loop = asyncio.get_running_loop()
                before = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(asked.set))
                os.kill(os.getpid(), signal.SIGTERM)
                await asked.wait()
                await speak()
                signal.signal(signal.SIGTERM, before)
                signal.raise_signal(signal.SIGTERM)
            asyncio.run(serve())
            """,
        )
        assert ended.code == -signal.SIGTERM
        (types,) = ended.runs().values()
        assert types[-1] == "agent_end"

    def test_without_a_handler_the_end_of_a_run_is_in_the_log_within_moments(self, tmp_path: Path) -> None:
        ended = run_program(
            tmp_path,
            f"""{AGENT}# ---
            import glob, signal, time
            asyncio.run(speak())
            deadline = time.monotonic() + 20
            while not any(b"agent_end" in open(file, "rb").read() for file in glob.glob(f"{{LOG}}/*.jsonl")):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)
            """,
            SIDESTREAM_SIGNALS="0",
        )
        assert ended.code == -signal.SIGTERM

    def test_a_program_that_has_a_handler_keeps_it_and_one_that_has_none_gets_the_default_back(
        self, tmp_path: Path
    ) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            import signal
            def mine(number, frame):
                pass
            signal.signal(signal.SIGTERM, mine)
            first = Sidecar("memory")
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            first.close()
            assert signal.getsignal(signal.SIGTERM) is mine
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            second, third = Sidecar("memory"), Sidecar("memory")
            second.close()
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            third.close()
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            """,
        )
        assert ended.code == 0, ended.err


class TestExportersAtTheEnd:
    def test_a_hanging_exporter_holds_up_the_exit_until_the_deadline_and_no_other_exporter(
        self, tmp_path: Path
    ) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            import sys, time
            class Hanging(Exporter):
                name = "hanging"
                interval = 0.01
                def export(self, events):
                    time.sleep(10_000)
            sidecar = Sidecar(Hanging(), f"jsonl:{{LOG}}/", close_timeout=0.3)
            record(sidecar, "r", 1_000)
            while sidecar.stats().exporters["jsonl"].exported < 1_002:
                time.sleep(0.01)
            sys.exit(4)
            """,
        )
        assert ended.code == 4
        assert dropped(ended.err) == 1_002
        assert "shutdown" in ended.err
        assert len(ended.err.splitlines()) == 1, ended.err
        assert len(ended.runs()["r"]) == 1_002

    def test_what_a_slow_exporter_could_not_deliver_of_a_full_buffer_is_counted(self, tmp_path: Path) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            import os, time
            class Slow(Exporter):
                name = "slow"
                interval = 0.01
                def export(self, events):
                    os.write(1, b"%d\\n" % len(events))
                    time.sleep(0.05 if sidecar.active else 10_000)
                    os.write(1, b"done\\n")
            sidecar = Sidecar(Slow(), buffer_events=500, close_timeout=1)
            record(sidecar, "a", 10)
            sidecar.flush(20)
            record(sidecar, "r", 2_500)
            """,
        )
        assert ended.code == 0
        lines = ended.out.split()
        given = [int(line) for line in lines if line != "done"]
        delivered = sum(given[: lines.count("done")])
        assert delivered > 0
        # A batch in progress at the deadline may end between the count and the exit.
        assert delivered + dropped(ended.err) - 2_514 in (0, given[-1])

    @pytest.mark.parametrize("error", ["ValueError()", "SystemExit(9)", "KeyboardInterrupt()", "ExporterUnavailable()"])
    def test_an_exporter_that_fails_changes_no_exit_code(self, tmp_path: Path, error: str) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            class Failing(Exporter):
                name = "failing"
                def export(self, events):
                    raise {error}
                def close(self):
                    raise {error}
            sidecar = Sidecar(Failing())
            record(sidecar)
            """,
        )
        assert ended.code == 0
        assert dropped(ended.err) == 3
        assert "Traceback" not in ended.err

    @pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="this system has no pipes of a chosen size")
    @pytest.mark.parametrize("exporter", ["console", "failing"])
    def test_a_stderr_that_nobody_reads_holds_up_no_exit(self, tmp_path: Path, exporter: str) -> None:
        ended = run_program(
            tmp_path,
            f"""{OBSERVED}# ---
            import fcntl, sys
            reading, writing = os.pipe()
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
            os.write(writing, b"x" * 4096)  # what was said before
            os.dup2(writing, 2)
            class Failing(Exporter):
                name = "failing"
                def export(self, events):
                    raise ValueError("no")
            sidecar = Sidecar("console" if "{exporter}" == "console" else Failing(), close_timeout=0.5)
            record(sidecar, "r", 100)
            print("the end", flush=True)
            """,
        )
        assert (ended.code, ended.out) == (0, "the end\n")

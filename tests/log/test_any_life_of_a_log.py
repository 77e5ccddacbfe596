"""Any sequence of writes, rotation, compression and kills by two writers: every read returns each event once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidestream import log
from sidestream.log.forwarding.follow import Follower
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.jsonl_files import events, keys
from tests.support.log_builder import Problems

Key = tuple[str, int]
FRAGMENTS = [b"{", b'{"v":1,"event_type":"tool_end","run_id":"', "ä".encode()[:1], b"[]" * 300]


class AnyLifeOfALog(RuleBasedStateMachine):
    """One log, a folder or a shared file, whose finished files are compressed soon."""

    writers: list[JSONLExporter | None]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder
        self.writers = [None, None]
        self.lives = [0, 0]
        self.written: Counter[Key] = Counter()
        self.followed: Counter[Key] = Counter()
        self.fragments = 0
        self.number = 0

    @initialize(shared=st.booleans())
    def choose(self, shared: bool) -> None:
        self.path = self.folder / "app.jsonl" if shared else self.folder
        self.follower = Follower(self.folder)

    def writer(self, which: int) -> JSONLExporter:
        exporter = self.writers[which]
        if exporter is None:
            exporter = self.writers[which] = JSONLExporter(self.path, rotate_bytes=6_000, compress=True)
            exporter.start()
            self.lives[which] += 1
        return exporter

    @rule(which=st.integers(0, 1), count=st.integers(1, 6), size=st.sampled_from([20, 2_000, 9_000]))
    def write(self, which: int, count: int, size: int) -> None:
        writer = self.writer(which)
        batch = events(count, run_id=f"{which}.{self.lives[which]}", start=self.number, size=size)
        self.number += count
        writer.export(batch)
        self.written.update(keys(batch))

    @rule(which=st.integers(0, 1))
    def close(self, which: int) -> None:
        if (writer := self.writers[which]) is not None:
            writer.close()
            self.writers[which] = None

    @rule(which=st.integers(0, 1), fragment=st.sampled_from(FRAGMENTS))
    @precondition(lambda self: any(self.writers))
    def kill(self, which: int, fragment: bytes) -> None:
        """Kill a writer during a write: a fragment stays behind, and all descriptors and locks are released."""
        writer, self.writers[which] = self.writers[which], None
        if writer is None:
            return
        if (file := writer._log.file) is not None and file.fd >= 0 and file.is_current():
            os.write(file.fd, fragment)
            self.fragments += 1
        writer.after_fork()

    @rule()
    def read(self) -> None:
        problems = Problems()
        assert Counter(keys(log.read(self.folder, on_problem=problems))) == self.written
        assert len(problems) <= self.fragments, problems

    @rule()
    def follow(self) -> None:
        for batch in self.follower.poll():
            self.followed.update(keys(batch.events))
        assert self.followed <= self.written

    @rule()
    def follow_from_where_another_was(self) -> None:
        self.follow()
        self.follower = Follower(self.folder, positions=self.follower.positions)

    def teardown(self) -> None:
        for which in (0, 1):
            self.write(which, 1, 20)  # the next writer repairs incomplete lines of killed writers
            self.close(which)
        self.read()
        self.follow()
        self.follow()
        assert self.followed == self.written
        assert not any(path.name.endswith(".tmp") for path in self.folder.iterdir())
        shutil.rmtree(self.folder)


TestAnyLifeOfALog = AnyLifeOfALog.TestCase
TestAnyLifeOfALog.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)

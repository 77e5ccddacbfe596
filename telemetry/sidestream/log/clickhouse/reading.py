"""Store of runs over tables in ClickHouse, with the same results as over log files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from sidestream.clickhouse.connection import Address, ClickHouseError, classified_errors, connect
from sidestream.clickhouse.schema import EVENTS, RUNS
from sidestream.errors import ConfigurationError, ExporterUnavailable, UnreadableLogError
from sidestream.events import AgentStart
from sidestream.log.index.decoder import event_decoder
from sidestream.log.index.gathering import Gatherer
from sidestream.log.index.parts import Facts, RunPart
from sidestream.log.reader import Block, OnProblem, decode_block, decoder_of
from sidestream.log.runs.filters import Filter, Order
from sidestream.log.runs.overview import RunNames, RunsOverTime, TimedRun, in_bins
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.runs.totals import Statistics
from sidestream.log.runs.tree import Located
from sidestream.log.sequence import Ranges
from sidestream.log.store import ConversationRuns, RunPage, Stretch

from .measures import SILENCE_SECONDS
from .queries import CALLED, NAMES, ROOTS, ROWS, RUN, in_order, needs_events, sort_key, taken_by
from .totals import RunsMeasured, has_scores, statistics_of

_IDS = 500  # runs per query
_TOTALS_TIMEOUT = 600.0  # seconds for a query that reads every run
_LATEST_FIRST = "ORDER BY latest DESC, conversation DESC"
_LINE = "if(content = '', numbers, content)"


class _Tally(msgspec.Struct, array_like=True):
    """Facts about the events of a run that SQL computes, without reading the events themselves."""

    run_id: str
    seqs: list[int]
    chunks: int
    last_offset: float
    seen: float


_tally = msgspec.json.Decoder(_Tally, strict=False)


class _LivenessByTime:
    """Liveness of a run's writer, judged by the time of its last event."""

    def __init__(self, seen: float) -> None:
        self._seen = seen

    def alive(self, start: AgentStart | None, files: list[str]) -> bool:
        return datetime.now(UTC).timestamp() - self._seen < SILENCE_SECONDS


class ClickHouseLog:
    """`RunStore` over tables in ClickHouse."""

    def __init__(self, address: str) -> None:
        """Parse `address`; connects only when queried. Raises `ConfigurationError` for an invalid address."""
        self._address = Address.parse(address)
        self._name = str(self._address)
        self._events = f"{self._address.database}.{EVENTS}"
        self._runs = f"{self._address.database}.{RUNS}"
        self._run = RUN.format(runs=self._runs)

    def summaries(
        self, where: Filter | None = None, *, facts: bool = False, on_problem: OnProblem | None = None
    ) -> Iterator[tuple[RunSummary, Facts | None]]:
        taken = taken_by(where, self._events)
        with self._connected() as ask:
            last = ""
            while True:
                sql = (
                    f"SELECT run_id FROM ({self._run}) WHERE {taken} AND run_id > %(after)s ORDER BY run_id "
                    f"LIMIT {_IDS} {ROWS}"
                )
                ids = [row[0] for row in _rows(ask(sql, {**taken.values, "after": last}))]
                for run, part in self._summarized(ask, ids):
                    if where is None or where.matches(run):
                        yield run, part if facts else None
                if len(ids) < _IDS:
                    return
                last = ids[-1]

    def page(
        self, where: Filter | None, order: Order, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> RunPage:
        taken = taken_by(where, self._events)
        read_unended = needs_events(where, order)
        key = sort_key(order)
        with self._connected() as ask:
            among = f"FROM ({self._run}) WHERE {taken}"
            chosen = f"{among} AND ended_as != ''" if read_unended else among
            first = _rows(
                ask(
                    f"SELECT run_id, {key}, count() OVER () {chosen} {in_order(order)} "
                    f"LIMIT {offset + max(limit, 1)} {ROWS}",
                    taken.values,
                )
            )
            total = int(first[0][2]) if first else 0
            places = [(order.place(value, run_id), run_id) for run_id, value, _ in first]
            unended: dict[str, RunSummary] = {}
            if read_unended:  # such runs may sort anywhere among the ended ones
                ids = [row[0] for row in _rows(ask(f"SELECT run_id {among} AND ended_as = '' {ROWS}", taken.values))]
                found = [run for run, _ in self._summarized(ask, ids) if where is None or where.matches(run)]
                unended = {run.run_id: run for run in found}
                total += len(unended)
                places = sorted([*places, *((order.key(run), run.run_id) for run in found)])
            ids = [run_id for _, run_id in places[offset : offset + limit]]
            ended = {run.run_id: run for run, _ in self._summarized(ask, [each for each in ids if each not in unended])}
        return RunPage(runs=[ended.get(run_id) or unended[run_id] for run_id in ids], total=total)

    def conversations(
        self, where: Filter | None, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> ConversationRuns:
        with self._connected() as ask:
            every, values = self._conversations(where)
            (total,) = _rows(ask(f"SELECT count() FROM ({every}) {ROWS}", values))
            page = f"{_LATEST_FIRST} LIMIT {limit} OFFSET {offset} {ROWS}"
            ids = [row[0] for row in _rows(ask(f"SELECT conversation FROM ({every}) {page}", values))]
            return ConversationRuns(ids=ids, runs=self._runs_of_conversations(ask, ids), total=int(total[0]))

    def every_conversation(
        self, where: Filter | None, *, on_problem: OnProblem | None = None
    ) -> Iterator[ConversationRuns]:
        with self._connected() as ask:
            every, values = self._conversations(where)
            sql = f"SELECT conversation FROM ({every}) {_LATEST_FIRST} {ROWS}"
            ids = [row[0] for row in _rows(ask(sql, values))]
            for some in _in_lots(ids):
                yield ConversationRuns(ids=some, runs=self._runs_of_conversations(ask, some), total=len(ids))

    def over_time(self, where: Filter | None, *, bins: int) -> RunsOverTime:
        query = RunsMeasured(where, self._events, self._runs)
        sql = query.over_time(with_sub_agents=where is not None and where.outermost)
        with self._connected(_TOTALS_TIMEOUT) as ask:
            rows = _rows(ask(sql, query.conditions.values))
        return in_bins(
            [TimedRun(at, outcome, cost, bool(bound), took) for at, outcome, cost, bound, took in rows], bins
        )

    def statistics(
        self, where: Filter | None, *, tags: Collection[str], on_problem: OnProblem | None = None
    ) -> Statistics:
        query = RunsMeasured(where, self._events, self._runs)
        groups, scores = query.groups(tags), query.scores(tags)
        with self._connected(_TOTALS_TIMEOUT) as ask:
            found = ask(groups, query.conditions.values)
            return statistics_of(found, ask(scores, query.conditions.values) if has_scores(found) else b"", tags)

    def names(self) -> RunNames:
        with self._connected() as ask:
            ((agents, models, tools),) = _rows(ask(NAMES.format(runs=self._runs, events=self._events), {}))
        return RunNames(agents=[], models=[], tools=[]).and_of(agents=agents, models=models, tools=tools)

    def called(self, name: str) -> list[RunSummary]:
        if exact := [run for run in self.tree(name) if run.run_id == name]:
            return exact
        with self._connected() as ask:
            ids = _rows(ask(CALLED.format(runs=self._runs), {"name": name.strip().lower()}))
            return [run for run, _ in self._summarized(ask, [row[0] for row in ids])]

    def tree(self, prefix: str) -> list[RunSummary]:
        runs = self._runs
        with self._connected() as ask:
            begun = _rows(
                ask(
                    f"SELECT run_id, max(root_run_id) FROM {runs} WHERE startsWith(run_id, %(prefix)s) "
                    f"GROUP BY run_id {ROWS}",
                    {"prefix": prefix},
                )
            )
            roots = sorted({root or run_id for run_id, root in begun})
            ids = {run_id for run_id, _ in begun}
            for some in _in_lots(roots):
                sql = f"SELECT DISTINCT run_id FROM {runs} WHERE root_run_id IN %(roots)s {ROWS}"
                ids |= {row[0] for row in _rows(ask(sql, {"roots": some}))}
            return [run for run, _ in self._summarized(ask, sorted(ids))]

    def located(self, run_ids: Collection[str]) -> Iterator[Located]:
        decoder = decoder_of(None)
        for _, blocks in self.stretches(run_ids):
            for block in blocks:
                for event in decode_block(block, decoder, self._name, None):
                    # line number in a file of this run alone
                    yield Located(event, self._name, event.seq + 1)

    def stretches(self, run_ids: Collection[str] | None, on_problem: OnProblem | None = None) -> Iterator[Stretch]:
        return iter([(self._name, self._blocks(run_ids))])

    def state(self) -> object:
        with self._connected() as ask:
            return ask(f"SELECT count(), max(timestamp) FROM {self._events} {ROWS}", {})

    # --- conversations ---

    def _conversations(self, where: Filter | None) -> tuple[str, dict[str, Any]]:
        """Query for the conversations with a run that `where` takes, with the start of their latest turn."""
        taken, values = "conversation != ''", dict[str, Any]()
        if where is not None:
            if needs_events(where, Order()):
                query = RunsMeasured(where, self._events, self._runs)
                roots, values = query.roots(), query.conditions.values
            else:
                matching = taken_by(where, self._events)
                roots, values = ROOTS.format(runs=self._runs, run=self._run, taken=matching), matching.values
            mine = f"SELECT conversation FROM ({self._run}) WHERE parent = '' AND run_id IN ({roots})"
            taken = f"{taken} AND conversation IN ({mine})"
        every = (
            f"SELECT conversation, max(started_at) AS latest FROM ({self._run}) WHERE parent = '' AND {taken} "
            f"GROUP BY conversation"
        )
        return every, values

    def _runs_of_conversations(self, ask: _Queries, ids: list[str]) -> list[RunSummary]:
        its = f"SELECT run_id FROM ({self._run}) WHERE parent = '' AND conversation IN %(ids)s"
        members = f"SELECT DISTINCT run_id FROM {self._runs} WHERE run_id IN ({its}) OR root_run_id IN ({its}) {ROWS}"
        run_ids = [row[0] for row in _rows(ask(members, {"ids": ids}))] if ids else []
        return [run for run, _ in self._summarized(ask, sorted(run_ids))]

    # --- from rows to runs ---

    def _summarized(self, ask: _Queries, run_ids: Sequence[str]) -> Iterator[tuple[RunSummary, RunPart]]:
        for some in _in_lots(run_ids):
            lines = ask(
                f"SELECT numbers FROM {self._events} FINAL WHERE run_id IN %(ids)s AND event_type != 'llm_chunk' "
                f"ORDER BY run_id, seq FORMAT TSVRaw",
                {"ids": some},
            )
            tallies = ask(
                f"SELECT run_id, groupArray(seq), countIf(event_type = 'llm_chunk'), max(offset), "
                f"toFloat64(max(timestamp)) FROM (SELECT * FROM {self._events} FINAL WHERE run_id IN %(ids)s "
                f"AND event_type != 'score' "
                f"ORDER BY run_id, seq) GROUP BY run_id ORDER BY run_id {ROWS}",
                {"ids": some},
            )
            gatherer = Gatherer()
            block = Block.of(lines, 0, 1)
            gatherer.take(decode_block(block, event_decoder(), self._name, None), 0, block.end, 1)
            parts = {part.run_id: part for part in gatherer.parts()}
            for row in tallies.splitlines():
                tally = _tally.decode(row)
                part = parts.get(tally.run_id) or RunPart(run_id=tally.run_id)
                part.seqs = _ranges(tally.seqs)
                part.chunks, part.spans = tally.chunks, []
                part.last_offset = max(part.last_offset, tally.last_offset)
                yield summary_of(part, [self._name], _LivenessByTime(tally.seen)), part

    def _blocks(self, run_ids: Collection[str] | None) -> Iterator[Block]:
        lots: Iterable[list[str] | None] = [None] if run_ids is None else _in_lots(sorted(run_ids))
        with self._connected() as ask:
            for some in lots:
                chosen = "1" if some is None else "run_id IN %(ids)s"
                sql = f"SELECT {_LINE} FROM {self._events} FINAL WHERE {chosen} ORDER BY run_id, seq FORMAT TSVRaw"
                offset, line = 0, 1
                for lines in ask.lines(sql, {} if some is None else {"ids": some}):
                    block = Block.of(lines, offset, line)
                    offset, line = block.end, block.next_line
                    yield block

    @contextmanager
    def _connected(self, timeout: float = 30.0) -> Iterator[_Queries]:
        try:
            with closing(connect(self._address, timeout=timeout)) as client:
                yield _Queries(client, self._address)
        except ClickHouseError as error:
            if error.is_missing:
                raise ConfigurationError(
                    f"no log at {self._name}: the clickhouse exporter creates its tables, or "
                    f"`sidestream schema --clickhouse` prints them"
                ) from None
            raise UnreadableLogError(str(error)) from None
        except ExporterUnavailable as error:
            raise UnreadableLogError(f"cannot read {error}") from None


class _Queries:
    """SQL queries to one server."""

    def __init__(self, client: Any, address: Address) -> None:
        self._client = client
        self._address = address

    def __call__(self, sql: str, values: dict[str, Any]) -> bytes:
        with classified_errors(self._address):
            found: bytes = self._client.raw_query(sql, parameters=values)
        return found

    def lines(self, sql: str, values: dict[str, Any]) -> Iterator[bytes]:
        """Result of a query in pieces that end with a line."""
        rest = b""
        with classified_errors(self._address), closing(self._client.raw_stream(sql, parameters=values)) as stream:
            while piece := stream.read(1024 * 1024):
                cut = piece.rfind(b"\n") + 1
                if cut:
                    yield rest + piece[:cut]
                    rest = piece[cut:]
                else:
                    rest += piece
        if rest:
            yield rest


def _rows(answer: bytes) -> list[list[Any]]:
    return [msgspec.json.decode(row) for row in answer.splitlines()]


def _ranges(seqs: list[int]) -> list[list[int]]:
    found = Ranges([])
    for seq in seqs:
        if found.ranges and found.ranges[-1][1] + 1 == seq:
            found.ranges[-1][1] = seq
        else:
            found.add(seq, seq)
    return found.ranges


def _in_lots(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS):
        yield list(ids[start : start + _IDS])

"""What is followed: one run with its calls and its log, or all runs.

Each of these looks at the store when it is told to, and puts down what has changed since it looked
last, once for all who follow it.
"""

import asyncio
import time

from sequential.core import times
from sequential.core.model import LogLine, StackRun, TaskRun
from sequential.errors import DamagedRunError
from sequential.runner.engine import Engine
from sequential.web.channel import (
    EVERYTHING,
    Channel,
    Piece,
    Wanted,
    event,
    joined,
    status_kind,
    task_kind,
)
from sequential.web.records import listed_call, listed_run

MOST_MISSED = 500  # runs, calls or lines that are sent to one who comes back; else: load it again
LOG_PACE = 1.0  # seconds between two looks at what a run that goes on has printed
SLACK = 5.0  # seconds by which clocks of machines may differ, and news be late

Stamp = tuple[object, ...]


class FollowedRun(Channel):
    """The news of one run. Its ids are `<turn>.<lines printed>`, with `.end` when it is over."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        super().__init__()
        self._engine = engine
        self._run_id = run_id
        self._order = asyncio.Lock()
        self._run: TaskRun | None = None
        self._open: dict[int, Stamp] = {}  # calls that may still change
        self._lines = 0
        self._log_turn = -1
        self._log_at = 0.0
        self._missed: dict[str, bytes] = {}  # what was put together for those who came back

    async def begin(self) -> None:
        """Look at the run unless somebody has."""
        if self.number == 0:
            await self.look(again=False)

    async def look(self, *, again: bool = True) -> TaskRun | None:
        """Look at the run and put down what is new; returns it as it is."""
        async with self._order:
            if not again and self.number:
                return self._run
            try:
                run = await self._engine.storage.get_task_run(self._run_id)
                if not self.is_over:
                    await self._put_down(run)
            except DamagedRunError:
                self.end()  # who comes back is told
                raise
            return run

    async def _put_down(self, run: TaskRun | None) -> None:
        if run is None:
            self.put("end", event("gone", {"id": self._run_id}))
            self.end()
            return
        known, before = self._run, self.number
        await self._look_at_log(run, is_first=known is None)
        await self._look_at_calls(run, known)
        self._run = run
        if known is None or before != self.number or _stamp(run) != _stamp(known):
            self.put("run", event("run", listed_run(run), self._position()))
            self._missed.clear()
            self.tell()
        if run.status.is_final:
            self.put("end", event("end", {"status": run.status}, f"{self._position()}.end"))
            self.end()

    def is_known_end(self, last: str) -> bool:
        """Whether this is the id of the end of the run, after which there is nothing."""
        return self.is_over and last == f"{self._position()}.end"

    def first(self) -> bytes:
        """For one who begins: the run as it is, and its end if it is over."""
        return b"".join(piece.data for piece in self.newest("run", "end"))

    async def missed(self, last: str, _: Wanted = EVERYTHING) -> bytes:
        """For one who comes back: what has changed since the event of that id."""
        if last not in self._missed:
            if len(self._missed) >= MOST_MISSED:
                self._missed.clear()
            self._missed[last] = await self._since(last)
        return self._missed[last]

    async def _since(self, last: str) -> bytes:
        run, place = self._run, _place(last)
        if run is None:
            return self.first()
        if place is None or not 0 <= run.turn - place[0] <= MOST_MISSED:
            return self.again()
        turn, lines = place
        calls = await self._engine.storage.load_calls(run.id, turn)
        log = (await self._engine.get_log(run.id))[lines : self._lines]
        if max(len(calls), len(log)) > MOST_MISSED:
            return self.again()
        told = [_line(number, line) for number, line in enumerate(log, lines)]
        told += [event("call", listed_call(call)) for call in calls]
        return b"".join([*told, self.first()])

    async def _look_at_calls(self, run: TaskRun, known: TaskRun | None) -> None:
        if known is not None and run.turn < known.turn:  # a retry has taken a turn back
            self.put("reset", event("reset", {}))
            self._open.clear()
        turn = run.turn if known is None else min(known.turn, run.turn)
        calls = await self._engine.storage.load_calls(run.id, turn)
        stamps = {call.sequence: _call_stamp(call) for call in calls}
        for call in calls:
            if known is not None and self._open.get(call.sequence) != stamps[call.sequence]:
                self.put(f"call {call.sequence}", event("call", listed_call(call)))
        self._open = stamps

    async def _look_at_log(self, run: TaskRun, *, is_first: bool) -> None:
        """A log is read as a whole, so not too often."""
        now = time.monotonic()
        goes_on = run.status == "running" and now < self._log_at + LOG_PACE
        if run.turn == self._log_turn or (goes_on and not is_first):
            return
        self._log_turn, self._log_at = run.turn, now
        log = await self._engine.get_log(run.id)
        if not is_first:
            for number, line in enumerate(log[self._lines :], self._lines):
                self.put(f"line {number}", _line(number, line))
        self._lines = len(log)

    def _position(self) -> str:
        return f"{self._run.turn if self._run else 0}.{self._lines}"


class AllRuns(Channel):
    """The news of all runs. Its ids are `<time of the change>/<id of the run>`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._known: dict[str, TaskRun] = {}
        self._began = ""
        self._looked_at = ""

    def see(self, run_id: str, run: TaskRun | None) -> None:
        """Put down how a run was found; None: it is not there."""
        if run is not None:
            self._note(run)
        elif self._known.pop(run_id, None) is not None:
            self.put(run_id, event("gone", {"id": run_id}), self._engine.now())
        self.tell()

    async def look_around(self) -> None:
        """Look at the newest runs, at those that are not over, and for those that were there.

        The first time it only learns how they stand.
        """
        now = self._engine.now()
        unfinished = await self._engine.list_runs(limit=MOST_MISSED, unfinished=True)
        newest = await self._engine.list_runs(limit=MOST_MISSED)
        seen = {run.id: run for run in (*newest, *unfinished)}
        oldest = newest[-1].id if newest else ""
        away = [
            run_id
            for run_id, run in self._known.items()
            if run_id not in seen and (run_id >= oldest or not run.status.is_final)
        ]
        if not self._began:
            self._began = now
            self._known = {run.id: listed_run(run) for run in seen.values()}
        else:
            recent = times.after(self._looked_at, -SLACK)
            for run in sorted(seen.values(), key=lambda run: run.updated_at):
                if run.id in self._known or run.updated_at >= recent:
                    self._note(run)
        self._looked_at = now
        for run_id in away:
            self.see(run_id, await self._engine.storage.get_task_run(run_id))
        self._known = {run_id: run for run_id, run in self._known.items() if run_id in seen}
        self.tell()

    def first(self) -> bytes:
        """No event, but the id of this moment to come back to."""
        return f"id: {self._engine.now()}/\n\n".encode()

    def again(self) -> bytes:
        return event("reset", {}, f"{self._engine.now()}/")

    async def missed(self, last: str, wanted: Wanted) -> bytes:
        """For one who comes back: the runs that have changed since the event of that id."""
        try:
            moment = times.after(last.partition("/")[0], -SLACK)
        except ValueError:
            return self.again()
        if moment >= self._began and (kept := self.since(moment)) is not None:
            return joined(kept, wanted) or self.first()
        runs = await self._engine.list_runs(limit=MOST_MISSED + 1)
        if len(runs) > MOST_MISSED:  # and older ones may have changed
            return self.again()
        late = [run for run in runs if run.updated_at >= moment]
        late.sort(key=lambda run: run.updated_at)
        return joined([_piece(listed_run(run)) for run in late], wanted) or self.first()

    def _note(self, run: TaskRun) -> None:
        known = self._known.get(run.id)
        if run.config.handler is not None:  # a part of the run of a graph
            return
        if known and (_stamp(known) == _stamp(run) or run.updated_at < known.updated_at):
            return
        piece = _piece(listed_run(run))
        before = {status_kind(known.status)} if known else set()
        self._known[run.id] = listed_run(run)
        self.put(run.id, piece.data, piece.at, piece.kinds | before)


def _piece(run: TaskRun) -> Piece:
    data = event("run", run, f"{run.updated_at}/{run.id}")
    named = frozenset({task_kind(run.task_identifier), status_kind(run.status)})
    return Piece(0, data, run.updated_at, named)


def _stamp(run: TaskRun) -> Stamp:
    return run.updated_at, run.status, run.turn, run.answers, run.wake_at


def _call_stamp(call: StackRun) -> Stamp:
    return call.status, call.attempts, call.due_at, call.updated_at, call.delivered_turn


def _place(last: str) -> tuple[int, int] | None:
    turn, _, lines = last.removesuffix(".end").partition(".")
    if not (turn.isascii() and turn.isdigit() and lines.isascii() and lines.isdigit()):
        return None
    return (int(turn), int(lines)) if len(last) < 40 else None


def _line(number: int, line: LogLine) -> bytes:
    return event("log", {"number": number, "at": line.at, "text": line.text})

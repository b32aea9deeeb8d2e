"""What happens in a run, and in its child runs, while it is driven, on stderr.

What the task prints is passed on as it comes. On a terminal one line below it shows the calls that
are under way; with `--verbose` every step is a line of its own.
"""

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from sequential.cli import output, words
from sequential.cli.render import cut
from sequential.core import times
from sequential.core.model import StackRun, TaskRun
from sequential.runner.progress import Progress, Step

INTERVAL = 0.1  # seconds between two pictures
FIRST = 0.3  # seconds a run may take before there is anything to see
_ERASE = "\r\x1b[K"
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Live:
    """Watches a run: the first that is observed, and those it starts.

    Give `observe` to the engine, and drive the run inside of `shown`. `program` is the name of the
    command line, for what can be typed to answer a run.
    """

    def __init__(self, *, verbose: bool, program: str = "sequential-ecosystem") -> None:
        self.calls = 0  # asked for by the run so far, as far as they were seen
        self._program = program
        self._verbose = verbose
        self._is_terminal = output.is_terminal(sys.stderr)
        self._moves = self._is_terminal and os.environ.get("TERM") not in ("dumb", None)
        self._run: TaskRun | None = None
        self._runs: dict[str, TaskRun] = {}  # it and its child runs, as they were last seen
        self._open: dict[str, StackRun] = {}  # by the id of the call
        self._since: dict[str, float] = {}  # when the attempt of an open call began
        self._asked: set[str] = set()  # the calls whose answer was asked for already
        self._turned = time.monotonic()  # when the program last got something to do
        self._frames = itertools.cycle(_frames())
        self._line_is_open = False  # the task printed the beginning of a line
        self._picture = False

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show progress until the block is left."""
        ticking = asyncio.create_task(self._tick()) if self._moves else None
        try:
            yield
        finally:
            if ticking:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
            self.finish()

    def finish(self) -> None:
        """Leave the cursor on a line of its own."""
        self._erase()
        if self._line_is_open:
            output.err("")
            self._line_is_open = False

    def note(self, text: str) -> None:
        """A line above the picture."""
        self.finish()
        output.hint(text)

    def observe(self, progress: Progress) -> None:
        """Take note of a step."""
        run, call = progress.run, progress.call
        self._runs[run.id] = run
        is_child = self._run is not None and run.id != self._run.id
        if not is_child:
            self._run = run
        if progress.step is Step.ENDED:
            self._forget(run)
        if call:
            if not is_child and run.config.graph is None:  # a graph's notes have numbers, too
                self.calls = max(self.calls, call.sequence + 1)
            self._follow(progress.step, call)
        if progress.step is Step.PRINTED:
            self._print(progress.text)
        elif self._verbose and (line := _told(progress)):
            now = datetime.now().astimezone()
            handler = f".{run.config.handler}" if run.config.handler else ""
            of_task = f"{run.task_identifier}{handler}: " if is_child else ""
            self.note(f"{now:%H:%M:%S} {of_task}{line}")
        if call and progress.step is Step.CALL_WAITING and call.operation == words.EVENT:
            self._ask(run, call)

    def _ask(self, run: TaskRun, call: StackRun) -> None:
        """Say, once, what to type so that a run gets the event it waits for."""
        if call.id in self._asked:
            return
        self._asked.add(call.id)
        typed = words.answers(self._program, run, words.awaited_events([call]))
        self.note(". ".join([f"Waiting for the {words.call_name(call)}", *typed[:1]]))

    def _forget(self, run: TaskRun) -> None:
        """A run is over, and so are its calls, those that nobody waited for included."""
        for call_id in [i for i, call in self._open.items() if call.task_run_id == run.id]:
            del self._open[call_id]
            self._since.pop(call_id, None)

    def _follow(self, step: Step, call: StackRun) -> None:
        self._turned = time.monotonic()
        if step is Step.CALL_SETTLED:
            self._open.pop(call.id, None)
        else:
            self._open[call.id] = call
        if step is Step.CALL_STARTED:
            self._since[call.id] = time.monotonic()
        else:
            self._since.pop(call.id, None)

    def _print(self, text: str) -> None:
        """The task's own words. On a terminal they cannot be more than words."""
        self._erase()
        shown = output.clean_lines(text) if self._is_terminal else text
        output.err(shown, end="")
        self._line_is_open = not text.endswith("\n")

    # --- the line that moves ---------------------------------------------------------------------

    async def _tick(self) -> None:
        await asyncio.sleep(FIRST)
        while True:
            if not self._line_is_open:
                self._draw()
            await asyncio.sleep(INTERVAL)

    def _draw(self) -> None:
        room = output.columns(sys.stderr) - 1
        text = cut(f"{next(self._frames)} {self._state()}", room)
        output.err(f"{_ERASE}{output.style(text, 'cyan', file=sys.stderr)}", end="")
        self._picture = True

    def _erase(self) -> None:
        if self._picture:
            output.err(_ERASE, end="")
            self._picture = False

    def _state(self) -> str:
        """What the run does at this moment."""
        now = times.to_text(datetime.now(UTC))
        run = self._run
        if run is None:
            return "starting"
        under_way = [call for call_id, call in self._open.items() if call_id in self._since]
        if under_way:
            return self._performing(under_way)
        if self._open:
            first = min(self._open.values(), key=_nearness)
            return _pending(self._runs[first.task_run_id], first, now)
        if run.wake_at and times.seconds_between(now, run.wake_at) > 0:
            return _sleeping(run.wake_at, now)
        return f"computing, {time.monotonic() - self._turned:.1f} s"

    def _performing(self, calls: list[StackRun]) -> str:
        first = calls[0]
        run = self._runs[first.task_run_id]
        seconds = time.monotonic() - min(self._since[call.id] for call in calls)
        took = f"{seconds:.1f} s" if seconds < 10 else words.duration(seconds)
        if len(calls) > 1:
            names = ", ".join(words.call_name(call, 40) for call in calls[:3])
            more = f" and {len(calls) - 3} more" if len(calls) > 3 else ""
            return f"{len(calls)} calls, {took}: {names}{more}"
        tries = words.attempt(run, first, first.attempts + 1)
        told = f"call {first.sequence + 1}: {words.call_name(first)}, {took}"
        return f"{told}, {tries}" if tries else told


def _nearness(call: StackRun) -> tuple[bool, bool, str]:
    """What people want to know of first: what happens by itself soon, child runs at last."""
    return call.operation == words.CHILD, call.due_at is None, call.due_at or ""


def _pending(run: TaskRun, call: StackRun, now: str) -> str:
    """A call that waits: for its time, for the next attempt, for somebody else."""
    due = call.due_at or now
    if call.operation in (words.EVENT, words.CHILD):
        waits = "running" if call.operation == words.CHILD else "waiting for the"
        took = words.duration(round(max(times.seconds_between(call.created_at, now), 0.0)))
        return f"{waits} {words.call_name(call)}, {took}; Ctrl-C is safe"
    if not call.attempts:
        return _sleeping(due, now)
    seconds = max(times.seconds_between(now, due), 0.0)
    tries = words.attempt(run, call, call.attempts + 1)
    reason = words.short(words.call_error(call) or "it failed", 80)
    wait = f"in {seconds:.0f} s" if seconds < 60 else f"at {words.moment(due, now)}"
    return f"{words.call_name(call, 40)}: {tries} {wait}, after {reason}"


def _sleeping(until: str, now: str) -> str:
    seconds = max(times.seconds_between(now, until), 0.0)
    left = words.duration(seconds) if seconds >= 10 else f"{seconds:.1f} s"
    told = f"sleeping until {words.moment(until, now)} (in {left})"
    return f"{told}; Ctrl-C is safe" if seconds > 5 else told


def _told(progress: Progress) -> str:
    """A step as a line."""
    run, call = progress.run, progress.call
    now = times.to_text(datetime.now(UTC))
    if call:
        name = f"call {call.sequence + 1} {words.call_name(call)}"
        match progress.step:
            case Step.CALL_STARTED:
                tries = words.attempt(run, call, call.attempts + 1)
                return f"{name}: {tries or 'started'}"
            case Step.CALL_WAITING if call.operation in (words.EVENT, words.CHILD):
                return f"{name}: waiting"
            case Step.CALL_RETRYING | Step.CALL_WAITING:
                return f"call {call.sequence + 1} {_pending(run, call, now)}"
            case _:
                took = f"{call.status} in {words.duration(words.call_time(call))}"
                result = words.call_result(call)
                return f"{name}: {took}{', ' if result else ''}{result}"
    match progress.step:
        case Step.STARTED:
            return (
                f"run {run.id} of {run.task_identifier}: {'started' if not run.turn else 'goes on'}"
            )
        case Step.PARKED:
            return f"parked, {words.waits(run, now)}"
        case Step.ENDED:
            return f"run {run.id} of {run.task_identifier}: {run.status}"
        case _:
            return output.clean(progress.text)


def _frames() -> str:
    """A spinner that the terminal's encoding can show."""
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower()
    return _SPINNER if encoding.startswith("utf") else "|/-\\"

"""What happens in a run while it is driven, on stderr.

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
from sequential.core.model import CallStatus, StackRun, TaskRun
from sequential.runner.progress import Progress, Step

INTERVAL = 0.1  # seconds between two pictures
FIRST = 0.3  # seconds a run may take before there is anything to see
_ERASE = "\r\x1b[K"
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Live:
    """Watches one run. Give `observe` to the engine, and drive the run inside of `shown`."""

    def __init__(self, *, verbose: bool) -> None:
        self.calls = 0  # asked for by the run so far, as far as they were seen
        self._verbose = verbose
        self._is_terminal = output.is_terminal(sys.stderr)
        self._moves = self._is_terminal and os.environ.get("TERM") not in ("dumb", None)
        self._run: TaskRun | None = None
        self._open: dict[int, StackRun] = {}
        self._since: dict[int, float] = {}  # when the attempt of an open call began
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
        self._run = progress.run
        call = progress.call
        if call:
            self.calls = max(self.calls, call.sequence + 1)
            self._follow(progress.step, call)
        if progress.step is Step.PRINTED:
            self._print(progress.text)
        elif self._verbose and (line := _told(progress)):
            now = datetime.now().astimezone()
            self.note(f"{now:%H:%M:%S} {line}")

    def _follow(self, step: Step, call: StackRun) -> None:
        self._turned = time.monotonic()
        if step is Step.CALL_SETTLED:
            self._open.pop(call.sequence, None)
        else:
            self._open[call.sequence] = call
        if step is Step.CALL_STARTED:
            self._since[call.sequence] = time.monotonic()
        else:
            self._since.pop(call.sequence, None)

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
        under_way = [call for number, call in self._open.items() if number in self._since]
        if under_way:
            return self._performing(run, under_way)
        waiting = [call for call in self._open.values() if call.status is CallStatus.PENDING]
        if waiting:
            return _pending(run, min(waiting, key=lambda call: call.due_at or ""), now)
        if run.wake_at and times.seconds_between(now, run.wake_at) > 0:
            return _sleeping(run.wake_at, now)
        return f"computing, {time.monotonic() - self._turned:.1f} s"

    def _performing(self, run: TaskRun, calls: list[StackRun]) -> str:
        first = calls[0]
        seconds = time.monotonic() - min(self._since[call.sequence] for call in calls)
        took = f"{seconds:.1f} s" if seconds < 10 else words.duration(seconds)
        if len(calls) > 1:
            names = ", ".join(words.call_name(call, 40) for call in calls[:3])
            more = f" and {len(calls) - 3} more" if len(calls) > 3 else ""
            return f"{len(calls)} calls, {took}: {names}{more}"
        tries = words.attempt(run, first, first.attempts + 1)
        told = f"call {first.sequence + 1}: {words.call_name(first)}, {took}"
        return f"{told}, {tries}" if tries else told


def _pending(run: TaskRun, call: StackRun, now: str) -> str:
    """A call that waits for its time: a sleep, or the next attempt."""
    due = call.due_at or now
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
            case Step.CALL_RETRYING | Step.CALL_WAITING:
                return f"call {call.sequence + 1} {_pending(run, call, now)}"
            case _:
                took = f"{call.status} in {words.duration(call.duration)}"
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
            return ""
        case _:
            return output.clean(progress.text)


def _frames() -> str:
    """A spinner that the terminal's encoding can show."""
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower()
    return _SPINNER if encoding.startswith("utf") else "|/-\\"

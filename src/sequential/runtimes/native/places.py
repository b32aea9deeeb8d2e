"""Where in the author's own source something happens."""

import asyncio
import linecache
import sys
from types import CodeType, FrameType, TracebackType

from sequential.core.model import Frame
from sequential.runtimes.base import Program

_LONGEST_LINE = 500
ORIGINS = 4  # frames that a coroutine remembers of where it was made
_MOST_FRAMES = 50  # of a traceback; of a longer one the middle is left out


class Places:
    """The files that count as the task's own: `code.py`, and the module a decorated task is in."""

    def __init__(self, program: Program) -> None:
        self._files = {program.filename: program.filename}
        self._lines = program.source.splitlines()
        self._filename = program.filename

    def add(self, code: CodeType, shown: str) -> None:
        """Count the file of this code as the task's own, under a name to show."""
        self._files.setdefault(code.co_filename, shown)

    def of_call(self) -> Frame | None:
        """The innermost line of the task on the stack of whoever asks for a call."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename not in self._files:
            frame = frame.f_back
        if frame is not None:
            return self._frame(frame.f_code.co_filename, frame.f_lineno)
        return self._of_origin()

    def _of_origin(self) -> Frame | None:
        """Where the coroutine was made that became a task, as in `asyncio.gather(fetch(...))`."""
        task = asyncio.current_task() if asyncio._get_running_loop() else None
        origin = getattr(task and task.get_coro(), "cr_origin", None) or ()
        own = [place for place in origin if place[0] in self._files]
        return self._frame(own[0][0], own[0][1]) if own else None

    def of_traceback(self, traceback: TracebackType | None) -> tuple[Frame, ...]:
        """The task's own lines of a traceback, the outermost first."""
        frames = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if code.co_filename in self._files:
                frames.append(self._frame(code.co_filename, traceback.tb_lineno, code.co_name))
            traceback = traceback.tb_next
        half = _MOST_FRAMES // 2
        return tuple(frames if len(frames) <= _MOST_FRAMES else frames[:half] + frames[-half:])

    def _frame(self, filename: str, line: int, function: str = "") -> Frame:
        if filename == self._filename:
            source = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        else:
            source = linecache.getline(filename, line)
        shown = self._files[filename]
        return Frame(shown, line, function=function, source=source.strip()[:_LONGEST_LINE])

"""Where in the author's own source something happens."""

import linecache
import sys
from types import CodeType, FrameType, TracebackType

from sequential.core.model import Frame
from sequential.runtimes.base import Program

_LONGEST_LINE = 500
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
        return None if frame is None else self._frame(frame.f_code.co_filename, frame.f_lineno)

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

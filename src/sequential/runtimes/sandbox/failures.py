"""What went wrong inside the machine, as a record that people can read."""

from collections.abc import Sequence
from typing import cast

from pydantic_monty import (
    ExcType,
    ExternalExceptionData,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from sequential.core.model import Failure, Frame, Limits, evolve
from sequential.runtimes.base import Program
from sequential.runtimes.sandbox.program import source_lines

TASK_FILE = "<python-input-1>"  # the machine's name for what is fed after the prelude
_LONGEST_MESSAGE = 16_384  # characters: an error is kept with its run and shown in lists
_LONGEST_LINE = 500
_MOST_FRAMES = 50  # of a traceback; of a longer one the middle is left out

# Exceptions that the machine can raise inside a task.
KNOWN_TYPES = frozenset(
    (
        "ArithmeticError AssertionError AttributeError BaseException Exception FileExistsError"
        " FileNotFoundError ImportError IndexError IsADirectoryError KeyError KeyboardInterrupt"
        " LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError"
        " NotImplementedError OSError OverflowError PermissionError RecursionError RuntimeError"
        " StopIteration SyntaxError SystemExit TimeoutError TypeError UnboundLocalError"
        " UnicodeDecodeError UnicodeEncodeError ValueError ZeroDivisionError"
    ).split()
)


def raise_in_task(failure: Failure) -> ExternalExceptionData:
    """The machine's form of an exception to raise; unknown types become `RuntimeError`."""
    kind, message = failure.type, failure.message
    if kind not in KNOWN_TYPES:
        kind, message = "RuntimeError", str(failure)
    valid = message.encode("utf-8", "replace").decode()
    return {"exc_type": cast("ExcType", kind), "message": valid}


def place(program: Program, lines: Sequence[str], line: int) -> Frame | None:
    """A line of the task, None when there is no such line."""
    if not 0 < line <= len(lines):
        return None
    return Frame(program.filename, line, source=lines[line - 1].strip()[:_LONGEST_LINE])


def failure_of(error: MontyError, program: Program) -> Failure:
    """The record of an error that ended a program."""
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return Failure(type=type(error).__name__, message=str(error), code="runtime_error")
    native = error.exception()
    message = str(native.args[0]) if native.args else ""
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}... ({len(message)} characters in all)"
    kind = type(native).__name__
    frames = _frames(error, program)
    if limit := _limit(message, program.limits):
        return Failure(type=kind, message=limit, code="limit", traceback=frames)
    if kind == "NotImplementedError" and "does not yet support" in message:
        message = f"{message}; check the task with --dry-run, which lists all such places"
    return Failure(type=kind, message=message, traceback=frames)


def _frames(error: MontyRuntimeError | MontySyntaxError, program: Program) -> tuple[Frame, ...]:
    """The task's own frames: those of the prelude and of the added last line mean nothing to it."""
    lines = source_lines(program.source)
    frames = [
        evolve(frame, column=seen.column, function=seen.function_name or "<module>")
        for seen in error.traceback()
        if seen.filename == TASK_FILE and (frame := place(program, lines, seen.line))
    ]
    half = _MOST_FRAMES // 2
    return tuple(frames if len(frames) <= _MOST_FRAMES else frames[:half] + frames[-half:])


def _limit(message: str, limits: Limits) -> str | None:
    """What a task is told about a limit, with the setting that raises it."""
    known = {
        "turn time limit exceeded": (
            f"the task computed for more than {limits.turn_seconds:g} s between two calls "
            "(limits.turn_seconds)"
        ),
        "feed time limit exceeded": (
            f"the task computed for more than {limits.cpu_seconds:g} s in all (limits.cpu_seconds)"
        ),
        "memory limit exceeded": (
            f"the task needed more than {limits.memory_mb} MiB of memory (limits.memory_mb)"
        ),
        "maximum recursion depth exceeded": (
            f"the task called itself more than {limits.recursion} levels deep (limits.recursion)"
        ),
    }
    return next((text for start, text in known.items() if message.startswith(start)), None)

"""What went wrong inside the machine, as a record that people can read."""

from typing import cast

from pydantic_monty import (
    ExcType,
    ExternalExceptionData,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from sequential.core.model import Failure, Frame, Limits
from sequential.runtimes.base import Program

TASK_FILE = "<python-input-1>"  # the machine's name for what is fed after the prelude

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
    if failure.type in KNOWN_TYPES:
        return {"exc_type": cast("ExcType", failure.type), "message": failure.message}
    return {"exc_type": "RuntimeError", "message": str(failure)}


def failure_of(error: MontyError, program: Program) -> Failure:
    """The record of an error that ended a program."""
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return Failure(type=type(error).__name__, message=str(error), code="runtime_error")
    native = error.exception()
    message = str(native.args[0]) if native.args else ""
    kind = type(native).__name__
    frames = _frames(error, program)
    if limit := _limit(message, program.limits):
        return Failure(type=kind, message=limit, code="limit", traceback=frames)
    if kind == "NotImplementedError" and "does not yet support" in message:
        message = f"{message}; check the task with --dry-run, which lists all such places"
    return Failure(type=kind, message=message, traceback=frames)


def _frames(error: MontyRuntimeError | MontySyntaxError, program: Program) -> tuple[Frame, ...]:
    """The task's own frames: those of the prelude and of the added last line mean nothing to it."""
    lines = program.source.split("\n")
    return tuple(
        Frame(
            file=program.filename,
            line=frame.line,
            column=frame.column,
            function=frame.function_name or "<module>",
            source=lines[frame.line - 1].strip(),
        )
        for frame in error.traceback()
        if frame.filename == TASK_FILE and frame.line <= len(lines)
    )


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

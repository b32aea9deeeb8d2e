"""Exceptions as records, and records as exceptions again."""

import builtins
import sys

from sequential.core.model import Failure
from sequential.runtimes.native.places import Places

_LONGEST_MESSAGE = 16_384  # characters: an error is kept with its run and shown in lists


def failure_of(error: BaseException, places: Places) -> Failure:
    """The record of an exception that ended a program."""
    message = _text(error)
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}... ({len(message)} characters in all)"
    traceback = places.of_traceback(error.__traceback__)
    return Failure(type=type(error).__name__, message=message, traceback=traceback)


def exception_of(failure: Failure, *, is_step: bool = False) -> Exception:
    """The exception that a call's failure is in the program.

    Types of Python itself come back as they are. A step's exception has its own type too, if that
    can be found, with the message and nothing else, so that a replay sees what the first run saw.
    """
    kind = getattr(builtins, failure.type, None)
    if not isinstance(kind, type) and is_step:
        module, _, name = failure.type.rpartition(".")
        kind = getattr(sys.modules.get(module), name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        error: Exception = kind.__new__(kind, failure.message)
        error.args = (failure.message,)
        return error
    return RuntimeError(str(failure))


def _text(error: BaseException) -> str:
    try:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    except Exception:  # its own text may be what is broken
        return "(the exception has no text)"
    return text.encode("utf-8", "replace").decode()

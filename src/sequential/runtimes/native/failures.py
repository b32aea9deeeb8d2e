"""Exceptions as records, and records as exceptions again."""

import builtins
import contextlib
import sys

from sequential.core.error_text import leaves, text_of
from sequential.core.model import Failure
from sequential.runtimes.native.places import Places

# A broken connection, under both names that tasks may catch it by, as in the sandbox.
_NO_CONNECTION = type("OSError", (ConnectionError,), {"__module__": "builtins"})

_LONGEST_MESSAGE = 16_384  # characters: an error is kept with its run and shown in lists


def failure_of(error: BaseException, places: Places) -> Failure:
    """The record of an exception that ended a program."""
    message = text_of(error)
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}... ({len(message)} characters in all)"
    traceback = places.of_traceback(error.__traceback__)
    if not traceback and error.__cause__ is not None:
        traceback = places.of_traceback(error.__cause__.__traceback__)
    if first := next(leaves(error), None):
        traceback += places.of_traceback(first.__traceback__)
    return Failure(type=type(error).__name__, message=message, traceback=traceback)


def exception_of(failure: Failure, *, is_step: bool = False) -> Exception:
    """The exception that a call's failure is in the program, with the failure as `failure`.

    Types of Python itself come back as they are. A step's exception has its own type too, if that
    can be found, with the message and nothing else, so that a replay sees what the first run saw.
    """
    error = _of_its_type(failure, is_step=is_step)
    vars(error)["failure"] = failure
    return error


def _of_its_type(failure: Failure, *, is_step: bool) -> Exception:
    kind = getattr(builtins, failure.type, None)
    if kind is OSError and not is_step:
        kind = _NO_CONNECTION
    if not isinstance(kind, type) and is_step:
        module, _, name = failure.type.rpartition(".")
        kind = getattr(sys.modules.get(module), name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not StopIteration:
        with contextlib.suppress(Exception):  # it cannot be made of a text alone
            return _made_again(kind, failure.message)
    return RuntimeError(str(failure))


def _made_again(kind: type[Exception], message: str) -> Exception:
    """An exception of a type, with a text, whatever its constructor wants to have."""
    error: Exception = kind.__new__(kind, message)
    error.args = (message,)
    if text_of(error) == message:
        return error
    shown = {"__str__": lambda _: message, "__module__": kind.__module__}
    told: type[Exception] = type(kind.__name__, (kind,), shown)
    error = told.__new__(told, message)
    error.args = (message,)
    return error

"""A workflow: a generator, what it asks for next, and at which line of its source."""

import inspect
import linecache
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from sequential.core import values
from sequential.core.model import Call, Frame
from sequential.errors import InvalidTaskError

SAVE = "__save"  # the category under which a save point is recorded


class Request(msgspec.Struct, frozen=True):
    """What a workflow has yielded: a call of a tool, or a save point, which performs nothing."""

    call: Call
    input: Any = None

    @property
    def is_save(self) -> bool:
        return self.call.service == SAVE


class Ended(msgspec.Struct, frozen=True):
    """The workflow has returned."""

    value: Any


class Program:
    """A workflow that is being run, sync or async generator alike."""

    def __init__(self, function: Callable[..., Any], input: Any) -> None:
        running = function(input) if _takes_input(function) else function()
        if not (inspect.isgenerator(running) or inspect.isasyncgen(running)):
            if inspect.iscoroutine(running):
                running.close()
            raise InvalidTaskError(
                f"{getattr(function, '__name__', function)!s} is not a generator function: it must "
                'yield, as in `user = yield {"__tool": ["api", "user", {"id": 1}]}`'
            )
        self._running: Generator[Any, Any, Any] | AsyncGenerator[Any, Any] = running
        self._asked = 0

    @property
    def asked(self) -> int:
        """How many requests it has made."""
        return self._asked

    async def advance(self, answer: Any) -> Request | Ended:
        """Send the answer of the last request (None to begin) and return what comes next.

        An exception of the workflow is raised as it is; `InvalidTaskError` names what may be
        yielded.
        """
        running = self._running
        try:
            if inspect.isgenerator(running):
                yielded = running.send(answer)
            else:
                assert inspect.isasyncgen(running)
                yielded = await running.asend(answer)
        except StopIteration as stop:
            return Ended(stop.value)
        except StopAsyncIteration:
            return Ended(None)
        if inspect.isasyncgen(running) and isinstance(yielded, dict) and [*yielded] == ["__return"]:
            return Ended(yielded["__return"])
        request = self._request(yielded)
        self._asked += 1
        return request

    async def close(self) -> None:
        """End a workflow that pauses here; its `finally` blocks run, as for any generator."""
        try:
            if inspect.isgenerator(self._running):
                self._running.close()
            elif inspect.isasyncgen(self._running):
                await self._running.aclose()
        except RuntimeError as error:
            if "ignored GeneratorExit" not in str(error):
                raise
            raise InvalidTaskError(
                f"{self._place()}: a workflow that pauses here yields again in a `finally` or "
                "`except BaseException` block: put that call behind the block"
            ) from error

    def _request(self, yielded: Any) -> Request:
        where = place_of(self._running)
        match yielded:
            case {"__tool": [str(category), str(name), *rest]} if (
                len(yielded) == 1 and len(rest) <= 1 and category and category != SAVE
            ):
                given = rest[0] if rest else None
                arguments = values.to_json(given, f"the input of {category}.{name}")
                return Request(Call(self._asked, category, name, arguments, where), given)
            case {"__save": True} if len(yielded) == 1:
                return Request(Call(self._asked, SAVE, "point", None, where))
        raise InvalidTaskError(
            f"{self._place()}: yielded {_shown(yielded)}: a workflow may yield "
            '{"__tool": [category, name, input]} or {"__save": True}'
            + (', and {"__return": value} at its end' if not self._is_plain else "")
        )

    @property
    def _is_plain(self) -> bool:
        return inspect.isgenerator(self._running)

    def _place(self) -> str:
        where = place_of(self._running)
        return f"{where.file}:{where.line}"


def place_of(running: Any) -> Frame:
    """The line at which a generator stands, in the innermost one if it delegates."""
    while (inner := getattr(running, "gi_yieldfrom", None)) is not None and hasattr(
        inner, "gi_frame"
    ):
        running = inner
    frame: FrameType | None = getattr(running, "gi_frame", None) or getattr(
        running, "ag_frame", None
    )
    code = getattr(running, "gi_code", None) or getattr(running, "ag_code", None)
    assert code is not None
    line = frame.f_lineno if frame is not None else code.co_firstlineno
    source = linecache.getline(code.co_filename, line).strip()
    file = Path(code.co_filename).name
    return Frame(file=file, line=line, function=code.co_name, source=source)


def _takes_input(function: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a function written in C may not tell
        return True


def _shown(yielded: Any) -> str:
    try:
        text = ascii(yielded)
    except Exception:  # its own text may be what is broken
        text = type(yielded).__name__
    return text if len(text) <= 120 else text[:117] + "..."

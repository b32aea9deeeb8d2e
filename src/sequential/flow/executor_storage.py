"""Where flows are kept: the state of each, and the result of each step apart from it.

A storage of one's own derives from `StepStorage` and has five methods; those that come with the
package are in `executor_storages`.
"""

import abc
import asyncio
import hashlib
import inspect
from typing import Any, TypeAlias
from urllib.parse import quote

from sequential.errors import ConfigError, InvalidNameError

State: TypeAlias = dict[str, Any]

INPUT = -1  # the step under which a flow's input is kept: before the first
_METHODS = ("get", "set", "delete", "get_result", "set_result")
_LONGEST = 150  # characters of an id in a file name or the name of a document


class StepStorage(abc.ABC):
    """A store of flows. States and results are JSON trees; steps count from 0, -1 is the input.

    Processes that share a store need `swap` as one operation of the store; the one of this class
    looks and then writes, which is exact only within one process.
    """

    @abc.abstractmethod
    async def get(self, id: str) -> State | None:
        """The state of a flow, None when there is none."""

    @abc.abstractmethod
    async def set(self, id: str, state: State) -> None:
        """Create or replace the state of a flow."""

    @abc.abstractmethod
    async def delete(self, id: str) -> None:
        """Remove all results of a flow, and then its state; one that is not there is no error."""

    @abc.abstractmethod
    async def get_result(self, id: str, step: int) -> Any:
        """What was stored for a step, None when nothing was."""

    @abc.abstractmethod
    async def set_result(self, id: str, step: int, data: Any) -> None:
        """Create or replace what is stored for a step."""

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        """Replace the state `old` by `new` and store `result`, a step and its data.

        Where there is a result, `old` is a state that nobody else replaces: it names who drives.
        Returns False, having written nothing, when the state is not `old`. After a crash in the
        middle there may be the result without the new state, never the new state alone.
        """
        lock: asyncio.Lock = self.__dict__.setdefault("_swapping", asyncio.Lock())
        async with lock:
            if await self.get(id) != old:
                return False
            if result is not None:
                await self.set_result(id, *result)
            await self.set(id, new)
            return True


class GivenStorage(StepStorage):
    """Any object with the five methods, which may be ordinary functions or coroutines."""

    def __init__(self, given: Any) -> None:
        if missing := [name for name in _METHODS if not callable(getattr(given, name, None))]:
            raise ConfigError(
                f"{type(given).__name__} cannot store flows: it lacks {', '.join(missing)}; derive "
                "from StepStorage, or use one of sequential.flow"
            )
        self._given = given

    async def get(self, id: str) -> State | None:
        state: State | None = await settled(self._given.get(id))
        return state

    async def set(self, id: str, state: State) -> None:
        await settled(self._given.set(id, state))

    async def delete(self, id: str) -> None:
        await settled(self._given.delete(id))

    async def get_result(self, id: str, step: int) -> Any:
        return await settled(self._given.get_result(id, step))

    async def set_result(self, id: str, step: int, data: Any) -> None:
        await settled(self._given.set_result(id, step, data))


async def settled(value: Any) -> Any:
    """The value, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value


def check_flow_id(id: Any) -> str:
    """Return `id` if it may name a flow: 1 to 200 printable characters."""
    if not (isinstance(id, str) and 1 <= len(id) <= 200 and id.isprintable()):
        shown = ascii(id)
        raise InvalidNameError(
            f"not an id of a flow: {shown if len(shown) <= 60 else shown[:57] + '...'}; use 1 to "
            "200 printable characters"
        )
    return id


def safe_name(id: str) -> str:
    """A name of its own for each id, safe in paths and keys, alike in upper and lower case.

    `exec-1` stays as it is. Other characters than lower-case letters, digits and "-_" are written
    as `%2f`; a long name is cut, and told from others by a digest.
    """
    name = "".join(
        one if one in "abcdefghijklmnopqrstuvwxyz0123456789-" or (one == "_" and at) else _code(one)
        for at, one in enumerate(id)
    )
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 33]}~{hashlib.sha256(id.encode()).hexdigest()[:32]}"


def _code(character: str) -> str:
    coded = quote(character, safe="").lower()
    return coded if coded.startswith("%") else f"%{ord(character):02x}"

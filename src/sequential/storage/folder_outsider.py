"""Asking something of a run in the folder store, whoever drives it.

When nobody does, it is done at once under the run's lock. Else the request goes into the inbox, and
whoever gets the lock first carries it out: the one who drives the run, looking into the inbox, or
we, trying for the lock until the request is gone. So it does not matter at which moment the one who
drives the run gives it back. What a process has asked for that died since is carried out as well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sequential.core.model import TaskRun
from sequential.errors import RunBusyError, RunNotFoundError, StorageError
from sequential.storage import folder_inbox
from sequential.storage.folder_inbox import Fate, Request
from sequential.storage.folder_lease import Lease, is_locked
from sequential.storage.folder_places import Places, RunFiles
from sequential.storage.outside import answered, operated

ANSWER_PATIENCE = 2.0  # seconds; an answer is safe in the inbox, nobody needs to wait for more
CHANGE_PATIENCE = 10.0  # seconds until an operator is told that nobody reacts
_PAUSE = 0.01  # seconds between two looks


class Outsider:
    """Asks for the adapter. `do` works in a thread, `write` changes a run under its lock."""

    def __init__(
        self,
        places: Places,
        do: Callable[..., Awaitable[Any]],
        write: Callable[[str, Callable[[Lease], Any]], Any],
        carry_out: Callable[[Lease], None],
        read: Callable[[str], Awaitable[TaskRun]],
    ) -> None:
        self._places = places
        self._do = do
        self._write = write
        self._carry_out = carry_out
        self._read = read

    async def ask(self, run_id: str, request: Request) -> TaskRun:
        """The run with what is asked for; raises what `StorageAdapter.answer` and `change` do."""
        while True:
            try:
                run: TaskRun = await self._do(self._write, run_id, self._applying(request))
                return run
            except RunBusyError:
                place: RunFiles = await self._do(self._places.existing, run_id)
            name = await self._post(place, request)
            match await self._wait(place, name, request):
                case Fate.CARRIED_OUT:
                    return await self._done(place)
                case Fate.WAITING:
                    return await self._give_up(place, name, request)
                case Fate.DAMAGED:
                    raise StorageError(f"what was asked of run {run_id} was damaged: ask again")
                case Fate.REFUSED:  # under the lock the reason is found, or it can be done now
                    await self._do(folder_inbox.clear, place, name)

    def _applying(self, request: Request) -> Callable[[Lease], TaskRun]:
        def apply(lease: Lease) -> TaskRun:
            self._carry_out(lease)
            if request.happening is None:
                run = answered(lease.run, request.event, request.at)
                lease.write(at=request.at, run=run)
            else:
                amendment = operated(lease.run, lease.open_calls(), request.happening, request.at)
                lease.write(at=request.at, run=amendment.run, calls=amendment.updated)
            return lease.run

        return apply

    async def _post(self, place: RunFiles, request: Request) -> str:
        posting = asyncio.ensure_future(self._do(folder_inbox.post, place, request))
        try:
            name: str = await asyncio.shield(posting)
        except asyncio.CancelledError:  # the thread goes on
            await self._do(folder_inbox.withdraw, place, await posting)
            raise
        return name

    async def _wait(self, place: RunFiles, name: str, request: Request) -> Fate:
        """How it went with a request, after a while."""
        patience = CHANGE_PATIENCE if request.happening else ANSWER_PATIENCE
        end = time.monotonic() + patience
        try:
            while True:
                fate: Fate = await self._do(self._look, place, name)
                if fate is not Fate.WAITING or time.monotonic() > end:
                    return fate
                await asyncio.sleep(_PAUSE)
        except (RunNotFoundError, asyncio.CancelledError):
            await self._do(folder_inbox.withdraw, place, name)
            raise

    def _look(self, place: RunFiles, name: str) -> Fate:
        if folder_inbox.fate(place, name) is Fate.WAITING and not is_locked(place):
            try:
                self._write(place.run_id, self._carry_out)
            except RunBusyError:
                pass  # somebody drives it again, and will look into the inbox
        return folder_inbox.fate(place, name)

    async def _done(self, place: RunFiles) -> TaskRun:
        """The run after a request was carried out; one that was stopped is free to be changed."""
        run = await self._read(place.run_id)
        end = time.monotonic() + ANSWER_PATIENCE
        while run.lease_token is None and time.monotonic() < end:
            if not await self._do(is_locked, place):
                break
            await asyncio.sleep(_PAUSE)
        return run

    async def _give_up(self, place: RunFiles, name: str, request: Request) -> TaskRun:
        """Nobody reacts: an answer stays in the inbox, anything else is taken back."""
        if request.happening is None:
            return answered(await self._read(place.run_id), request.event, request.at)
        if await self._do(folder_inbox.withdraw, place, name):
            raise RunBusyError(
                f"the process that drives run {place.run_id} does not react, so nothing was "
                "changed: end that process and try again"
            )
        if await self._do(folder_inbox.fate, place, name) is Fate.CARRIED_OUT:
            return await self._done(place)
        raise RunBusyError(
            f"the process that drives run {place.run_id} has not finished what was asked: look at "
            "the run again in a moment"
        )

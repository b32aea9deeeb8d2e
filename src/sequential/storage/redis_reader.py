"""Reading runs and calls from a Redis server."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sequential.core.model import StackRun, TaskRun
from sequential.core.names import check_run_id
from sequential.errors import DamagedRunError, InvalidNameError, RunNotFoundError
from sequential.storage import redis_records, sql_records
from sequential.storage.base import matches
from sequential.storage.redis_records import Item, Program
from sequential.storage.redis_server import Server

PAGE = 200  # runs that the server looks at without doing something else meanwhile
_IDS = 1000  # ids that come at once
_REMEMBERED = 1000  # programs, most of which many runs share
_INDEXES = {"parent_run_id": "children", "task_identifier": "task", "status": "status"}


def is_run_id(text: str) -> bool:
    try:
        check_run_id(text)
    except InvalidNameError:
        return False
    return True


def split_call_id(call_id: str) -> tuple[str, int] | None:
    """A call's run and number; None when it cannot be the id of one."""
    run_id, _, number = call_id.rpartition(":")
    if is_run_id(run_id) and re.fullmatch("0|[1-9][0-9]{0,17}", number):
        return run_id, int(number)
    return None


class Reader:
    """Makes records from what the server holds, remembering the programs, which never change."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._prefix = server.address.prefix
        self._programs: dict[str, Program] = {}

    async def run(self, run_id: str) -> TaskRun | None:
        """A run with all of its values."""
        if not is_run_id(run_id):
            return None
        cells = await self._server.command("HGETALL", f"{self._prefix}run:{run_id}")
        try:
            return await self.run_of(run_id, cells) if cells else None
        except RunNotFoundError:
            return None

    async def run_of(self, run_id: str, cells: Mapping[bytes, bytes] | Sequence[bytes]) -> TaskRun:
        """The run of its fields; raises `DamagedRunError`, `RunNotFoundError` if it is gone now."""
        if not isinstance(cells, Mapping):
            cells = dict(zip(cells[::2], cells[1::2], strict=True))
        program = await self._program(run_id, redis_records.digest_of(cells))
        return redis_records.run_of(run_id, cells, program)

    async def _program(self, run_id: str, digest: str) -> Program:
        if digest in self._programs:
            return self._programs[digest]
        text = await self._server.command("HGET", f"{self._prefix}programs", digest)
        if text is None:
            if not await self._server.command("EXISTS", f"{self._prefix}run:{run_id}"):
                raise RunNotFoundError(f"there is no run {run_id}")
            raise redis_records.damage(f"run {run_id}", "its program is missing")
        if len(self._programs) >= _REMEMBERED:
            self._programs.clear()
        self._programs[digest] = program = redis_records.program_of(digest, text)
        return program

    async def runs(
        self, filters: Mapping[str, Any], before: str | None, limit: int | None
    ) -> AsyncIterator[TaskRun | DamagedRunError]:
        """Runs, newest first, with notes for their large values, and errors for damaged ones."""
        sql_records.known(TaskRun, filters)
        if "id" in filters:
            async for run in self._runs_by_id(filters, before):
                yield run
            return
        given = {name: _items(wanted) for name, wanted in filters.items() if name in _INDEXES}
        if before == "" or not all(given.values()):
            return
        constraints: list[Item] = redis_records.counted(list(given))
        for items in given.values():
            constraints += redis_records.counted(["" if i is None else _bytes(i) for i in items])
        sets = redis_records.counted(await self._narrowest(given))
        position: Item = _bytes(before or "")
        count = PAGE if limit is None else min(limit, PAGE)
        while True:
            items = ["", "", position, count, PAGE, *sets, *constraints]
            _, position, found = await self._server.run("page", [], items)
            for name, cells in found:
                try:
                    run = await self.run_of(name.decode(), cells)
                    if matches(run, dict(filters)):
                        yield run
                except DamagedRunError as error:
                    yield error
                except RunNotFoundError:
                    continue
            if not position:
                return

    async def _runs_by_id(
        self, filters: Mapping[str, Any], before: str | None
    ) -> AsyncIterator[TaskRun | DamagedRunError]:
        wanted = {item for item in _items(filters["id"]) if isinstance(item, str)}
        for run_id in sorted(wanted, reverse=True):
            try:
                run = await self.run(run_id)
            except DamagedRunError as error:
                yield error
                continue
            if run and (before is None or run_id < before) and matches(run, dict(filters)):
                yield run

    async def _narrowest(self, given: Mapping[str, Sequence[Any]]) -> list[Item]:
        """Of the sets that list runs, those to go through for these filters."""
        choices = [
            [_bytes(f"{_INDEXES[name]}:{item}") for item in dict.fromkeys(items)]
            for name, items in given.items()
            if None not in items
        ]
        if len(choices) < 2:
            return list(choices[0]) if choices else ["ids"]
        start = self._prefix.encode()
        sizes = [
            sum([await self._server.command("ZCARD", start + name) for name in names])
            for names in choices
        ]
        return list(choices[sizes.index(min(sizes))])

    async def ids(self, prefix: str, task: str | None) -> list[str]:
        """Ids that begin like this, sorted."""
        name = _bytes("ids" if task is None else f"task:{task}")
        found: list[str] = []
        position: Item = ""
        while True:
            items = ["", "", name, position, _bytes(prefix), _IDS]
            _, position, ids = await self._server.run("find", [], items)
            found += [run_id.decode() for run_id in ids]
            if not position:
                return found

    async def calls(self, run_id: str) -> list[StackRun]:
        """All calls of a run, in order."""
        if not is_run_id(run_id):
            return []
        texts = await self._server.command("HVALS", f"{self._prefix}calls:{run_id}")
        calls = [redis_records.call_of(text, run_id) for text in texts]
        return sorted(calls, key=lambda call: call.sequence)

    async def call(self, call_id: str) -> tuple[StackRun, bytes] | None:
        """A call and its text."""
        place = split_call_id(call_id)
        if place is None:
            return None
        text = await self._server.command("HGET", f"{self._prefix}calls:{place[0]}", place[1])
        return None if text is None else (redis_records.call_of(text, place[0]), text)


def _items(wanted: Any) -> Sequence[Any]:
    is_list = isinstance(wanted, Sequence) and not isinstance(wanted, str)
    return wanted if is_list else [wanted]


def _bytes(text: Any) -> bytes:
    """For what is looked for: text that is not Unicode is nowhere."""
    return str(text).encode(errors="surrogatepass")

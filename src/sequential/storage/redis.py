"""Storage on a Redis or Valkey server, for any number of machines.

    run:<id>, calls:<id>, turns:<id>, log:<id>, snapshot:<id>    a run and what belongs to it
    tasks, keystore, programs, program_uses                      hashes by name or digest
    ids, task:<name>, status:<status>, children:<id>             which runs there are
    queues, and <kind>:<priority>:<task>                         which runs to look at, and when
    expiring, pending                                            what goes; calls to be performed
    done:<id>                                                    operations that may be repeated

All names begin with the store's prefix. Every change is one script (`lua/`), run by the server as
one command: it looks at all it needs before it writes, so that it does everything or nothing. A
lease is a token and a time in the run's hash; a commit checks the token in its script.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.names import check_run_id, check_task_name
from sequential.errors import (
    DamagedRunError,
    LeaseLostError,
    RunBusyError,
    RunChangedError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage import redis_records, redis_steps, sql_records
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.redis_address import Address, address
from sequential.storage.redis_durability import durability
from sequential.storage.redis_reader import Reader, is_run_id, split_call_id
from sequential.storage.redis_records import Item, utf8
from sequential.storage.redis_server import Server
from sequential.storage.redis_watch import Listener

PATIENCE = 20.0  # seconds for which a server that was lost is waited for
VERSION = 1  # of the layout above
_RUN_KEYS = ("run", "calls", "turns", "log", "snapshot")
_logger = logging.getLogger(__name__)


class Held(NamedTuple):
    """A lease of this process, and the run as it is stored, if that is certain."""

    token: str
    run: TaskRun | None = None


class RedisAdapter(StorageAdapter):
    """Tasks and runs on a Redis or Valkey server.

    `durability` says, once it is open, what of the acknowledged writes survives a power cut.
    """

    def __init__(self, where: Address, patience: float = PATIENCE) -> None:
        super().__init__()
        self.durability = "unknown: the store is not open"
        self._address = where
        self._patience = patience
        self._origin = secrets.token_hex(8)
        self._open: tuple[Server, Reader] | None = None
        self._listener: Listener | None = None
        self._held: dict[str, Held] = {}
        self._returns: set[asyncio.Task[None]] = set()

    async def init(self) -> None:
        if self._open is not None:
            return
        server = Server(self._address, self._patience)
        try:
            key = f"{self._address.prefix}version"
            await server.command("SET", key, VERSION, "NX", patience=0)
            version = (await server.command("GET", key)).decode(errors="replace")
            if version != str(VERSION):
                raise StorageError(
                    f"{self._address.shown} was written by a newer version of this program (its "
                    f"layout is version {version[:20]}, this program knows {VERSION}): update it"
                )
            self.durability, warning = await durability(server)
        except BaseException:
            await server.close()
            raise
        if warning:
            _logger.warning("%s", warning)
        self._open = server, Reader(server)

    async def close(self) -> None:
        if self._open is None:
            return
        server = self._open[0]
        if self._listener:
            await self._listener.close()
            self._listener = None
        server.patience = min(server.patience, 1.0)  # a lease that stays runs out
        releases = [self.release(run_id, held.token) for run_id, held in self._held.items()]
        await asyncio.gather(*releases, *self._returns, return_exceptions=True)
        self._open = None
        await server.close()

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        check_task_name(run.task_identifier)
        check_run_id(run.id)
        word, *_ = await self._run("create", run.id, redis_steps.created(run, self._ttl))
        if word == b"exists":
            raise RunExistsError(f"run {run.id} exists already")
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return await self._reader.run(run_id)

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        sql_records.known(TaskRun, changes)
        old = await self._get(run_id)
        self._forget(run_id)
        items = redis_steps.changed(evolve(old, **changes), changes, self._ttl)
        answer = await self._run("update", run_id, items)
        return await self._reader.run_of(run_id, answer[1])

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        found: list[TaskRun] = []
        if limit is not None and limit <= 0:
            return found
        async for run in self._reader.runs(filters, before, limit):
            if isinstance(run, TaskRun):
                found.append(run)
                if len(found) == limit:
                    break
        return found

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        return await self._reader.ids(prefix, task)

    async def delete_task_run(self, run_id: str) -> None:
        word, *_ = await self._run("delete_run", run_id, [])
        if word == b"busy":
            raise RunBusyError(f"run {run_id} is being driven: wait until it is done")

    async def damaged(self) -> list[str]:
        runs = self._reader.runs({}, None, None)
        return [str(run) async for run in runs if isinstance(run, DamagedRunError)]

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        await self._run("put_call", call.task_run_id, ["", *redis_records.call_items([call])])
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        found = await self._reader.call(call_id)
        return found[0] if found else None

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        sql_records.known(StackRun, changes)
        while True:
            found = await self._reader.call(call_id)
            if found is None:
                raise StorageError(f"there is no call {call_id[:80]}")
            call = evolve(found[0], **changes)
            items = [found[1], *redis_records.call_items([call])]
            try:
                await self._run("put_call", call.task_run_id, items)
                return call
            except RunChangedError:
                continue

    async def delete_stack_run(self, call_id: str) -> None:
        if place := split_call_id(call_id):
            await self._run("drop_call", place[0], [place[1]])

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        sql_records.known(StackRun, filters)
        wanted = filters.get("task_run_id")
        if wanted is None:
            run_ids = await self._reader.ids("", None)
        else:
            run_ids = [wanted] if isinstance(wanted, str) else sorted(set(wanted))
        found: list[StackRun] = []
        for run_id in run_ids:
            found += [c for c in await self._reader.calls(run_id) if matches(c, filters)]
        return found

    async def get_pending_stack_runs(self) -> list[StackRun]:
        ids = await self._server.command("SMEMBERS", f"{self._address.prefix}pending")
        found = [(call_id, await self._reader.call(call_id.decode())) for call_id in ids]
        if gone := [call_id for call_id, call in found if call is None]:  # expired with their runs
            await self._server.command("SREM", f"{self._address.prefix}pending", *gone)
        calls = [call[0] for _, call in found if call]
        return sorted(calls, key=lambda call: (call.created_at, call.sequence))

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        if not is_run_id(run_id):
            return []
        _, texts = await self._run("load_calls", run_id, [after])
        calls = [redis_records.call_of(text, run_id) for text in texts]
        return sorted(calls, key=lambda call: call.sequence)

    # --- task functions and the keystore ---------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        name = check_task_name(function.identifier)
        while True:
            new = function
            text = await self._server.command("HGET", f"{self._address.prefix}tasks", name)
            if text is not None:
                old = redis_records.function_of(text, name)
                same = (old.code, old.config, old.filename)
                if same == (function.code, function.config, function.filename):
                    return old
                new = evolve(function, version=old.version + 1, created_at=old.created_at)
            if await self._swap("tasks", name, text, redis_records.json(new)):
                return new

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        check_task_name(identifier)
        text = await self._server.command("HGET", f"{self._address.prefix}tasks", identifier)
        return None if text is None else redis_records.function_of(text, identifier)

    async def list_task_functions(self) -> list[TaskFunction]:
        texts = await self._server.command("HGETALL", f"{self._address.prefix}tasks")
        names = sorted(name.decode() for name in texts)
        return [redis_records.function_of(texts[name.encode()], name) for name in names]

    async def delete_task(self, identifier: str) -> int:
        check_task_name(identifier)
        word, *rest = await self._call("delete_task", [], [identifier])
        if word == b"gone":
            raise TaskNotFoundError(f"there is no task {identifier}")
        if word == b"busy":
            raise RunBusyError(
                f"run {rest[0].decode()} of {identifier} is being driven: wait until it is done; "
                "if its worker has died, `sequential-ecosystem resume` it first"
            )
        return int(rest[0])

    async def set_keystore(self, key: str, value: str) -> None:
        await self._server.command("HSET", self._keystore, utf8(key), utf8(value))

    async def get_keystore(self, key: str) -> str | None:
        text = await self._server.command("HGET", self._keystore, utf8(key))
        return None if text is None else text.decode()

    async def delete_keystore(self, key: str) -> bool:
        while True:
            text = await self._server.command("HGET", self._keystore, utf8(key))
            if text is None:
                return False
            if await self._swap("keystore", key, text, None):
                return True

    async def list_keystore(self) -> list[str]:
        keys = await self._server.command("HKEYS", self._keystore)
        return sorted(key.decode() for key in keys)

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        items: list[Item] = [snapshot.turn, snapshot.data]
        await self._run("store_snapshot", snapshot.task_run_id, items)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        if not is_run_id(run_id):
            return None
        key = f"{self._address.prefix}snapshot:{run_id}"
        turn, data = await self._server.command("HMGET", key, "turn", "data")
        return None if turn is None or data is None else Snapshot(run_id, int(turn), data)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self._run("append_log", run_id, [redis_records.json(line)])

    async def get_log(self, run_id: str) -> list[LogLine]:
        if not is_run_id(run_id):
            return []
        lines = await self._server.command("LRANGE", f"{self._address.prefix}log:{run_id}", 0, -1)
        return [redis_records.log_line_of(line, run_id) for line in lines]

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        claiming = self._claim(run_id, token, now, until)
        return (await self._shielded(claiming, token))[0]

    async def _claim(self, run_id: str, token: str, now: str, until: str) -> list[TaskRun]:
        answer = await self._run("claim", run_id, [utf8(token), now, until])
        if answer[0] != b"ok":
            raise redis_steps.refusal(run_id, now, answer)
        return [await self._take(run_id, token, answer[1])]

    async def claim_due(  # noqa: PLR0917
        self,
        token: str,
        now: str,
        until: str,
        limit: int,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[TaskRun]:
        return await self._shielded(
            self._claim_due(token, now, until, limit, tasks, without), token
        )

    async def _claim_due(self, token: str, now: str, until: str, limit: int, *names: Any) -> Any:
        items = [utf8(token), now, until, limit, *redis_steps.tasks(*names)]
        _, found = await self._call("claim_due", [], items)
        return [await self._take(run_id.decode(), token, cells) for run_id, cells in found]

    async def _take(self, run_id: str, token: str, cells: Sequence[bytes]) -> TaskRun:
        try:
            run = await self._reader.run_of(run_id, cells)
        except BaseException:
            self._give_back(run_id, token)
            raise
        self._held[run_id] = Held(token, run)
        return run

    async def _shielded(self, claiming: Any, token: str) -> list[TaskRun]:
        """Do not be cancelled in between: nobody would release what was claimed."""
        task: asyncio.Task[list[TaskRun]] = asyncio.ensure_future(claiming)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._give_all_back(done, token))
            raise

    def _give_all_back(self, done: "asyncio.Task[list[TaskRun]]", token: str) -> None:
        if not done.cancelled() and done.exception() is None:
            for run in done.result():
                self._give_back(run.id, token)

    def _give_back(self, run_id: str, token: str) -> None:
        if self._open:
            task = asyncio.ensure_future(self.release(run_id, token))
            self._returns.add(task)
            task.add_done_callback(self._returns.discard)

    async def renew(self, run_id: str, token: str, until: str) -> int:
        _, answers = await self._run("renew", run_id, [utf8(token), until])
        return int(answers)

    async def release(self, run_id: str, token: str) -> None:
        self._drop(run_id, token)
        if is_run_id(run_id):
            await self._run("release", run_id, [utf8(token)])

    async def commit(self, commit: Commit) -> None:
        run = commit.run
        held = self._held.get(run.id)
        known = held.run if held and held.token == commit.token else None
        self._forget(run.id)  # until it is certain that this was written
        try:
            await self._run("commit", run.id, redis_steps.committed(commit, known, self._ttl))
        except LeaseLostError:
            self._drop(run.id, commit.token)
            raise
        if run.status is not Status.RUNNING:
            self._drop(run.id, commit.token)
            self._announce(run.id)
        elif run.lease_token == commit.token:
            self._held[run.id] = Held(commit.token, run)

    def _forget(self, run_id: str) -> None:
        if held := self._held.get(run_id):
            self._held[run_id] = Held(held.token)

    def _drop(self, run_id: str, token: str) -> None:
        if (held := self._held.get(run_id)) and held.token == token:
            del self._held[run_id]

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        self._forget(old.id)
        items = redis_steps.amended(old, amendment, self._ttl)
        _, cells = await self._run("amend", old.id, items)
        self._announce(old.id)
        return await self._reader.run_of(old.id, cells)

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        items = [now, limit, *redis_steps.tasks(tasks, without)]
        _, ids = await self._call("wakeups", [], items)
        return [run_id.decode() for run_id in ids]

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        answer = await self._call("next_wakeup", [], [now, *redis_steps.tasks(tasks, ())])
        return answer[1].decode() if len(answer) > 1 and answer[1] else None

    async def watch(self, changed: Callable[[str], None]) -> None:
        await super().watch(changed)
        if self._listener is None:
            self._listener = Listener(self._server, self._origin, self._announce)
            await self._listener.start()

    # --- inside ----------------------------------------------------------------------------------

    async def _run(self, name: str, run_id: str, items: Sequence[Item]) -> list[Any]:
        """Run a script for a run; raises what its answer means, whatever the operation."""
        if not is_run_id(run_id):
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        keys = [f"{self._address.prefix}{kind}:{run_id}" for kind in _RUN_KEYS]
        answer = await self._call(name, keys, [run_id, *items])
        match answer[0]:
            case b"gone":
                raise RunNotFoundError(f"there is no run {run_id}")
            case b"lost":
                raise LeaseLostError
            case b"changed":
                raise RunChangedError
            case b"missing":
                raise StorageError(f"there is no call {run_id}:{answer[1].decode()}")
        return answer

    async def _call(self, name: str, keys: Sequence[str], items: Sequence[Item]) -> list[Any]:
        operation = secrets.token_hex(12)  # the same if it has to be sent again
        return await self._server.run(name, keys, [operation, self._origin, *items])

    async def _swap(self, name: str, field: str, old: bytes | None, new: bytes | None) -> bool:
        """Change a field of a hash, None for none; False if it is not `old` any more."""
        pairs: list[Item] = []
        for value in (old, new):
            pairs += [0, b""] if value is None else [1, value]
        return bool((await self._call("swap", [], [name, utf8(field), *pairs]))[0] == b"ok")

    @property
    def _server(self) -> Server:
        return self._opened()[0]

    @property
    def _reader(self) -> Reader:
        return self._opened()[1]

    def _opened(self) -> tuple[Server, Reader]:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        return self._open

    @property
    def _ttl(self) -> int:
        return round(self._address.ttl * 1000)

    @property
    def _keystore(self) -> str:
        return f"{self._address.prefix}keystore"


def create(
    location: str = "",
    prefix: str | None = None,
    ttl: float | None = None,
    patience: float = PATIENCE,
) -> RedisAdapter:
    """The factory of `redis://`, `rediss://`, `valkey://` and `redis:unix:///path`.

    `?prefix=` tells stores on one server apart, `ttl` (there, too) is how many seconds finished
    runs are kept (0: for ever), `patience` how many seconds a lost server is waited for.
    """
    return RedisAdapter(address(location, prefix, ttl), patience)

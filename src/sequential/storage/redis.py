"""Storage on a Redis or Valkey server, for any number of machines.

    run:<id>, calls:<id>, turns:<id>, log:<id>, snapshot:<id>    a run and what belongs to it
    tasks, keystore, programs, program_uses                      hashes by name or digest
    documents:<collection>, document_keys:<collection>           documents, and their order
    ids, task:<name>, status:<status>, children:<id>             which runs there are
    queues, and <kind>:<priority>:<task>                         which runs to look at, and when
    expiring, pending                                            what goes; calls to be performed
    done:<id>                                                    operations that may be repeated

All names begin with the store's prefix. Every change is one script (`lua/`), run by the server as
one command: it looks at all it needs before it writes, so that it does everything or nothing. A
lease is a token and a time in the run's hash; a commit checks the token in its script.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    Status,
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
)
from sequential.storage import redis_records, redis_steps, sql_records
from sequential.storage.base import matches
from sequential.storage.redis_address import address
from sequential.storage.redis_open import PATIENCE, Held
from sequential.storage.redis_reader import is_run_id, split_call_id
from sequential.storage.redis_records import Item, utf8
from sequential.storage.redis_tasks import TaskStore


class RedisAdapter(TaskStore):
    """Tasks and runs on a Redis or Valkey server.

    `durability` says, once it is open, what of the acknowledged writes survives a power cut.
    """

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
        try:
            return [await self._take(run_id, token, answer[1])]
        except BaseException:
            self._give_back(run_id, token)
            raise

    async def claim_due(
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
        claimed = []
        for run_id, cells in found:
            try:
                claimed.append(await self._take(run_id.decode(), token, cells))
            except (DamagedRunError, RunNotFoundError):
                continue  # the lease lasts: until then it is in nobody's way
        return claimed

    async def _take(self, run_id: str, token: str, cells: Sequence[bytes]) -> TaskRun:
        run = await self._reader.run_of(run_id, cells)
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
        try:
            _, answers = await self._run("renew", run_id, [utf8(token), until])
        except LeaseLostError:
            self._drop(run_id, token)
            raise
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

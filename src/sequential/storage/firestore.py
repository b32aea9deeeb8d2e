"""Storage in Google's Firestore: nothing to run, any number of processes on any machines.

    <prefix>_runs      a document for each run, with its latest calls and log lines
    <prefix>_parts     values, calls, log lines and snapshots that are too large or too old for it
    <prefix>_tasks, <prefix>_keystore, <prefix>_documents, <prefix>_limits
    <prefix>_left      what is still to be removed

A step is one write of one document (`firestore_runs`), on condition that it is the one that was
read (`firestore_store`). A lease is a token and a time in that document, so who has lost it cannot
write. No composite index is needed unless workers take care of some tasks only.
"""

import asyncio
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

from sequential.core.journal import committed
from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
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
    RunChangedError,
    RunNotFoundError,
    StorageError,
)
from sequential.storage import (
    firestore_claim,
    firestore_lists,
    firestore_parts,
    firestore_search,
    firestore_tasks,
    sql_records,
)
from sequential.storage.base import fence, fields
from sequential.storage.firestore_claim import Lease
from sequential.storage.firestore_connection import PATIENCE, Connection
from sequential.storage.firestore_documents import FirestoreDocuments
from sequential.storage.firestore_place import Place, place_of
from sequential.storage.firestore_runs import Draft
from sequential.storage.firestore_search import Wanted
from sequential.storage.firestore_store import RunDocuments
from sequential.storage.outside import answered

_OPENING = 3.0  # seconds in which a store that does not answer is asked again when it is opened


class FirestoreAdapter(FirestoreDocuments):
    """Tasks and runs in a Firestore database, in collections that begin like `place.prefix`."""

    sweep = 10.0  # every look is billed

    def __init__(self, place: Place, patience: float = PATIENCE) -> None:
        super().__init__()
        self.place = place
        self._patience = patience
        self._open: tuple[RunDocuments, int] | None = None

    async def init(self) -> None:
        if self._open is not None:
            return
        patience = min(self._patience, _OPENING)
        connection = await asyncio.to_thread(Connection, self.place, patience)
        try:
            await firestore_parts.remove_left(connection)
            connection.patience = self._patience
        except BaseException:
            connection.close()
            raise
        self._open = RunDocuments(connection, self._patience), os.getpid()

    async def close(self) -> None:
        if self._open is None:
            return
        runs, process = self._open
        if process != os.getpid():
            return  # a forked process: the channel belongs to its parent
        releases = [self.release(run_id, token) for run_id, token in list(runs.held.items())]
        await asyncio.gather(*releases, return_exceptions=True)  # if it fails, they run out
        self._open = None
        runs.connection.close()

    @property
    def _runs(self) -> RunDocuments:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if self._open[1] != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._open[0]

    @property
    def _connection(self) -> Connection:
        return self._runs.connection

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        check_task_name(run.task_identifier)
        check_run_id(run.id)
        await self._runs.create(run)
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return await self._runs.read(run_id)

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        sql_records.known(TaskRun, changes)

        async def update(draft: Draft) -> TaskRun:
            run = evolve(await self._runs.whole_of(draft), **changes)
            self._runs.set_run(draft, run)
            return run

        return await self._runs.change(run_id, update)

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        sql_records.known(TaskRun, filters)
        found: list[TaskRun] = []
        if limit is not None and limit <= 0:
            return found
        async for run in firestore_lists.search(self._runs, filters, before, limit):
            if isinstance(run, TaskRun):
                found.append(run)
                if len(found) == limit:
                    break
        return found

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        return await firestore_lists.find_ids(self._runs, prefix, task)

    async def delete_task_run(self, run_id: str) -> None:
        if not await firestore_tasks.delete_runs(self._runs, ids=[run_id]):
            raise RunNotFoundError(f"there is no run {run_id[:80]}")

    async def damaged(self) -> list[str]:
        runs = firestore_lists.search(self._runs, {})
        return [str(run) async for run in runs if isinstance(run, DamagedRunError)]

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")

        async def create(draft: Draft) -> None:
            await self._runs.load_pages(draft, [call.sequence])
            draft.put_call(call, is_new=True)

        await self._runs.change(call.task_run_id, create)
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self._runs.call(*_split(call_id))

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        sql_records.known(StackRun, changes)
        run_id, number = _split(call_id)

        async def update(draft: Draft) -> StackRun:
            await self._runs.load_pages(draft, [number])
            call = await self._runs.complete(draft, number)
            if call is None:
                raise StorageError(f"there is no call {call_id[:80]}")
            call = evolve(call, **changes)
            draft.put_call(call, is_new=False)
            return call

        return await self._runs.change(run_id, update)

    async def delete_stack_run(self, call_id: str) -> None:
        run_id, number = _split(call_id)

        async def delete(draft: Draft) -> None:
            await self._runs.load_pages(draft, [number])
            draft.drop_call(number)

        try:
            await self._runs.change(run_id, delete)
        except RunNotFoundError:
            pass

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        sql_records.known(StackRun, filters)
        return await firestore_lists.search_calls(self._runs, filters)

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        return await firestore_lists.late_calls(self._runs, run_id, after)

    # --- task functions and keys -----------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        check_task_name(function.identifier)
        return await firestore_tasks.store(self._connection, function)

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        check_task_name(identifier)
        return await firestore_tasks.get(self._connection, identifier)

    async def list_task_functions(self) -> list[TaskFunction]:
        return await firestore_tasks.list_all(self._connection)

    async def delete_task(self, identifier: str) -> int:
        check_task_name(identifier)
        return await firestore_tasks.delete(self._runs, identifier)

    async def set_keystore(self, key: str, value: str) -> None:
        await firestore_tasks.set_key(self._connection, key, value)

    async def get_keystore(self, key: str) -> str | None:
        return await firestore_tasks.get_key(self._connection, key)

    async def delete_keystore(self, key: str) -> bool:
        return await firestore_tasks.delete_key(self._connection, key)

    async def list_keystore(self) -> list[str]:
        return await firestore_tasks.list_keys(self._connection)

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        async def store(draft: Draft) -> None:
            draft.set_snapshot(snapshot)

        await self._runs.change(snapshot.task_run_id, store)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return await self._runs.snapshot(run_id)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        async def append(draft: Draft) -> None:
            draft.add_line(line)

        await self._runs.change(run_id, append)

    async def get_log(self, run_id: str) -> list[LogLine]:
        return await self._runs.log(run_id)

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        return await firestore_claim.claim(self._runs, run_id, Lease(token, now, until))

    async def claim_due(
        self,
        token: str,
        now: str,
        until: str,
        limit: int,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[TaskRun]:
        lease, wanted = Lease(token, now, until), Wanted(tasks, without)
        return await firestore_claim.claim_due(self._runs, lease, limit, wanted)

    async def renew(self, run_id: str, token: str, until: str) -> int:
        async def renew(draft: Draft) -> int:
            if draft.run.lease_token != token:
                raise LeaseLostError
            draft.is_asserted = True
            draft.set_run(evolve(draft.run, lease_until=until))
            return draft.run.answers

        return await self._runs.change(run_id, renew, token=token)

    async def release(self, run_id: str, token: str) -> None:
        await firestore_claim.release(self._runs, run_id, token)

    async def commit(self, commit: Commit) -> None:
        run_id = commit.run.id

        async def write(draft: Draft) -> None:
            if draft.run.lease_token != commit.token:
                raise LeaseLostError
            calls = [(c, True) for c in commit.requested] + [(c, False) for c in commit.updated]
            await self._runs.load_pages(draft, [call.sequence for call, _ in calls])
            for call, is_new in calls:
                draft.put_call(call, is_new=is_new)
            if commit.log:
                draft.add_line(LogLine(commit.run.updated_at, commit.log))
            if commit.snapshot:
                draft.set_snapshot(commit.snapshot)
            draft.is_asserted = True
            self._runs.set_run(draft, committed(draft.run, commit))

        try:
            await self._runs.change(run_id, write, token=commit.token)
        except LeaseLostError:
            self._drop(run_id, commit.token)
            raise
        if commit.run.status is not Status.RUNNING or commit.run.lease_token != commit.token:
            self._drop(run_id, commit.token)
            self._announce(run_id)

    def _drop(self, run_id: str, token: str) -> None:
        if self._runs.held.get(run_id) == token:
            self._runs.forget(run_id)

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        seen = fields(old)
        changed = {n: v for n, v in fields(amendment.run).items() if v is not seen[n]}

        async def write(draft: Draft) -> TaskRun:
            if fence(draft.run) != fence(old):
                raise RunChangedError
            stored = await self._runs.whole_of(draft)
            sequences = [call.sequence for call in amendment.updated]
            await self._runs.load_pages(draft, [*sequences, *amendment.dropped])
            for call in amendment.updated:
                draft.put_call(call, is_new=False)
            for number in amendment.dropped:
                draft.drop_call(number)
            draft.is_asserted = True
            self._runs.set_run(draft, run := evolve(stored, **changed))
            return run

        run = await self._runs.change(old.id, write)
        self._announce(run.id)
        return run

    async def answer(self, run_id: str, event: RunEvent | None, now: str) -> TaskRun:
        async def write(draft: Draft) -> TaskRun:
            run = answered(await self._runs.whole_of(draft), event, now)
            if run is not draft.run:
                draft.set_run(run)
            return run

        run = await self._runs.change(run_id, write)
        self._announce(run_id)
        return run

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        found = await firestore_claim.due(self._runs, now, limit, Wanted(tasks, without))
        return [run.id for run, _ in found]

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        return await firestore_search.next_wake(self._connection, now, Wanted(tasks, ()))


def _split(call_id: str) -> tuple[str, int]:
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1


def create(
    location: str = "", project: str = "", database: str = "", patience: float = PATIENCE
) -> FirestoreAdapter:
    """The factory of `firestore://<project>/<collection>?database=<name>`."""
    return FirestoreAdapter(place_of(location, project, database), patience)

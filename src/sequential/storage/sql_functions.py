"""Storage in SQL functions: each operation is one function of the database, and one round trip.

The functions are in `sql/postgres/`. Each takes a JSON object and answers in JSON, and does its
work as one transaction. How a call gets to the database is for subclasses to say (`_send`, see
`sql_requests`).
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from typing import Any

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
from sequential.errors import DamagedRunError, LeaseLostError, RunNotFoundError, StorageError
from sequential.storage import sql_arguments, sql_records, sql_steps
from sequential.storage.base import matches
from sequential.storage.sql_arguments import Arguments, Records, Written, split_filters
from sequential.storage.sql_documents import SqlDocuments
from sequential.storage.sql_requests import PATIENCE, request_id
from sequential.storage.sql_steps import Held, Known

_PAGE = 500  # runs in one answer
_FUNCTION = ("identifier", "code", "metadata", "version", "created_at", "updated_at", "filename")


class SqlFunctionsAdapter(SqlDocuments):
    """The whole contract, as calls of SQL functions."""

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._held: dict[str, Held] = {}
        self._records = Records()

    async def close(self) -> None:
        releases = [self.release(run_id, held.token) for run_id, held in self._held.items()]
        await asyncio.gather(*releases, *self._errands, return_exceptions=True)  # or they run out

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        check_task_name(run.task_identifier)
        check_run_id(run.id)
        written = Written()
        arguments = {"run": written.run(run), "program": sql_arguments.program(run)}
        await self._call("create_task_run", {**arguments, **written.rest()}, run.id)
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return self._records.run(await self._call("get_task_run", {"id": run_id}))

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        sql_records.known(TaskRun, changes)
        self._forget_rows(run_id)
        if not changes.keys().isdisjoint(sql_records.PROGRAM):
            return await self._update_program(run_id, changes)
        written = Written()
        arguments = {"id": run_id, "changes": written.cells(run_id, changes), **written.rest()}
        return self._run(await self._call("update_task_run", arguments, run_id), run_id)

    async def _update_program(self, run_id: str, changes: dict[str, Any]) -> TaskRun:
        """Change what a run executes; that is found by a digest of all of it."""
        run = await self.get_task_run(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        written = Written()
        arguments = {"id": run_id, **written.change(evolve(run, **changes), changes)}
        answer = await self._call("update_task_run", arguments | written.rest(), run_id)
        return self._run(answer, run_id)

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        columns, others = split_filters(TaskRun, filters)
        found: list[TaskRun] = []
        size = _PAGE if limit is None or others else limit
        async for run in self._newest(columns, before, size):
            if limit is not None and len(found) >= limit:
                break
            if isinstance(run, TaskRun) and matches(run, others):
                found.append(run)
        return found if limit is None else found[: max(limit, 0)]

    async def _newest(
        self, filters: dict[str, list[Any]], before: str | None, size: int
    ) -> AsyncIterator[TaskRun | DamagedRunError]:
        """Runs page by page; damaged ones, too."""
        size = min(size, _PAGE)
        while size > 0:
            arguments = {"filters": filters, "before": before, "limit": size}
            answer = await self._call("query_task_runs", arguments)
            for run in self._records.runs(answer):
                yield run
            rows: list[Any] = answer["runs"] or []
            if len(rows) < size:
                return
            before = rows[-1]["id"]

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        return await self._call("find_run_ids", {"prefix": prefix, "task": task}) or []

    async def delete_task_run(self, run_id: str) -> None:
        await self._call("delete_task_run", {"id": run_id}, run_id)

    async def damaged(self) -> list[str]:
        runs = self._newest({}, None, _PAGE)
        return [str(run) async for run in runs if isinstance(run, DamagedRunError)]

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        written = Written()
        arguments = {"run": call.task_run_id, "calls": [written.call(call)], **written.rest()}
        await self._call("create_stack_run", arguments, call.task_run_id)
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        run_id, number = _split(call_id)
        answer = await self._call("get_stack_run", {"run": run_id, "sequence": number})
        return next(iter(sql_arguments.calls(answer)), None)

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        sql_records.known(StackRun, changes)
        run_id, number = _split(call_id)
        self._forget_rows(run_id)
        written = Written()
        cells = written.cells(call_id, changes) | {"sequence": number}
        arguments = {"run": run_id, "sequence": number, "calls": [cells], **written.rest()}
        answer = await self._call("update_stack_run", arguments, run_id)
        return sql_arguments.calls(answer)[0]

    async def delete_stack_run(self, call_id: str) -> None:
        run_id, number = _split(call_id)
        self._forget_rows(run_id)
        await self._call("delete_stack_run", {"run": run_id, "sequence": number})

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        columns, others = split_filters(StackRun, filters)
        answer = await self._call("query_stack_runs", {"filters": columns})
        return [call for call in sql_arguments.calls(answer) if matches(call, others)]

    async def get_pending_stack_runs(self) -> list[StackRun]:
        return sql_arguments.calls(await self._call("get_pending_stack_runs", {}))

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        held = self._held.get(run_id)
        known = held.known if held else None
        answer = await self._call("load_calls", {"run": run_id, "after": after})
        calls = sql_arguments.calls(answer)
        if held and known and held.known is known:  # nothing was written meanwhile
            known.calls = {c.sequence: c for c in calls if c.delivered_turn is None} | known.calls
        return calls

    # --- task functions --------------------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        check_task_name(function.identifier)
        arguments: Arguments = {name: getattr(function, name, None) for name in _FUNCTION}
        arguments["metadata"] = sql_records.json_text(function.config)
        return _function(await self._call("store_task_function", arguments))

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        arguments = {"identifier": check_task_name(identifier)}
        row = await self._call("get_task_function", arguments)
        return _function(row) if row else None

    async def list_task_functions(self) -> list[TaskFunction]:
        return [_function(row) for row in await self._call("list_task_functions", {}) or ()]

    async def delete_task(self, identifier: str) -> int:
        arguments = {"identifier": check_task_name(identifier)}
        removed: int = await self._call("delete_task", arguments, identifier)
        return removed

    # --- keystore --------------------------------------------------------------------------------

    async def set_keystore(self, key: str, value: str) -> None:
        await self._call("set_keystore", {"key": key, "value": value})

    async def get_keystore(self, key: str) -> str | None:
        value: str | None = await self._call("get_keystore", {"key": key})
        return value

    async def delete_keystore(self, key: str) -> bool:
        return bool(await self._call("delete_keystore", {"key": key}))

    async def list_keystore(self) -> list[str]:
        return await self._call("list_keystore", {}) or []

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        cells = sql_steps.snapshot_cells(snapshot.turn, snapshot.data)
        arguments = {"run": snapshot.task_run_id, **cells}
        await self._call("store_snapshot", arguments, snapshot.task_run_id)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        row = await self._call("get_snapshot", {"run": run_id})
        return Snapshot(run_id, row["turn"], base64.b64decode(row["data"])) if row else None

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self._call("append_log", {"run": run_id, "at": line.at, "text": line.text}, run_id)

    async def get_log(self, run_id: str) -> list[LogLine]:
        return [LogLine(*row) for row in await self._call("get_log", {"run": run_id}) or ()]

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        arguments = {"id": run_id, "token": token, "now": now, "until": until}
        answer = await self._claiming(token, self._call("claim", arguments, run_id))
        try:
            run = self._run(answer, run_id)
        except DamagedRunError:
            await self.release(run_id, token)
            raise
        self._held[run_id] = Held(token, Known(run))
        return run

    async def claim_due(
        self,
        token: str,
        now: str,
        until: str,
        limit: int,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[TaskRun]:
        arguments = {"token": token, "until": until, **_search(now, limit, tasks, without)}
        answer = await self._claiming(token, self._call("claim_due", arguments))
        # A damaged run keeps the lease until it runs out, so that it is not tried all the time.
        runs = [run for run in self._records.runs(answer) if isinstance(run, TaskRun)]
        self._held |= {run.id: Held(token, Known(run)) for run in runs}
        return runs

    async def _claiming(self, token: str, call: Coroutine[Any, Any, Any]) -> Any:
        """The answer to a claim; if nobody waits for it any more, its leases are given back."""
        claiming = asyncio.ensure_future(call)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(lambda done: self._give_back(token, done))
            raise

    def _give_back(self, token: str, claiming: "asyncio.Future[Any]") -> None:
        if claiming.cancelled() or claiming.exception():
            return
        for row in claiming.result()["runs"] or ():
            self._send_off(self.release(row["id"], token))

    async def renew(self, run_id: str, token: str, until: str) -> int:
        arguments = {"id": run_id, "token": token, "until": until}
        answers: int = await self._call("renew", arguments, run_id)
        return answers

    async def release(self, run_id: str, token: str) -> None:
        self._drop(run_id, token)
        await self._call("release", {"id": run_id, "token": token})

    async def commit(self, commit: Commit) -> None:
        run = commit.run
        held = self._held.get(run.id)
        known, left = held.take(commit.token) if held else (Known(), Known())
        request = request_id()
        try:
            if not await self._commit_turn(commit, known, request):
                arguments = sql_steps.commit_arguments(commit, known, request)
                await self._call("commit", arguments, run.id, request)
        except LeaseLostError:
            self._drop(run.id, commit.token)
            raise
        if run.status is not Status.RUNNING or run.lease_token != commit.token:
            self._drop(run.id, commit.token)
        elif held and held.token == commit.token:
            held.learn(known, left, commit)
        if run.status is not Status.RUNNING:
            self._announce(run.id)

    async def _commit_turn(self, commit: Commit, known: Known, request: str) -> bool:
        """Write a commit in a cheaper way, if there is one; False: call `commit`."""
        return False

    def _drop(self, run_id: str, token: str) -> None:
        held = self._held.get(run_id)
        if held and held.token == token:
            del self._held[run_id]

    def _forget_rows(self, run_id: str) -> None:
        if held := self._held.get(run_id):
            held.known = Known()

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        arguments = sql_steps.amend_arguments(old, amendment)
        self._forget_rows(old.id)
        run = self._run(await self._call("amend", arguments, old.id), old.id)
        self._announce(run.id)
        return run

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        return await self._call("wakeups", _search(now, limit, tasks, without)) or []

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        arguments = {"now": now, "tasks": None if tasks is None else list(tasks)}
        moment: str | None = await self._call("next_wakeup", arguments)
        return moment

    # --- inside ----------------------------------------------------------------------------------

    def _run(self, answer: Any, run_id: str) -> TaskRun:
        run = self._records.run(answer)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        return run


def _search(
    now: str, limit: int, tasks: Sequence[str] | None, without: Collection[str]
) -> Arguments:
    names = None if tasks is None else list(tasks)
    return {"now": now, "limit": max(limit, 0), "tasks": names, "without": list(without)}


def _split(call_id: str) -> tuple[str, int]:
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1


def _function(row: dict[str, Any]) -> TaskFunction:
    return sql_records.function_of([row[name] for name in _FUNCTION])

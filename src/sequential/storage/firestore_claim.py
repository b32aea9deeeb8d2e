"""Who may drive a run, and which runs are waiting for somebody to drive them."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from sequential.core.model import Status, TaskRun, evolve
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    DamagedRunError,
    InvalidTransitionError,
    RunBusyError,
    RunNotFoundError,
    TaskLimitError,
)
from sequential.storage import firestore_search, firestore_values
from sequential.storage.firestore_parts import PartMissingError
from sequential.storage.firestore_runs import CHANGING, Draft, RunDocument
from sequential.storage.firestore_search import RUNS, Wanted, turned
from sequential.storage.firestore_store import RunDocuments
from sequential.storage.firestore_values import MISSING, Condition

LIMITS = "limits"


class Lease(NamedTuple):
    """What a claim asks for."""

    token: str
    now: str
    until: str


async def claim(
    runs: RunDocuments, run_id: str, lease: Lease, known: RunDocument | None = None
) -> TaskRun:
    """Take the lease of a run; see `StorageAdapter.claim`."""

    async def take(draft: Draft) -> TaskRun:
        old = draft.run
        if old.lease_token and (old.lease_until or "") > lease.now:
            raise RunBusyError(
                f"run {run_id} is being driven: its worker has it until {old.lease_until}, "
                "and longer if it goes on; wait for it, or stop that process first"
            )
        happening = Happening(Event.CLAIM, token=lease.token, until=lease.until)
        apply(old, happening, lease.now)  # may it be claimed at all?
        await _hold_to_limit(runs, draft, lease.now)
        run, _ = apply(await runs.whole_of(draft), happening, lease.now)
        draft.set_run(run)
        draft.token = lease.token
        return run

    claiming = asyncio.ensure_future(runs.change(run_id, take, known=known))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        # The commit may be on its way, and nobody would release what it got before its time.
        claiming.add_done_callback(lambda done: _give_back(runs, run_id, lease.token, done))
        raise


async def _hold_to_limit(runs: RunDocuments, draft: Draft, now: str) -> None:
    """Raise `TaskLimitError` if as many others of the task are driven as its limit allows.

    All claims of a task that has a limit also write one document, on condition that nobody else
    has since these others were counted: so of two that come at once, one counts again. Leases that
    have run out do not count, so nothing has to be put right when a worker dies.
    """
    run, connection = draft.run, runs.connection
    if (most := run.config.concurrency) is None:
        return
    name = connection.place.name(LIMITS, run.task_identifier)
    turnstile = (await connection.get([name], ())).get(name)
    if len(await _driven(runs, run.task_identifier, now) - {run.id}) >= most:
        raise TaskLimitError
    version = turnstile.version if turnstile else MISSING
    draft.batch.writes.append(
        firestore_values.put(name, {"run": run.id, "change": draft.batch.change}, version)
    )


async def _driven(runs: RunDocuments, task: str, now: str) -> set[str]:
    """Ids of the runs of a task whose leases last."""
    where = [Condition("task", "==", task), Condition("status", "==", Status.RUNNING.value)]
    running = await runs.connection.find(RUNS, where, fields=("lease_until",))
    return {turned(row.id) for row in running if str(row.fields.get("lease_until") or "") > now}


def _give_back(
    runs: RunDocuments, run_id: str, token: str, claiming: "asyncio.Future[TaskRun]"
) -> None:
    if claiming.cancelled() or claiming.exception() is not None:
        return
    task = asyncio.ensure_future(release(runs, run_id, token))
    runs.background.add(task)
    task.add_done_callback(runs.background.discard)


async def release(runs: RunDocuments, run_id: str, token: str) -> None:
    """Give a lease back, if this token still holds it."""

    async def free(draft: Draft) -> None:
        if draft.run.lease_token == token:
            draft.set_run(evolve(draft.run, lease_token=None, lease_until=None))

    try:
        await runs.change(run_id, free, token=token)
    except RunNotFoundError:
        pass
    finally:
        if runs.held.get(run_id) == token:
            runs.forget(run_id)


async def claim_due(runs: RunDocuments, lease: Lease, limit: int, wanted: Wanted) -> list[TaskRun]:
    """Claim up to `limit` of the runs that are due, in their order; others may get some of them.

    A task at its limit, or a damaged run, does not stand before others.
    """
    claimed: list[TaskRun] = []
    full, seen = set(wanted.without), set[str]()
    while len(claimed) < limit:
        room = limit - len(claimed)
        look = Wanted(wanted.tasks, full, seen)
        ranked = await due(runs, lease.now, room, look, whole=True)
        groups: dict[str, list[tuple[TaskRun, RunDocument | None]]] = {}
        for run, document in ranked:
            limited = run.config.concurrency is not None
            groups.setdefault(run.task_identifier if limited else run.id, []).append(
                (run, document)
            )
        taking = [_claim_in_turn(runs, lease, group, full) for group in groups.values()]
        results = await asyncio.gather(*taking, return_exceptions=True)
        got = {run.id: run for result in results if isinstance(result, list) for run in result}
        claimed += [got[run.id] for run, _ in ranked if run.id in got]
        for result in results:
            if isinstance(result, BaseException) and not claimed:
                raise result
        seen.update(turned(run.id) for run, _ in ranked)
        if len(ranked) < room:
            break
    return claimed


async def _claim_in_turn(
    runs: RunDocuments,
    lease: Lease,
    group: Iterable[tuple[TaskRun, RunDocument | None]],
    full: set[str],
) -> list[TaskRun]:
    claimed: list[TaskRun] = []
    for run, document in group:
        try:
            claimed.append(await claim(runs, run.id, lease, document))
        except TaskLimitError:
            full.add(run.task_identifier)
            break
        except (RunBusyError, RunNotFoundError, InvalidTransitionError, DamagedRunError):
            continue
    return claimed


async def due(
    runs: RunDocuments, now: str, limit: int, wanted: Wanted, *, whole: bool = False
) -> list[tuple[TaskRun, RunDocument | None]]:
    """The runs that are due, in their order; with the documents that a claim needs, if wanted."""
    fields = CHANGING if whole else ("record", "program")
    seen = {*wanted.seen}
    while True:
        known = len(seen)
        look = Wanted(wanted.tasks, wanted.without, seen)
        found = await firestore_search.due(runs.connection, now, limit, look, fields)
        driven: dict[str, int] = {}
        for task, most in found.limited.items():
            room = limit
            if whole:
                driven[task] = len(await _driven(runs, task, now))
                # The mark may be older than a run's own limit: the best one is always looked at.
                room = max(1, min(limit, most - driven[task]))
            found += await firestore_search.due_of(runs.connection, task, now, room, look, fields)
        pairs: list[tuple[TaskRun, RunDocument | None]] = []
        for row in found.rows:
            try:
                document = await runs.open(row)
            except (DamagedRunError, PartMissingError):
                seen.add(row.id)  # it does not stand before others
                continue
            most_of_run = document.run.config.concurrency
            is_full = (
                most_of_run is not None
                and driven.get(document.run.task_identifier, 0) >= most_of_run
            )
            if is_due(document.run, now) and not is_full:
                pairs.append((document.run, document if "changes" in row.fields else None))
        if len(pairs) >= limit or len(seen) == known:
            return sorted(pairs, key=lambda pair: _rank(pair[0]))[:limit]


def is_due(run: TaskRun, now: str) -> bool:
    if run.status is Status.RUNNING:
        return run.lease_until is None or run.lease_until <= now
    return run.wake_at is None or run.wake_at <= now


def _rank(run: TaskRun) -> tuple[int, str, str]:
    return -run.priority, run.wake_at or run.updated_at, run.id

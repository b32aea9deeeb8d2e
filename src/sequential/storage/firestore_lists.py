"""Lists of runs and calls, read page by page."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sequential.core.model import StackRun, TaskRun
from sequential.errors import DamagedRunError
from sequential.storage import firestore_search
from sequential.storage.base import matches
from sequential.storage.firestore_runs import JOURNAL, RECORD, Page
from sequential.storage.firestore_search import RUNS, is_run_id, turned
from sequential.storage.firestore_store import RunDocuments
from sequential.storage.firestore_values import Condition, Found

_PAGE = 200  # documents that are read at once


async def search(
    runs: RunDocuments, filters: dict[str, Any], before: str | None = None, first: int | None = None
) -> AsyncIterator[TaskRun | DamagedRunError]:
    """The runs with these values, newest first, with notes for what is large.

    `first` is how many are wanted, if that is known: so many are read at first.
    """
    async for row in _rows(runs, filters, before, first):
        try:
            run = (await runs.open(row)).run
        except DamagedRunError as error:
            yield error
        else:
            if matches(run, filters) and (before is None or run.id < before):
                yield run


async def _rows(
    runs: RunDocuments, filters: Mapping[str, Any], before: str | None, first: int | None
) -> AsyncIterator[Found]:
    """Documents of runs, newest first; some may not have what the filters say."""
    if "id" not in filters:
        where = firestore_search.conditions(filters)
        async for row in _pages(runs, where, before, RECORD, first):
            yield row
        return
    ids = [filters["id"]] if isinstance(filters["id"], str) else filters["id"]
    names = {runs.name(run_id) for run_id in ids if is_run_id(str(run_id))}
    found = await runs.connection.get(sorted(names), RECORD)
    for name in sorted(found):
        yield found[name]


async def _pages(
    runs: RunDocuments,
    where: Sequence[Condition],
    before: str | None,
    fields: Sequence[str],
    first: int | None = None,
) -> AsyncIterator[Found]:
    last = turned(before) if before and is_run_id(before) else None
    page = min(first or _PAGE, _PAGE)
    while True:
        rows = await runs.connection.find(RUNS, where, behind=last, limit=page, fields=fields)
        for row in filter(firestore_search.is_run, rows):
            yield row
        if len(rows) < page:
            return
        last = rows[-1].id
        page = min(2 * page, _PAGE)


async def find_ids(runs: RunDocuments, prefix: str, task: str | None) -> list[str]:
    """Ids of the runs that begin like this, sorted."""
    where = firestore_search.prefix_conditions(runs.connection, prefix)
    if where is None:
        return []
    rows = await runs.connection.find(RUNS, where, fields=("task",))
    found = [
        row for row in filter(firestore_search.is_run, rows) if task in (None, row.fields["task"])
    ]
    return sorted(turned(row.id) for row in found)


async def search_calls(runs: RunDocuments, filters: dict[str, Any]) -> list[StackRun]:
    """The calls with these values, by run and number."""
    found: list[StackRun] = []
    async for run_id in _runs_with_calls(runs, filters):
        calls = await runs.reading(run_id, JOURNAL, runs.calls)
        found += [call for call in calls or () if matches(call, filters)]
    return sorted(found, key=lambda call: (call.task_run_id, call.sequence))


async def _runs_with_calls(runs: RunDocuments, filters: Mapping[str, Any]) -> AsyncIterator[str]:
    if "task_run_id" in filters:
        wanted = filters["task_run_id"]
        for run_id in [wanted] if isinstance(wanted, str) else wanted:
            yield run_id
        return
    seen: set[str] = set()
    for where in firestore_search.waiting_conditions(filters.get("status")):
        async for row in _pages(runs, where, None, ()):
            if row.id not in seen:
                seen.add(row.id)
                yield turned(row.id)


async def late_calls(runs: RunDocuments, run_id: str, after: int) -> list[StackRun]:
    """The calls that were not delivered by turn `after`; other pages are not read."""

    def is_needed(page: Page) -> bool:
        return page.is_open or page.newest > after

    async def late(found: Found) -> list[StackRun]:
        calls = await runs.calls(found, is_needed)
        return [c for c in calls if c.delivered_turn is None or c.delivered_turn > after]

    return await runs.reading(run_id, JOURNAL, late) or []

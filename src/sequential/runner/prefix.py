"""The run that is meant by the beginning of its id."""

from collections.abc import Awaitable, Callable

from sequential.core.model import TaskRun
from sequential.errors import AmbiguousRunError, RunNotFoundError
from sequential.storage.base import StorageAdapter

MOST_ALIKE = 20  # runs whose ids begin alike, that are looked at to see which one is meant


async def id_with_prefix(
    storage: StorageAdapter,
    get_run: Callable[[str], Awaitable[TaskRun]],
    prefix: str,
    task: str | None,
) -> str:
    """The only id that begins so, among those of `task` if one is given.

    Raises `RunNotFoundError`, and `AmbiguousRunError` that lists the runs it could be.
    """
    found = await storage.find_run_ids(prefix, task)
    of_task = f" of {task}" if task else ""
    if not found:
        raise RunNotFoundError(f"there is no run{of_task} that begins with {prefix}")
    if 1 < len(found) <= MOST_ALIKE:  # the first handler of a graph begins with its run
        alike = [await get_run(run_id) for run_id in found]
        found = [run.id for run in alike if run.config.handler is None] or found
    if len(found) > 1:
        listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise AmbiguousRunError(f"{len(found)} runs{of_task} begin with {prefix}: {listed}")
    return found[0]

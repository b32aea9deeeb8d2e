"""Ending asyncio tasks for certain."""

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN = 0.5  # seconds after which a task is told once more


def is_cancelled(error: BaseException) -> bool:
    """Whether the task that runs here was cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


async def cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait until they have ended, whatever comes of them.

    A task may not listen the first time: up to Python 3.11 `asyncio.wait_for`, and with it many a
    library, forgets a cancellation that comes at the same moment as what it waits for.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # or asyncio reports that nobody asked for it

"""A process that takes steps of flows: one JSON object per line tells it what to do, one answers.

    python flow_actor.py <place> [<number>]

With a number the process ends by SIGKILL as soon as its n-th call of the storage is done. `later`
in a wish sets its clock forward by so many seconds.
"""

import asyncio
import inspect
import json
import os
import signal
import sys
from datetime import datetime, timedelta
from typing import Any

from sequential.errors import SequentialError
from sequential.flow import SequentialFlow
from sequential.runner.clock import SystemClock
from support.flow_places import opened

METHODS = (
    *("save", "load", "delete", "swap"),
    *("create_task_run", "get_task_run", "store_task_function", "get_task_function"),
    *("claim", "commit", "load_calls", "get_snapshot", "release", "change", "delete_task_run"),
)


def kill_after(storage: Any, number: int) -> None:
    """Have the n-th call of a storage end this process."""
    count = 0

    def patched(real: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            value = await real(*args, **kwargs)
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        return call

    for name in METHODS:
        real = getattr(storage, name, None)
        if inspect.iscoroutinefunction(real):
            setattr(storage, name, patched(real))


class LaterClock(SystemClock):
    """The clock of a machine that looks again after a while."""

    later = timedelta()

    def now(self) -> datetime:
        return super().now() + self.later


async def act(storage: Any, wish: dict[str, Any]) -> dict[str, Any] | None:
    LaterClock.later = timedelta(seconds=wish.pop("later", 0))
    try:
        match wish:
            case {"execute": spec}:
                task = await SequentialFlow.execute(spec, storage=storage)
            case {"resume": task_id, "response": response, "request_id": request_id}:
                task = await SequentialFlow.resume(
                    task_id, response, request_id=request_id, storage=storage
                )
            case {"go_on": task_id}:
                task = await SequentialFlow.resume(task_id, storage=storage)
            case {"get": task_id}:
                found = await SequentialFlow.get_task(task_id, storage=storage)
                return None if found is None else found.to_dict()
            case _:
                raise AssertionError(wish)
        return task.to_dict()
    except SequentialError as error:
        return {"refused": type(error).__name__, "message": str(error)}


async def main(place: str, kill: int) -> None:
    SequentialFlow.clock = LaterClock()
    async with opened(place) as storage:
        if kill:
            kill_after(storage, kill)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(await act(storage, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

"""Asks things of runs in the folder store again and again, killed at every system call that writes.

`python -m support.killing_inbox <role> <folder>` makes `<folder>/<number>-<mode>/tasks` for every
such call and prints a JSON object: for each of these folders, how many steps had been acknowledged.
The roles are who is killed: `direct`, who changes a run that nobody drives; `outsider`, who asks
something of a run that another process drives; `holder`, who drives the run and is asked;
`remover`, who deletes a run.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from sequential.core.model import Commit, Snapshot, Status, evolve
from sequential.core.transitions import Event, Happening
from sequential.storage import folder, folder_inbox, folder_outsider
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_inbox import Request
from sequential.testing.storage_contract import LATER, NOW, SOON, answer, new_call
from support.killing import LARGE, RUN, killing

Role = Callable[[Path], AsyncIterator[int]]
MODES = ("before", "within", "after")


def request(number: int) -> Request:
    """An event, or for even numbers a mere wake-up, which nothing else would keep from counting."""
    return Request(RUN.id, NOW, event=answer(number) if number % 2 else None)


async def direct(tasks: Path) -> AsyncIterator[int]:
    adapter = FolderAdapter(tasks)
    await adapter.answer(RUN.id, answer(1), NOW)
    yield 1
    await adapter.answer(RUN.id, None, NOW)
    yield 2
    await adapter.change(RUN.id, Happening(Event.CANCEL), SOON)
    yield 3


async def outsider(tasks: Path) -> AsyncIterator[int]:
    adapter = FolderAdapter(tasks)
    for number in (1, 2):
        await adapter.answer(RUN.id, request(number).event, NOW)
        yield number


async def holder(tasks: Path) -> AsyncIterator[int]:
    """Finds two requests at its claim, one while it drives and one when it parks the run."""
    adapter = FolderAdapter(tasks)
    place = adapter.places.existing(RUN.id)
    run = await adapter.claim(RUN.id, "token", NOW, SOON)
    yield 1
    folder_inbox.post(place, request(3))
    yield 2
    adapter._look_into_inboxes()
    yield 3
    folder_inbox.post(place, request(4))
    yield 4
    parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(evolve(parked, turn=1), "token", taken=("event-1",)))
    yield 5


async def remover(tasks: Path) -> AsyncIterator[int]:
    """Deletes a run that somebody has asked something of."""
    await FolderAdapter(tasks).delete_task_run(RUN.id)
    yield 1


async def prepare(role: str, tasks: Path) -> FolderAdapter:
    """The run as the one who is killed finds it; what the adapter holds stays locked."""
    adapter = FolderAdapter(tasks)
    await adapter.create_task_run(evolve(RUN, status=Status.SUSPENDED))
    await adapter.create_stack_run(new_call(RUN, 0))
    if role == "outsider":
        await adapter.claim(RUN.id, "token", NOW, LATER)
    if role == "remover":
        await adapter.update_task_run(RUN.id, result=LARGE)
        await adapter.store_snapshot(Snapshot(RUN.id, 0, b"state"))
    if role in {"holder", "remover"}:
        for number in (1, 2):
            folder_inbox.post(adapter.places.existing(RUN.id), request(number))
    return adapter


def run_killed(role: Role, tasks: Path, number: int, mode: str) -> tuple[int, bool]:
    """The number of acknowledged steps, and whether the role came to its end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        tell = os.write

        async def run() -> None:
            async for step in role(tasks):
                tell(writing, bytes([step]))

        killing(number, mode)
        asyncio.run(run())
        os._exit(0)
    os.close(writing)
    acknowledged = b""
    while more := os.read(reading, 100):
        acknowledged += more
    os.close(reading)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return len(acknowledged), os.WIFEXITED(status)


def main(role: str, place: Path) -> None:
    folder._ASKED = 1000.0  # the holder looks when the scenario says so
    folder_outsider.ANSWER_PATIENCE = 0.0
    roles: dict[str, Role] = {
        "direct": direct,
        "outsider": outsider,
        "holder": holder,
        "remover": remover,
    }
    results: dict[str, int] = {}
    for mode in MODES:
        for number in range(1, 1000):
            tasks = place / f"{number}-{mode}" / "tasks"
            adapter = asyncio.run(prepare(role, tasks))
            steps, ended = run_killed(roles[role], tasks, number, mode)
            results[tasks.parent.name] = steps
            adapter._look_into_inboxes()
            asyncio.run(adapter.close())
            if ended:
                break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

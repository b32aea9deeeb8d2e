"""A process that writes a run: `python -m support.writing_postgres <url> <turns>`.

It prints the id of its run and, for each turn that was acknowledged, the turn's number.
"""

import asyncio
import sys

from sequential.core.model import Commit, Snapshot, evolve
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import NOW, SOON, delivered, new_call, new_run


async def write(url: str, turns: int) -> None:
    adapter = await create_adapter(url)
    run = await adapter.create_task_run(new_run())
    print(run.id, flush=True)
    run = await adapter.claim(run.id, "token", NOW, SOON)
    last = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (last,)))
    for turn in range(1, turns + 1):
        run = evolve(run, turn=turn)
        new = new_call(run, turn, input={"text": "x" * 100_000 * (turn % 3 == 0)})
        snapshot = Snapshot(run.id, turn, b"state" * 1000) if turn % 10 == 0 else None
        done = delivered(last, turn)
        await adapter.commit(Commit(run, "token", (new,), (done,), f"{turn}\n", snapshot))
        print(turn, flush=True)
        last = new
    await adapter.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2])))

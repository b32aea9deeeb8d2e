"""The function under test, as one would deploy it; tests kill it or freeze it where it hurts.

`KILL_AT=5` kills this process just before the fifth thing that outlives it: a change in the store,
a call of a service, a request for the next hop. With `HOLD_AT=5` it waits there until somebody has
opened the pipe `HOLD` for writing and closed it again.
"""

import os
import signal
from pathlib import Path
from typing import Any

from sequential.edge import Edge, aws, fire
from sequential.services.base import CallContext
from sequential.services.local import LocalService
from sequential.storage.postgres import PostgresAdapter
from sequential.storage.sqlite import SqliteAdapter

LEDGER = Path(os.environ.get("LEDGER", os.devnull))
DURABLE = ("create_task_run", "claim", "commit", "amend", "answer", "release")

tool = LocalService("tool")


@tool.method()
async def echo(x: int, context: CallContext) -> int:
    counted()
    with LEDGER.open("a") as file:
        file.write(context.idempotency_key + "\n")
    return x


class Count:
    reached = 0


def counted() -> None:
    Count.reached += 1
    if Count.reached == int(os.environ.get("KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    if Count.reached == int(os.environ.get("HOLD_AT", "0")):
        Path(os.environ["HOLD"]).read_bytes()


def counting(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    async def count(*args: Any, **kwargs: Any) -> Any:
        counted()
        return await original(*args, **kwargs)

    setattr(owner, name, count)


for name in DURABLE:
    counting(SqliteAdapter, name)
    counting(PostgresAdapter, name)
counting(fire, "post")

edge = Edge(
    os.environ["STORE"],
    project=os.environ["PROJECT"],
    services=[tool],
    token="let-me-in",
    secret="nobody knows",
    budget=float(os.environ.get("BUDGET", "0")),
    lease=float(os.environ.get("LEASE", "15")),
)
handler = aws.handler(edge)

"""A process that drives one run of a task that uses an HTTP library, for tests that kill it.

    python http_victim.py <storage> start <input as JSON>    with the source on its standard input
    python http_victim.py <storage> resume

It prints the result as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core.model import TaskConfig, TaskRun
from sequential.errors import RunBusyError
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.http_settings import HttpSettings


async def _drive(engine: Engine, action: str, *more: str) -> TaskRun:
    if action == "start":
        config = TaskConfig(name="job", runtime="native")
        await engine.store_task("job", sys.stdin.read(), config)
        return await engine.run("job", json.loads(more[0]))
    (run,) = await engine.list_runs("job")
    while True:
        try:
            return await engine.resume(run.id)
        except RunBusyError:  # the lease of the process that was killed has not run out
            await asyncio.sleep(0.05)


async def main(storage: str, *arguments: str) -> Any:
    """Drive the run to its end; its result."""
    settings = Settings(
        project=Path(storage.partition(":")[2]).parent,
        adaptor=storage,
        runner=RunnerSettings(native=True, lease=1),
        http=HttpSettings(allow_loopback=True),
    )
    async with Engine(settings=settings) as engine:
        run = await _drive(engine, *arguments)
        assert run.error is None, run.error
        return run.value


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))

"""Drives runs of a folder project: `python racer.py <project> <run id>...`.

Prints "ready", waits for a line, and prints what became of each run as JSON: its status, or "busy".
"""

import asyncio
import json
import sys
from pathlib import Path

from sequential.config import load_settings
from sequential.errors import RunBusyError
from sequential.runner.engine import Engine


async def drive(engine: Engine, run_id: str) -> str:
    try:
        return str((await engine.resume(run_id)).status)
    except RunBusyError:
        return "busy"


async def main(project: Path, run_ids: list[str]) -> None:
    settings = load_settings(project, environment={}, allow_loopback=True)
    async with Engine(settings=settings) as engine:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        became = await asyncio.gather(*[drive(engine, run_id) for run_id in run_ids])
    print(json.dumps(dict(zip(run_ids, became, strict=True))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))

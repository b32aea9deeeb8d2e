"""What a short-lived function costs: its cold start, split by part, and a hop when it is warm."""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.table import milliseconds, show
from support.postgres_server import postgres_server

ROUNDS = 9
HOPS = 200
PARTS = ("python", "import", "open the store", "create", "a turn and save", "all", "of it CPU")

# One invocation, as a platform makes it of a function that was never called: `start` tells when the
# process was begun. The second one, of the same process, is warm.
FUNCTION = """
import sys, time
times = [float(sys.argv[1]), time.time()]
import asyncio
from sequential.edge import Edge, aws
place = {"project": sys.argv[3], "base_url": "https://f.example"}
edge = Edge(sys.argv[2], **place, token="t", budget=0, fire=lambda run_id: None)
handler = aws.handler(edge)
times.append(time.time())

async def first():
    engine = await edge._warm.get()
    times.append(time.time())
    run = await engine.create_run("hello")
    times.append(time.time())
    return await edge.hops.resume(run.id)

run = edge._bridge.run(first())
times.append(time.time())
busy = time.process_time()
assert run.turn == 1, run
for _ in range(int(sys.argv[4])):
    edge._bridge.run(edge.hops.resume(run.id))
times.append(time.time())
print(*times, busy)
"""
TASK = """
async def hello():
    total = 0
    for number in range(10_000):
        total += len(await services.edge.link("x"))
    return total
"""
DEPLOY = """
import asyncio, sys
from pathlib import Path
from sequential import Engine, TaskConfig, load_settings

async def main():
    settings = load_settings(Path(sys.argv[2]), adaptor=sys.argv[1])
    async with Engine(settings=settings) as engine:
        await engine.store_task("hello", sys.argv[3], TaskConfig(name="hello"))

asyncio.run(main())
"""


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    with postgres_server(durable=True) as server:
        yield {"SQLite": f"sqlite:{folder / 'runs.db'}", "PostgreSQL": server.url}


def compiled(folder: Path) -> dict[str, str]:
    """The environment of a function that was deployed with its byte code, as it should be."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def invoke(store: str, folder: Path, hops: int) -> list[float]:
    """Seconds for each part, in all, of the processor, and for a warm hop at the end."""
    command = [sys.executable, "-c", FUNCTION, str(time.time()), store, str(folder), str(hops)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=compiled(folder)
    )
    *times, busy = (float(word) for word in done.stdout.split())
    parts = [end - start for start, end in itertools.pairwise(times)]
    warm = parts.pop() / max(hops, 1)
    return [*parts, sum(parts), busy, warm]


def slowest_imports(folder: Path) -> list[list[str]]:
    """The modules that take longest to import, each without those it imports."""
    code = "from sequential.edge import aws; import sequential.storage.sqlite"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=compiled(folder)
    )
    rows = [line.split("|") for line in done.stderr.splitlines()[1:] if line.count("|") == 2]
    taken = [(int(row[0].rpartition(":")[2]), row[2].strip()) for row in rows]
    return [[name, milliseconds(own / 1e6)] for own, name in sorted(taken, reverse=True)[:8]]


def main() -> None:
    with tempfile.TemporaryDirectory() as name, stores(folder := Path(name)) as places:
        (folder / ".sequentialrc.json").write_text("{}")
        rows, warm = [], []
        for label, store in places.items():
            deploy = [sys.executable, "-c", DEPLOY, store, name, TASK]
            subprocess.run(deploy, check=True, cwd=folder)
            found = [invoke(store, folder, 0) for _ in range(ROUNDS + 1)][1:]  # caches are full
            medians = [statistics.median(column) for column in zip(*found, strict=True)][:-1]
            rows.append([label, *map(milliseconds, medians)])
            warm.append([label, milliseconds(invoke(store, folder, HOPS)[-1])])
        imports = slowest_imports(folder)
    show(f"Cold start of a function, ms (medians of {ROUNDS})", ["store", *PARTS], rows)
    show(f"A warm hop: load, one turn, save, ms (of {HOPS})", ["store", "ms"], warm)
    show("Imports that take longest by themselves, ms", ["module", "ms"], imports)


if __name__ == "__main__":
    main()

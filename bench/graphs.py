"""What a transition of a graph costs on each store, beside a step of a plain task.

An event leads on at once. A handler is a run of its own: it is created, claimed, driven to its end,
and its result taken by the graph. Everything is durable, in one process.
"""

import asyncio
import json
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.engines import engine
from bench.statechart import ring, seconds, sending
from bench.stores import opened
from bench.table import microseconds, show
from sequential.core.model import RunEvent, TaskConfig
from sequential.runner.engine import Engine
from sequential.storage.registry import create_adapter

STEPS = 300
HANDLERS = 60
TOGETHER = 20  # events that wait for a run when it is driven
ROUNDS = 3
LONG = 10_000  # transitions of one run, in memory

COUNT = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
HANDLER = "def work(input):\n    return 1\n"


def handled(times: int) -> dict[str, Any]:
    """A state that runs its handler so many times."""
    enough = {"target": "over", "guard": {"$expr": f"context.n >= {times}"}}
    return {
        "initial": "work",
        "context": {"n": 0},
        "states": {
            "work": {"invoke": {"src": "work", "onDone": {"target": "next", "actions": COUNT}}},
            "next": {"always": [enough, "work"]},
            "over": {"type": "final"},
        },
    }


async def send(made: Engine, run_id: str, number: int) -> float:
    """Seconds per event, without those it takes to send them."""
    passed = 0.0
    for _ in range(number // TOGETHER):
        for _ in range(TOGETHER):
            await made.storage.answer(run_id, _event(made), made.now())
        begun = time.perf_counter()
        await made.drive(run_id)
        passed += time.perf_counter() - begun
    return passed / number


def _event(made: Engine) -> RunEvent:
    return RunEvent(secrets.token_hex(8), "NEXT", made.now())


async def waiting(made: Engine) -> str:
    """A run in a ring of states that waits for events."""
    await made.store_task("ring", "", TaskConfig(name="ring", graph=json.dumps(ring(3))))
    run = await made.create_run("ring")
    await made.drive(run.id)
    return run.id


async def costs(url: str) -> dict[str, float]:
    """Seconds per step of a plain task, per event, and per handler on both runtimes."""
    async with engine(await create_adapter(url)) as made:
        await made.run("job", {"steps": 1})  # starts the sandbox
        begun = time.perf_counter()
        await made.run("job", {"steps": STEPS})
        found = {"step of a plain task": (time.perf_counter() - begun) / STEPS}
        found["event"] = await send(made, await waiting(made), STEPS)
        for kind in ("native", "sandbox"):
            graph = json.dumps(handled(HANDLERS))
            config = TaskConfig(name="handled", runtime=kind, graph=graph)
            await made.store_task("handled", HANDLER, config)
            begun = time.perf_counter()
            run = await made.run("handled")
            assert run.error is None, run.error
            found[f"handler, {kind}"] = (time.perf_counter() - begun) / HANDLERS
        return found


async def long_run() -> None:
    async with engine(await create_adapter("memory:")) as made:
        run_id = await waiting(made)
        thousands = [await send(made, run_id, 1_000) for _ in range(LONG // 1_000)]
    rows = [
        ["first 1,000", microseconds(thousands[0]), ""],
        ["last 1,000", microseconds(thousands[-1]), f"{thousands[-1] / thousands[0]:.2f}x"],
    ]
    show("10,000 transitions of one run, in memory", ["", "us each", "to the first"], rows)


def main() -> None:
    alone = min(seconds(sending(ring(3), as_text=True)) for _ in range(ROUNDS))
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as stores:
        for _ in range(ROUNDS):  # in turn, because the machine's speed drifts
            for label, store in stores.items():
                for what, cost in asyncio.run(costs(store.url)).items():
                    found.setdefault(label, {}).setdefault(what, []).append(cost)
    rows = [["interpreter alone, through JSON", microseconds(alone), ""]]
    for label, costs_ in found.items():
        base = costs_["step of a plain task"]
        for what, all_ in costs_.items():
            ratio = statistics.median(a / b for a, b in zip(all_, base, strict=True))
            rows.append(
                [f"{label}: {what}", microseconds(statistics.median(all_)), f"{ratio:.1f}x"]
            )
    show(f"Transitions of graphs (medians of {ROUNDS} rounds)", ["", "us", "to a step"], rows)
    asyncio.run(long_run())


if __name__ == "__main__":
    main()

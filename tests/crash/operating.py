"""Drives a run with events, children and operators in a process that kills itself.

    python operating.py <folder> <adaptor> <shape>

For n = 1, 2, 3, ... a forked child plays a scene on a fresh run and kills itself with SIGKILL
after its n-th operation of the store that writes. A second child plays the scene to its end. One
line of JSON per n is printed; the loop ends when a child has come to the end without reaching n.
What the task's calls have done is in a file of its own, with the keys they were given.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sequential.config import load_settings
from sequential.core.model import Status, TaskConfig, TaskRun
from sequential.errors import SequentialError
from sequential.runner.engine import Engine
from sequential.services.base import CallContext

# What every child would import anew, and slowly.
IMPORTED = (
    "sequential.runtimes.{kind}.runtime",
    "sequential.runtimes.graph.runtime",
    "sequential.services.built_in",
    "sequential.services.gapi",
    "sequential.services.http",
    "sequential.services.local",
    "sequential.storage.{store}",
)

OPERATIONS = (
    "claim", "renew", "release", "commit", "amend", "create_task_run", "store_snapshot", "change",
)  # fmt: skip

CHILD = "async def child(input):\n    return await services.note.down(input['n'])\n"
TASKS = {
    "early": "async def job():\n    return [await wait_for_event('x') for _ in range(2)]\n",
    "parked": """
async def job():
    first = await wait_for_event('x')
    return [first, await services.note.down(1), await wait_for_event('x')]
""",
    "driven": """
async def job():
    return await gather(wait_for_event('x'), services.note.slow(1), wait_for_event('x'))
""",
    "late": """
async def job():
    try:
        await wait_for_event('never', timeout=0.05)
    except TimeoutError:
        return await services.note.down('late')
""",
    "children": """
async def job():
    first = await run_task('child', {'n': 0})
    return [first, *await gather(*[run_task('child', {'n': n}) for n in (1, 2)])]
""",
    "cancelled": """
async def job():
    await gather(run_task('waits'), run_task('waits'))
""",
    "retried": """
async def job():
    first = await services.note.down('first')
    return [first, await services.note.fails_once('second'), await run_task('moody')]
""",
}
OTHERS = {
    "child": CHILD,
    "waits": "async def waits():\n    await wait_for_event('never')\n",
    "moody": "async def moody():\n    return await services.note.fails_once('third')\n",
}


HANDLERS = """
async def noted(n):
    return await services.note.down(n)

async def waits():
    await wait_for_event('never')
"""


def noting(n: Any, target: str, **more: Any) -> dict[str, Any]:
    """A state whose handler notes something, and keeps it in the context."""
    kept = {"type": "assign", "params": {f"kept_{n}": {"$expr": "event.output"}}}
    done = {"target": target, "actions": kept}
    return {"invoke": {"src": "noted", "input": n, "onDone": done}, **more}


END = {"type": "final"}
GRAPHS: dict[str, dict[str, Any]] = {
    "regions": {
        "initial": "both",
        "states": {
            "both": {
                "type": "parallel",
                "states": {
                    "left": {
                        "initial": "a",
                        "states": {"a": noting(1, "b"), "b": {"after": {"20": "end"}}, "end": END},
                    },
                    "right": {
                        "initial": "a",
                        "states": {"a": noting(2, "b"), "b": noting(3, "end"), "end": END},
                    },
                },
                "onDone": "last",
            },
            "last": noting(4, "over"),
            "over": END,
        },
        "output": {"$expr": "[context.kept_1, context.kept_2, context.kept_3, context.kept_4]"},
    },
    "left": {
        "initial": "work",
        "states": {
            "work": {"invoke": {"src": "waits"}, "after": {"20": "next"}},
            "next": noting("late", "over"),
            "over": END,
        },
        "output": {"$expr": "context.kept_late"},
    },
    "events": {
        "initial": "first",
        "states": {
            "first": {"on": {"x": "work"}},
            "work": noting(1, "second"),
            "second": {
                "on": {
                    "x": {
                        "target": "over",
                        "actions": {"type": "assign", "params": {"x": {"$expr": "event.data"}}},
                    }
                }
            },
            "over": END,
        },
        "output": {"$expr": "[context.kept_1, context.x]"},
    },
}
TASKS |= dict.fromkeys(GRAPHS, HANDLERS)


class Note:
    """Writes down what was called, with which key."""

    name = "note"

    def __init__(self, file: Path) -> None:
        self._file = file

    def methods(self) -> list[str]:
        return ["down", "slow", "fails_once"]

    def due_after(self, method: str, args: Any, kwargs: Any) -> float:
        return 0.0

    async def call(self, method: str, args: Any, kwargs: Any, context: CallContext) -> Any:
        before = self.lines()
        line = json.dumps([method, args[0], context.idempotency_key]) + "\n"
        with self._file.open("a") as file:
            file.write(line)
        if method == "slow":
            await asyncio.sleep(0.03)
        if method == "fails_once" and [method, args[0], context.idempotency_key] not in before:
            raise OSError("not the first time")
        return args[0]

    def lines(self) -> list[Any]:
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    async def close(self) -> None:
        pass


def watch_store(engine: Engine, n: int) -> None:
    """Kill this process after the n-th operation of the store that writes."""
    left = n

    def reach(operation: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(3, operation.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        real = getattr(engine.storage, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await real(*args, **kwargs)
            reach(name)
            return result

        return call

    for name in OPERATIONS:
        setattr(engine.storage, name, wrapped(name))


def opened(folder: Path, note: Note) -> Any:
    settings = load_settings(folder, environment={}, allow_loopback=True)
    return Engine(settings=settings, services=[note])


async def create(folder: Path, shape: str, note: Note) -> str:
    async with opened(folder, note) as engine:
        kind = "native" if shape.startswith("native-") else "sandbox"
        for name, code in {**OTHERS, "job": TASKS[shape.removeprefix("native-")]}.items():
            graph = GRAPHS.get(shape.removeprefix("native-")) if name == "job" else None
            text = json.dumps(graph) if graph else None
            await engine.store_task(name, code, TaskConfig(name=name, runtime=kind, graph=text))
        return str((await engine.create_run("job")).id)


async def play(folder: Path, shape: str, run_id: str, note: Note, n: int = 0) -> dict[str, Any]:
    """The scene, as a person plays it who does again what may not have been done."""
    async with opened(folder, note) as engine:
        if n:
            watch_store(engine, n)
        run = await SCENES.get(shape.removeprefix("native-"), to_its_end)(engine, run_id)
        calls = await engine.list_calls(run_id)
        children = await engine.list_children(run_id)
        return {
            "status": run.status,
            "result": run.result,
            "error": str(run.error),
            "events": len((await engine.get_run(run_id)).events),
            "calls": [[c.sequence, c.status, c.delivered_turn, c.delivered_order] for c in calls],
            "children": sorted([child.task_identifier, child.status] for child in children),
        }


async def to_its_end(engine: Engine, run_id: str) -> TaskRun:
    return await engine.resume(run_id)


async def answer_missing(engine: Engine, run_id: str, number: int) -> None:
    """The `number`-th answer, unless the run has had it."""
    if (await engine.get_run(run_id)).answers < number:
        await engine.answer(run_id, "x", number)


async def early(engine: Engine, run_id: str) -> TaskRun:
    for number in (1, 2):
        if not (await engine.get_run(run_id)).status.is_final:
            await answer_missing(engine, run_id, number)
    return await engine.resume(run_id)


async def parked(engine: Engine, run_id: str) -> TaskRun:
    for number in (1, 2):
        run = await engine.get_run(run_id)
        if run.answers < number and not run.status.is_final:
            await engine.drive(run_id)
            await answer_missing(engine, run_id, number)
    return await engine.resume(run_id)


async def driven(engine: Engine, run_id: str) -> TaskRun:
    running = asyncio.create_task(engine.resume(run_id))
    await asyncio.sleep(0.01)
    for number in (1, 2):
        if not (await engine.get_run(run_id)).status.is_final:
            await answer_missing(engine, run_id, number)
    return await running


async def cancelled(engine: Engine, run_id: str) -> TaskRun:
    run = await engine.get_run(run_id)
    if not run.status.is_final:
        if not await engine.list_children(run_id):
            await engine.drive(run_id)
        for child in await engine.list_children(run_id):
            if child.status in (Status.PENDING, Status.RUNNING):
                await engine.drive(child.id)
        run = await engine.cancel(run_id)
    for child in await engine.list_children(run_id):  # what a worker does, an hour later
        if not child.status.is_final:
            await engine.drive(child.id)
    return run


async def retried(engine: Engine, run_id: str) -> TaskRun:
    run = await engine.resume(run_id)
    for _ in range(2):
        if run.status is Status.FAILED:
            await engine.retry(run_id)
            run = await engine.resume(run_id)
    return run


SCENES = {
    "early": early,
    "parked": parked,
    "driven": driven,
    "events": early,
    "cancelled": cancelled,
    "retried": retried,
}


def in_child(work: Callable[[], Any]) -> tuple[int, bytes]:
    """Run `work` in a forked child; returns its exit status and what it wrote to descriptor 3."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if writer != 3:
            os.dup2(writer, 3)
            os.close(writer)
        code = 1
        try:
            os.write(3, json.dumps(work()).encode())
            code = 0
        except SequentialError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read()
    return os.waitpid(child, 0)[1], output


def main(folder: Path, adaptor: str, shape: str) -> None:
    folder.mkdir(exist_ok=True)
    kind = "native" if shape.startswith("native-") else "sandbox"
    store = "sqlite" if adaptor == "sqlite" else "folder"
    for module in IMPORTED:
        importlib.import_module(module.format(kind=kind, store=store))
    runner = {"lease": 0.2}
    (folder / ".sequentialrc.json").write_text(json.dumps({"adaptor": adaptor, "runner": runner}))
    for n in range(1, 1000):
        note = Note(folder / f"{n}.note")
        status, output = in_child(lambda: asyncio.run(create(folder, shape, note)))
        assert status == 0, status
        run_id = json.loads(output)
        status, output = in_child(lambda: asyncio.run(play(folder, shape, run_id, note, n)))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, (status, n)
        boundary = output.decode() if killed else ""
        if killed:
            status, output = in_child(lambda: asyncio.run(play_again(folder, shape, run_id, note)))
            assert status == 0, (status, n, boundary)
        report = {"n": n, "boundary": boundary, "noted": note.lines(), **json.loads(output)}
        print(json.dumps(report), flush=True)
        if not killed:
            return


async def play_again(folder: Path, shape: str, run_id: str, note: Note) -> dict[str, Any]:
    """Play the scene once the leases of who was killed have run out."""
    async with opened(folder, note) as engine:
        for run in [await engine.get_run(run_id), *await engine.list_children(run_id)]:
            while await engine.is_driven(run):
                await asyncio.sleep(0.01)
    return await play(folder, shape, run_id, note)


main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

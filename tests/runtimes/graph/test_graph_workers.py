"""Workers on graph runs: as few as can be, and two processes of which one is killed."""

import asyncio
import collections
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core.model import Status, TaskConfig
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

SCRIPT = Path(sys.executable).with_name("sequential-ecosystem")
SIDES = ("north", "east", "south", "west")
STAGES = ("a", "b", "c")

CODE = """
import os, time
from sequential.task import sleep, step

def note(work):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {work}\\n")
    time.sleep(0.05)
    return work

async def work(input):
    await sleep(0.02)
    return await step(note, input)
"""


def stage(side: str, number: int) -> dict[str, Any]:
    """A state that has its work done, and leads to the next of its side."""
    kept = {"type": "assign", "params": {"done": {"$expr": "context.done + [event.output]"}}}
    target = (*STAGES, "end")[number + 1]
    return {
        "invoke": {
            "src": "work",
            "input": f"{side}-{STAGES[number]}",
            "onDone": {"target": target, "actions": kept},
        }
    }


GRAPH = {
    "type": "parallel",
    "context": {"done": []},
    "states": {
        side: {
            "initial": STAGES[0],
            "states": {
                **{name: stage(side, number) for number, name in enumerate(STAGES)},
                "end": {"type": "final"},
            },
        }
        for side in SIDES
    },
    "output": {"$expr": "sorted(context.done)"},
}
WORKS = sorted(f"{side}-{name}" for side in SIDES for name in STAGES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    settings = {"adaptor": "sqlite", "runner": {"sweep": 0.5}}
    (tmp_path / ".sequentialrc.json").write_text(json.dumps(settings))
    return tmp_path


@contextlib.contextmanager
def worker(project: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that drives whatever is due, three runs at a time."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DATABASE")}
    arguments: list[str | Path] = [SCRIPT, "--project", project, "worker", "--concurrency", "3"]
    with (project / "workers.log").open("ab") as log:
        process = subprocess.Popen(arguments, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def notes(project: Path) -> list[tuple[int, str]]:
    """Process and work of each step, in the order in which they were performed."""
    file = project / "notes"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


async def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("store", ["memory:", "sqlite", "default"])
@pytest.mark.parametrize("slots", [1, 3])
async def test_runs_of_a_task_with_concurrency_1_do_not_wait_for_their_own_handlers(
    tmp_path: Path, store: str, slots: int
) -> None:
    (tmp_path / ".sequentialrc.json").write_text(json.dumps({"adaptor": store}))
    code = "async def work(input):\n    await sleep(0.02)\n    return input\n"
    async with Engine(settings=load_settings(tmp_path, environment={})) as engine:
        config = TaskConfig(name="job", runtime="native", graph=json.dumps(GRAPH), concurrency=1)
        await engine.store_task("job", code, config)
        runs = [await engine.create_run("job") for _ in range(2)]
        worker = Worker(engine, concurrency=slots)
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(20):
            ended = [await engine.wait(run.id) for run in runs]
        worker.stop()
        await working
    assert [run.value for run in ended] == [WORKS] * 2


@pytest.mark.parametrize("victim", [0, 1])
async def test_regions_go_on_when_one_of_two_worker_processes_is_killed(
    project: Path, victim: int
) -> None:
    settings = load_settings(project, environment={})
    async with Engine(settings=settings) as engine:
        code = CODE.replace('"notes"', repr(str(project / "notes")))
        config = TaskConfig(name="job", runtime="native", graph=json.dumps(GRAPH))
        await engine.store_task("job", code, config)
        with worker(project) as one, worker(project) as other:
            log = project / "workers.log"
            await until(lambda: log.read_text(errors="replace").count("\n") >= 2)
            run = await engine.create_run("job")
            await until(lambda: {pid for pid, _ in notes(project)} == {one.pid, other.pid})
            (one, other)[victim].kill()
            ended = await engine.wait(run.id, 20)
            by_then = notes(project)
        calls = await engine.list_calls(run.id)
        handlers = await engine.list_children(run.id)
    assert (ended.status, ended.value) == (Status.COMPLETED, WORKS)
    assert [handler.status for handler in handlers] == [Status.COMPLETED] * len(WORKS)
    check_outcomes(calls)
    check_performed(by_then, (one, other)[victim].pid)


def check_outcomes(calls: Any) -> None:
    """Each handler was started once, and its outcome delivered once."""
    started = [call for call in calls if call.operation == "tasks.run"]
    assert sorted(call.input["input"] for call in started) == WORKS
    places = [(call.delivered_turn, call.delivered_order) for call in started]
    assert None not in {order for _, order in places}
    assert len(set(places)) == len(WORKS)


def check_performed(performed: list[tuple[int, str]], killed: int) -> None:
    """Only what the killed process had begun and not written down was done again."""
    times = collections.Counter(work for _, work in performed)
    assert sorted(times) == WORKS
    again = [work for work, count in times.items() if count > 1]
    assert len(again) <= 3  # as many as it drove
    assert all((killed, work) in performed and times[work] == 2 for work in again)

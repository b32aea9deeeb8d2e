"""Drives a run in a process that kills itself at a chosen boundary, and then without crashing.

    python driver.py <folder> <shape> <url>

For n = 1, 2, 3, ... a forked child drives a fresh run of the task and kills itself with SIGKILL at
the n-th boundary: before or after each write, sync or rename of the store, before a call is
handed to its service, while it is with it, and after it has answered. Of a run that follows a
graph, with the runs of its handlers, it is before each write, sync or rename. A second child then
drives the run to its end. One line of JSON per n is printed; the loop ends when a child has
finished the run without reaching the boundary. Forked children start in milliseconds; everything
heavy is imported before the first fork, and nothing is started.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401 - imported before the forks

from sequential.config import load_settings
from sequential.core.model import RetryPolicy, StackRun, TaskConfig, TaskRun
from sequential.runner.engine import Engine
from sequential.runner.service_client import ServiceClient

# What every child would import anew, and slowly.
IMPORTED = (
    "sequential.runtimes.{kind}.runtime",
    "sequential.runtimes.graph.runtime",
    "sequential.services.built_in",
    "sequential.services.gapi",
    "sequential.services.http",
    "sequential.services.local",
    "sequential.storage.folder",
)
TASKS = {
    "sequential": """
async def job(input):
    seen = []
    for i in range(3):
        answer = await fetch(f"{input['url']}/json/{i}?mark={input['mark']}", method="POST", json=i)
        seen.append(answer.status)
        print("call", i)
    return seen
""",
    "parallel": """
import asyncio
async def one(input, i):
    await fetch(f"{input['url']}/json/{i}?mark={input['mark']}", method="POST")
    answer = await fetch(f"{input['url']}/json/{i + 10}?mark={input['mark']}", method="POST")
    return answer.status
async def job(input):
    return await asyncio.gather(*[one(input, i) for i in range(3)])
""",
    "sleeping": """
import asyncio, time
async def job(input):
    await asyncio.gather(asyncio.sleep(0.02), fetch(f"{input['url']}/json/1?mark={input['mark']}"))
    print("slept")
    time.sleep(0.05)
    return (await fetch(f"{input['url']}/json/2?mark={input['mark']}")).status
""",
    "retrying": """
async def job(input):
    try:
        await fetch(f"{input['url']}/drop?mark={input['mark']}", method="POST", retries=0)
    except OSError:
        print("dropped")
    url = f"{input['url']}/flaky/{input['mark']}/2?mark={input['mark']}"
    return (await fetch(url, method="POST")).status
""",
    "library": """
import asyncio, urllib.request, uuid
from sequential.task import step

def noted(key):
    return [key, str(uuid.uuid4()) == key]

async def job(input):
    key = str(uuid.uuid4())
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.02)
    except TimeoutError:
        print("too long")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(step(noted, key)) for _ in range(2)]
    kept = [task.result() == [key, False] for task in tasks]
    url = f"{input['url']}/json/1?mark={input['mark']}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return [*kept, answer.status]
""",
}

HANDLER = """
async def post(input, context):
    place = context["input"]
    url = f"{place['url']}/json/{input}?mark={place['mark']}"
    return (await fetch(url, method="POST")).status

async def never(input):
    await wait_for_event("never")
"""
END = {"type": "final"}


def posting(n: int, target: str, **more: Any) -> dict[str, Any]:
    """A state whose handler makes a request, and keeps its answer in the context."""
    kept = {"type": "assign", "params": {f"kept_{n}": {"$expr": "event.output"}}}
    return {
        "invoke": {"src": "post", "input": n, "onDone": {"target": target, "actions": kept}},
        **more,
    }


GRAPHS: dict[str, dict[str, Any]] = {
    "steps": {
        "initial": "first",
        "states": {"first": posting(1, "second"), "second": posting(2, "over"), "over": END},
        "output": {"$expr": "[context.kept_1, context.kept_2]"},
    },
    "regions": {
        "type": "parallel",
        "states": {
            "left": {"initial": "a", "states": {"a": posting(1, "end"), "end": END}},
            "right": {"initial": "a", "states": {"a": posting(2, "end"), "end": END}},
        },
        "output": {"$expr": "[context.kept_1, context.kept_2]"},
    },
    "timers": {
        "initial": "pause",
        "states": {
            "pause": {"after": {"20": "work"}},
            "work": {"invoke": {"src": "never"}, "after": {"20": "late"}},
            "late": posting(1, "over", after={"3600000": "over"}),
            "over": END,
        },
        "output": {"$expr": "context.kept_1"},
    },
}
TASKS |= dict.fromkeys(GRAPHS, "from sequential.task import fetch, wait_for_event\n" + HANDLER)


class Countdown:
    """Kills this process at the n-th boundary."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.boundary = ""

    def reach(self, boundary: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.write(3, boundary.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def watch_files(countdown: Countdown, *, after: bool) -> None:
    """Whether to die after an operation as well, which is mostly to die before the next one."""
    for name in ("write", "fdatasync", "fsync", "replace", "rename", "ftruncate"):
        real: Callable[..., Any] = getattr(os, name)

        def wrapped(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            if _name == "write" and args[0] <= 3:
                return _real(*args, **kwargs)
            countdown.reach(f"before {_name}")
            result = _real(*args, **kwargs)
            if after:
                countdown.reach(f"after {_name}")
            return result

        setattr(os, name, wrapped)


def watch_calls(countdown: Countdown) -> None:
    perform = ServiceClient.perform

    async def wrapped(self: ServiceClient, run: TaskRun, call: StackRun) -> StackRun:
        countdown.reach(f"before call {call.sequence}")
        performing = asyncio.ensure_future(perform(self, run, call))
        await asyncio.sleep(0.002)
        countdown.reach(f"in call {call.sequence}")
        result = await performing
        countdown.reach(f"after call {call.sequence}")
        return result

    ServiceClient.perform = wrapped  # type: ignore[method-assign]


async def create(folder: Path, shape: str, url: str, mark: str) -> str:
    settings = load_settings(folder, environment={}, allow_loopback=True)
    async with Engine(settings=settings) as engine:
        kind = "native" if shape.startswith("native-") else "sandbox"
        name = shape.removeprefix("native-")
        graph = json.dumps(GRAPHS[name]) if name in GRAPHS else None
        retry = RetryPolicy(delay=0.01)
        config = TaskConfig(name="job", runtime=kind, retry=retry, graph=graph)
        await engine.store_task("job", TASKS[name], config)
        return (await engine.create_run("job", {"url": url, "mark": mark})).id


async def resume(folder: Path, run_id: str) -> dict[str, Any]:
    settings = load_settings(folder, environment={}, allow_loopback=True)
    async with Engine(settings=settings) as engine:
        run = await engine.resume(run_id)
        calls = await engine.list_calls(run_id)
        return {
            "status": run.status,
            "result": run.result,
            "error": str(run.error) if run.error else None,
            "log": "".join(line.text for line in await engine.get_log(run_id)),
            "calls": [
                [c.sequence, c.operation, c.status, c.delivered_turn, c.delivered_order]
                for c in calls
            ],
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
            result = work()
            os.write(3, json.dumps(result).encode())
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read()
    return os.waitpid(child, 0)[1], output


def crash(folder: Path, run_id: str, n: int, *, is_graph: bool) -> Any:
    countdown = Countdown(n)
    watch_files(countdown, after=not is_graph)
    if not is_graph:  # its calls are tried in operating.py
        watch_calls(countdown)
    return asyncio.run(resume(folder, run_id))


def main() -> None:
    folder, shape, url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir(exist_ok=True)
    kind = "native" if shape.startswith("native-") else "sandbox"
    for module in IMPORTED:
        importlib.import_module(module.format(kind=kind))
    n = 0
    while True:
        n += 1
        mark = f"{shape}{n}x"
        status, output = in_child(lambda: asyncio.run(create(folder, shape, url, mark)))
        assert status == 0, status
        run_id = json.loads(output)
        is_graph = shape.removeprefix("native-") in GRAPHS  # with runs for handlers: many files
        status, output = in_child(lambda: crash(folder, run_id, n, is_graph=is_graph))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        boundary = output.decode() if killed else ""
        assert killed or status == 0, (status, n)
        status, output = in_child(lambda: asyncio.run(resume(folder, run_id)))
        assert status == 0, (status, n, boundary)
        report = {"n": n, "mark": mark, "boundary": boundary, **json.loads(output)}
        print(json.dumps(report), flush=True)
        if not killed:
            return


main()

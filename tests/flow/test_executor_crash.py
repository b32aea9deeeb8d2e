"""Processes that execute workflows are killed with SIGKILL at every boundary.

The rule: the result is what it would have been; a call whose result was stored is never performed
again, and one that was in progress is performed again with the same key.
"""

import asyncio
import collections
import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequential.flow import FlowExecutor, create_flow_executor
from sequential.flow.executor_storage import State
from sequential.testing.clock import FakeClock
from support.postgres_server import postgres_server
from support.step_storages import CustomStorage
from support.valkey_server import valkey

DRIVER = Path(__file__).parents[1] / "support" / "killing_flow.py"
THOROUGH = "CHAOS_SECONDS" in os.environ  # `make chaos`: the like of what is tried in any case
RESULT = [
    {"first": {"id": 7}},
    {"__error": "no route to host"},
    {"last": {"after": "no route to host"}},
]


def reports(kind: str, location: str, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(DRIVER), kind, location, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(seen: list[dict[str, Any]]) -> None:
    for report in seen:
        at = f"killed {report['boundary']} (boundary {report['n']})"
        assert report["result"] == RESULT, at
        calls, before = report["calls"], report["before"]
        if report["over"] and len(before) == 3:  # the flow had ended, so this was another
            assert len(set(calls)) == 6, at
            calls = calls[3:]
        keys = collections.Counter(calls)
        assert [call.split()[0] for call in keys] == ["first", "flaky", "last"], at
        again = [call for call, times in keys.items() if times > 1]
        assert len(again) <= 1, at
        assert all(times <= 2 for times in keys.values()), at
        assert not again or again[0] == before[-1], at
    assert seen[-1]["boundary"] == ""
    assert not any(report["over"] for report in seen if len(report["before"]) in (1, 2))


@pytest.mark.parametrize("kind", ["folder", *(["five"] if THOROUGH else [])])
def test_killed_at_every_operation_on_files(kind: str, tmp_path: Path) -> None:
    seen = reports(kind, str(tmp_path / "exec"), tmp_path / "logs")

    check(seen)
    boundaries = {report["boundary"] for report in seen}
    assert {"before write", "after fsync", "before replace", "after replace"} <= boundaries
    assert {"before call flaky", "after call last", "at the callback"} <= boundaries


@pytest.mark.parametrize(
    "kind", ["sqlite", "adapter-sqlite", *(["adapter-folder"] if THOROUGH else [])]
)
def test_killed_at_every_operation_of_a_store(kind: str, tmp_path: Path) -> None:
    location = {
        "sqlite": str(tmp_path / "flows.db"),
        "adapter-folder": f"folder:{tmp_path / 'tasks'}",
        "adapter-sqlite": f"sqlite:{tmp_path / 'runs.db'}",
    }[kind]
    seen = reports(kind, location, tmp_path / "logs")

    check(seen)
    assert {"before storage.swap", "after storage.delete"} <= {one["boundary"] for one in seen}


def test_killed_at_every_operation_on_redis(tmp_path: Path) -> None:
    try:
        with valkey() as server:
            check(reports("redis", str(server.socket), tmp_path / "logs"))
    except LookupError as error:
        pytest.skip(str(error))


def test_killed_at_every_operation_on_postgresql(tmp_path: Path) -> None:
    try:
        with postgres_server() as server:
            check(reports("postgres", server.url, tmp_path / "logs"))
    except LookupError as error:
        pytest.skip(str(error))


# --- random workflows, killed at random ----------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing that it does after this has any effect."""


class Mortal(CustomStorage):
    """A storage seen by one process, which dies after so many operations."""

    def __init__(self, shared: CustomStorage, left: int) -> None:
        self.states = shared.states
        self.results = shared.results
        self.left = left

    def live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    async def get(self, id: str) -> State | None:
        self.live()
        return await super().get(id)

    async def set(self, id: str, state: State) -> None:
        self.live()
        await super().set(id, state)

    async def delete(self, id: str) -> None:
        for key in [key for key in self.results if key[0] == id]:
            self.live()
            del self.results[key]
        self.live()
        self.states.pop(id, None)

    async def get_result(self, id: str, step: int) -> Any:
        self.live()
        return copy.deepcopy(await super().get_result(id, step))

    async def set_result(self, id: str, step: int, data: Any) -> None:
        self.live()
        await super().set_result(id, step, copy.deepcopy(data))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner),
    max_leaves=4,
)
OPERATIONS = st.one_of(
    st.tuples(st.just("call"), VALUES),
    st.tuples(st.just("fail"), VALUES),
    st.tuples(st.just("save"), st.none()),
    st.tuples(st.just("delegate"), VALUES),
    st.tuples(st.just("branch"), VALUES),
)


def program_of(operations: list[tuple[str, Any]]) -> Any:
    """A workflow whose later requests depend on earlier answers."""

    def inner(value: Any) -> Any:
        return (yield {"__tool": ["api", "inner", value]})

    def workflow(start: Any) -> Any:
        seen = [start]
        for name, value in operations:
            if name == "save":
                seen.append((yield {"__save": True}))
            elif name == "delegate":
                seen.append((yield from inner([value, seen[-1]])))
            elif name == "branch" and len(repr(seen)) % 2:
                seen.append("odd")
            else:
                seen.append((yield {"__tool": ["api", name, [value, len(seen), seen[-1]]]}))
        return seen

    return workflow


def call(category: str, name: str, given: Any) -> Any:
    if name == "fail":
        raise ValueError(repr(given))
    return [name, repr(given)]


async def call_here(category: str, name: str, given: Any) -> Any:
    return call(category, name, given)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    operations=st.lists(OPERATIONS, max_size=6),
    lives=st.lists(st.integers(0, 40), max_size=12),
    start=VALUES,
    whole=st.booleans(),
)
def test_random_workflows_killed_at_random(
    operations: list[tuple[str, Any]], lives: list[int], start: Any, whole: bool
) -> None:
    workflow = program_of(operations)

    async def straight() -> Any:
        flow = create_flow_executor(CustomStorage(), call=call_here)
        return await flow.execute(workflow, "flow", start, until="end")

    async def killed() -> Any:
        shared = CustomStorage()
        clock = FakeClock(patience=3600)
        for left in [*lives, 10**9]:
            clock.advance(100)
            flow = create_flow_executor(Mortal(shared, left), call=call_here, clock=clock)
            try:
                return await to_end(flow)
            except Killed:
                continue
        raise AssertionError

    async def to_end(flow: FlowExecutor) -> Any:
        until: Any = "end" if whole else "step"
        result = await flow.execute(workflow, "flow", start, until=until)
        while isinstance(result, dict) and "paused" in result:
            result = await flow.execute(workflow, "flow", until=until)
        return result

    assert asyncio.run(killed()) == asyncio.run(straight())


# --- memory --------------------------------------------------------------------------------------

MEASURED = """
import asyncio, gc, resource, sys
from pathlib import Path
from sequential.flow import FolderStepStorage, create_flow_executor

steps, size = int(sys.argv[1]), int(sys.argv[2])

def call(category, name, given):
    return chr(97 + given % 26) * size

def workflow(given):
    total = 0
    for n in range(steps):
        total += len((yield {"__tool": ["api", "large", n]}))
    return total

async def main():
    flow = create_flow_executor(FolderStepStorage(sys.argv[3]), call=call)
    assert await flow.execute(workflow, "large", until=1e-9) == {"paused": "large", "step": 0}
    one = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(steps - 1):
        await flow.execute(workflow, "large")
    assert await flow.execute(workflow, "large") == steps * size
    print(one, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(main())
"""


def test_large_results_do_not_pile_up(tmp_path: Path) -> None:
    """20 results of 8 MB, replayed again and again, need the memory of one step."""
    steps, size = 20, 8_000_000
    command = [sys.executable, "-c", MEASURED, str(steps), str(size), str(tmp_path / "exec")]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environment
    )

    assert done.returncode == 0, done.stderr
    one, all_of_them = (int(number) * 1024 for number in done.stdout.split())
    assert all_of_them - one < 4 * size, "of 20 results, at most a few are in memory at a time"

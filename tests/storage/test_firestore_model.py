"""Random histories: two processes on one Firestore store do what the store in memory does."""

import random
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from sequential.core import times
from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Snapshot,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.errors import SequentialError
from sequential.storage.base import StorageAdapter
from sequential.storage.firestore import FirestoreAdapter
from sequential.storage.firestore_place import Place
from sequential.storage.memory import MemoryAdapter
from sequential.testing.storage_contract import NOW, delivered, new_call, new_run
from support.firestore_server import FirestoreServer

STEPS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


async def outcome(attempt: Awaitable[Any]) -> Any:
    try:
        return await attempt
    except SequentialError as error:
        return type(error).__name__


class History:
    """One random history, told to the model and to the stores in turn."""

    def __init__(self, seed: int, stores: list[FirestoreAdapter]) -> None:
        self.dice = random.Random(seed)
        self.model = MemoryAdapter()
        self.stores = stores
        self.runs: list[str] = []
        self.clock = 0
        self.step = 0

    @property
    def now(self) -> str:
        return times.after(NOW, self.clock)

    async def both(self, method: str, *given: Any, **named: Any) -> Any:
        """Ask the model and one of the stores, who have to agree."""
        store: StorageAdapter = self.dice.choice(self.stores)
        expected = await outcome(getattr(self.model, method)(*given, **named))
        found = await outcome(getattr(store, method)(*given, **named))
        assert found == expected, (self.step, method)
        return expected

    async def advance(self) -> None:
        self.step += 1
        self.clock += self.dice.choice([0, 1, 30])
        acts: list[Any] = [self.commit] * 5 + [self.lease] * 3 + [self.look] * 3
        acts += [self.create, self.answer, self.update, self.amend, self.touch_a_call, self.delete]
        act = self.dice.choice(acts)
        run = await self.model.get_task_run(self.dice.choice(self.runs)) if self.runs else None
        await (act(run) if run else self.create(None))

    def size(self, *sizes: int) -> str:
        return "x" * self.dice.choice(sizes)

    async def create(self, _: TaskRun | None) -> None:
        run = new_run(
            len(self.runs),
            task_identifier=self.dice.choice("ab"),
            priority=self.dice.randrange(3),
            config=TaskConfig("my-task", concurrency=self.dice.choice([None, 2])),
            wake_at=self.dice.choice([None, times.after(self.now, 40)]),
            input=self.size(1, 40_000),
            updated_at=self.now,
            parent_run_id=self.dice.choice([None, "p"]),
        )
        await self.both("create_task_run", run)
        self.runs.append(run.id)

    async def lease(self, run: TaskRun) -> None:
        token = self.dice.choice([run.lease_token, "stale"]) or "stale"
        until = times.after(self.now, 60)
        match self.dice.randrange(4):
            case 0:
                await self.both("release", run.id, token)
            case 1:
                await self.both("renew", run.id, token, until)
            case _:
                await self.both("claim", run.id, f"token {self.step}", self.now, until)

    async def commit(self, run: TaskRun) -> None:
        calls = await self.model.query_stack_runs(task_run_id=run.id)
        turn = run.turn + 1
        waiting = [call for call in calls if call.delivered_turn is None]
        given = self.dice.sample(waiting, min(len(waiting), self.dice.randrange(4)))
        done = [delivered(c, turn, result=self.size(10, 30_000, 150_000)) for c in given]
        asked = [
            new_call(run, len(calls) + i, requested_turn=turn, input=self.size(1, 20_000))
            for i in range(self.dice.choice([0, 1, 2, 150]))
        ]
        status = self.dice.choice([Status.RUNNING] * 4 + [Status.SUSPENDED, Status.COMPLETED])
        new = evolve(
            run, turn=turn, status=status, updated_at=self.now, result=self.size(1, 50_000)
        )
        if status is not Status.RUNNING:
            wake_at = self.dice.choice([None, times.after(self.now, 50)])
            new = evolve(new, lease_token=None, lease_until=None, wake_at=wake_at)
        snapshot = Snapshot(run.id, turn, bytes(self.dice.choice([10, 400_000])))
        taken = tuple(event.id for event in run.events[:1])
        token = self.dice.choice([run.lease_token or "none"] * 3 + ["stale"])
        log = f"step {self.step} " * self.dice.choice([0, 1, 3000])
        step = Commit(new, token, tuple(asked), tuple(done), log, snapshot, taken)
        await self.both("commit", step)

    async def answer(self, run: TaskRun) -> None:
        event = RunEvent(f"event {self.step}", "name", self.now, self.size(1, 60_000))
        await self.both("answer", run.id, event, self.now)

    async def update(self, run: TaskRun) -> None:
        limit = TaskConfig("my-task", concurrency=self.dice.choice([None, 2]))
        changes: list[dict[str, Any]] = [
            {"priority": 5},
            {"input": self.size(1, 100_000)},
            {"config": limit},
        ]
        await self.both("update_task_run", run.id, **self.dice.choice(changes))

    async def amend(self, run: TaskRun) -> None:
        calls = await self.model.query_stack_runs(task_run_id=run.id)
        dropped = tuple(call.sequence for call in calls[len(calls) - 2 :])
        updated = tuple(evolve(call, attempts=9) for call in calls[: len(calls) - 2][:2])
        old = self.dice.choice([run, run, evolve(run, turn=99)])
        free = {"lease_token": None, "lease_until": None, "updated_at": self.now}
        new = evolve(old, status=Status.SUSPENDED, wake_at=self.now, **free)
        await self.both("amend", old, Amendment(new, updated, dropped))

    async def touch_a_call(self, run: TaskRun) -> None:
        calls = await self.model.query_stack_runs(task_run_id=run.id)
        call = self.dice.choice(calls) if calls else new_call(run, 0)
        method = self.dice.choice(["update", "update", "delete", "create"])
        if method == "create":
            await self.both("create_stack_run", call)
        elif method == "delete":
            await self.both("delete_stack_run", call.id)
        elif calls:
            await self.both("update_stack_run", call.id, result=self.size(1, 30_000))

    async def delete(self, run: TaskRun) -> None:
        if self.dice.random() < 0.3:
            await self.both("delete_task_run", run.id)
        else:
            await self.both("append_log", run.id, LogLine(self.now, self.size(5, 40_000)))

    async def look(self, run: TaskRun) -> None:
        tasks = self.dice.choice([None, ["a"], ["a", "b"]])
        await self.both("next_wakeup", self.now, tasks)
        ranks = []
        for store in (self.model, self.dice.choice(self.stores)):
            due = [
                await self.model.get_task_run(i) for i in await store.wakeups(self.now, 99, tasks)
            ]
            ranks.append([(-r.priority, r.wake_at or r.updated_at) for r in due if r])
        assert ranks[0] == ranks[1]
        for filters in ({}, {"status": ["running", "pending"]}, {"parent_run_id": "p", "limit": 3}):
            expected = await self.model.query_task_runs(before=run.id, **filters)
            found = await self.stores[0].query_task_runs(before=run.id, **filters)
            assert [one.id for one in found] == [one.id for one in expected]
        await self.both("query_stack_runs", status=self.dice.choice(["in_progress", "completed"]))
        await self.both("load_calls", run.id, self.dice.randrange(run.turn + 2))

    async def compare(self) -> None:
        for run_id in self.runs:
            for method in ("get_task_run", "get_snapshot", "get_log"):
                await self.both(method, run_id)
            await self.both("query_stack_runs", task_run_id=run_id)


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_history_is_the_same_as_in_memory(
    server: FirestoreServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
    place = Place("demo", "(default)", f"model{seed}")
    stores = [FirestoreAdapter(place) for _ in range(2)]
    for store in stores:
        await store.init()
    history = History(seed, stores)
    for _ in range(STEPS):
        await history.advance()
    await history.compare()
    for run in await stores[0].query_task_runs():
        await stores[0].update_task_run(run.id, lease_token=None, lease_until=None)
        await stores[0].delete_task_run(run.id)
    left = [name.rpartition("/")[2] for name in server.documents if "/model" in name]
    kept = ("program-", "task-")
    assert [name for name in left if not name.startswith(kept) and name not in "ab"] == []
    for store in stores:
        await store.close()
    server.documents.clear()

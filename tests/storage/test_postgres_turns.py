"""The commit of an ordinary turn: a way of its own that leaves the same behind."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sequential.core.model import (
    Commit,
    Failure,
    Frame,
    Snapshot,
    StackRun,
    Status,
    TaskRun,
    evolve,
)
from sequential.errors import LeaseLostError, StorageError
from sequential.storage.postgres import PostgresAdapter, create
from sequential.storage.postgres_line import Cells, Question
from sequential.storage.sql_steps import Known
from sequential.testing.storage_contract import (
    LATER,
    NOW,
    SOON,
    delivered,
    new_call,
    new_run,
    text_of,
)

WHERE = Frame("code.py", 3, 12, "job", "await f()")


class Watched(PostgresAdapter):
    """A store that knows which functions it has called."""

    def __init__(self, url: str, *, has_turns: bool = True) -> None:
        super().__init__(create(url, listen=False).address)
        self.called: list[str] = []
        self._has_turns = has_turns

    async def _ask(self, question: Question, cells: Cells) -> bytes | None:
        self.called.append(question.text.split(b'"')[3].decode())
        return await super()._ask(question, cells)

    async def _commit_turn(self, commit: Commit, known: Known, request: str) -> bool:
        return self._has_turns and await super()._commit_turn(commit, known, request)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Watched]:
    adapter = Watched(postgres_url)
    await adapter.init()
    yield adapter
    await adapter.close()


@pytest.fixture
async def plain(postgres_url: str, store: Watched) -> AsyncIterator[Watched]:
    """The same store without a way of its own for turns."""
    adapter = Watched(postgres_url, has_turns=False)
    await adapter.init()
    yield adapter
    await adapter.close()


async def driven(adapter: PostgresAdapter, number: int = 0) -> tuple[TaskRun, StackRun]:
    """A run that is driven, and the call it waits for."""
    run = await adapter.create_task_run(evolve(new_run(), id=new_run(number).id))
    run = await adapter.claim(run.id, "token", NOW, LATER)
    call = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (call,)))
    return run, call


def turns(run: TaskRun, call: StackRun) -> dict[str, Commit]:
    due = new_call(run, 1, due_at=LATER, where=WHERE)
    moved = evolve(run, turn=1, updated_at=SOON, where=WHERE, wake_at=LATER)
    failed = delivered(call, 1, result=None, error=Failure("OSError", "gone", traceback=(WHERE,)))
    again = evolve(call, attempts=1, due_at=SOON, updated_at=SOON)
    return {
        "an answer and a call": Commit(moved, "token", (due,), (delivered(call, 1),)),
        "an answer": Commit(moved, "token", (), (delivered(call, 1, result=["ü", 0.1]),)),
        "a failure": Commit(moved, "token", (), (failed,), "printed \\ ' ü\n"),
        "a call": Commit(evolve(run, turn=1), "token", (new_call(run, 1, input={"a": "\0"}),)),
        "another attempt": Commit(run, "token", (), (again,)),
        "a snapshot": Commit(moved, "token", (due,), snapshot=Snapshot(run.id, 1, b"\0\xff")),
        "nothing": Commit(moved, "token"),
    }


def unusual(run: TaskRun, call: StackRun) -> dict[str, Commit]:
    moved = evolve(run, turn=1)
    large = delivered(call, 1, result="x" * 70_000)
    note = delivered(call, 1, result={"$payload": 1})
    end = evolve(moved, status=Status.COMPLETED, result=1, lease_token=None, lease_until=None)
    two = (new_call(run, 1), new_call(run, 2))
    return {
        "a large value": Commit(moved, "token", (), (large,)),
        "a value like a note": Commit(moved, "token", (), (note,)),
        "two calls": Commit(moved, "token", two),
        "another priority": Commit(evolve(moved, priority=7), "token"),
        "an end": Commit(end, "token", (), (delivered(call, 1),)),
        "another input": Commit(moved, "token", updated=(evolve(call, input={"n": 2}),)),
        "a call that is there": Commit(moved, "token", (evolve(call, input={"n": 3}),)),
        "the character NUL": Commit(moved, "token", (new_call(run, 1, operation="a.\0b"),)),
        "printed NUL": Commit(moved, "token", log="\0\x1a"),
    }


async def state(adapter: PostgresAdapter, run: TaskRun) -> Any:
    """What is stored of a run, in whose place another one could be."""
    stored = await adapter.get_task_run(run.id)
    calls = await adapter.query_stack_runs(task_run_id=run.id)
    snapshot = await adapter.get_snapshot(run.id)
    assert stored
    return text_of(
        [
            evolve(stored, id=""),
            [evolve(call, id=call.id.removeprefix(run.id), task_run_id="") for call in calls],
            await adapter.get_log(run.id),
            snapshot and (snapshot.turn, snapshot.data),
        ]
    )


NAMES = [name for kind in (turns, unusual) for name in kind(new_run(), new_call(new_run(), 0))]


@pytest.mark.parametrize("name", NAMES)
async def test_both_ways_leave_the_same_behind(store: Watched, plain: Watched, name: str) -> None:
    states = []
    for number, adapter in enumerate((store, plain)):
        run, call = await driven(adapter, number)
        adapter.called.clear()
        await adapter.commit((turns(run, call) | unusual(run, call))[name])
        states.append(await state(adapter, run))
    assert states[0] == states[1]
    assert plain.called[0] == "commit"
    assert ("commit" not in store.called) == (name in turns(run, call))


async def test_a_whole_run_takes_the_short_way(store: Watched, plain: Watched) -> None:
    run, call = await driven(store)
    store.called.clear()
    for turn in range(1, 10):
        run, done, call = evolve(run, turn=turn), delivered(call, turn), new_call(run, turn)
        await store.commit(Commit(run, "token", (call,), (done,)))
    assert store.called == ["commit_turn"] * 9
    delivery = [call.delivered_turn for call in await plain.load_calls(run.id)]
    assert delivery == [*range(1, 10), None]


async def test_who_lost_the_lease_is_told_so_and_writes_nothing(
    store: Watched, plain: Watched
) -> None:
    run, call = await driven(store)
    taken = await plain.claim(run.id, "another", LATER, "2027")
    with pytest.raises(LeaseLostError):
        await store.commit(turns(run, call)["an answer and a call"])
    assert await plain.get_task_run(run.id) == taken
    assert await plain.load_calls(run.id) == [call]


async def test_an_answer_to_a_call_that_is_gone_is_refused(store: Watched, plain: Watched) -> None:
    run, call = await driven(store)
    await plain.delete_stack_run(call.id)
    with pytest.raises(StorageError, match="has no such call"):
        await store.commit(turns(run, call)["an answer"])
    assert await plain.get_task_run(run.id) == run


async def test_what_came_from_outside_meanwhile_stays(store: Watched, plain: Watched) -> None:
    run, call = await driven(store)
    await plain.renew(run.id, "token", "2027")
    await plain.update_task_run(run.id, answers=3)
    await store.commit(turns(run, call)["an answer"])
    found = await plain.get_task_run(run.id)
    assert found
    assert (found.answers, found.lease_until, found.turn) == (3, "2027", 1)


async def test_statements_are_prepared_until_that_is_seen_not_to_last(
    postgres_url: str,
) -> None:
    adapter = create(postgres_url, pool=1, listen=False)
    await adapter.init()
    run, call = await driven(adapter)
    assert adapter._open
    for turn in range(1, 12):
        run, done, call = evolve(run, turn=turn), delivered(call, turn), new_call(run, turn)
        await adapter.commit(Commit(run, "token", (call,), (done,)))
        async with adapter._open[0].use() as line:
            if turn == 7:
                assert line.prepares is True  # nothing stands in between
                await line.execute("deallocate all")  # or another connection to the server
    assert line.prepares is False
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()

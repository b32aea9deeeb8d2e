"""Workflows that are generators: what a caller sees of them."""

import asyncio
import datetime as dt
import decimal
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sequential import create_adapter
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidTaskError,
    LeaseLostError,
    NonDeterminismError,
    RunBusyError,
    RunNotFoundError,
    StorageError,
    ValueNotSupportedError,
)
from sequential.flow import FlowExecutor, MemoryStepStorage, create_flow_executor
from sequential.testing.clock import FakeClock
from support.step_storages import CustomStorage


class Api:
    """The tools of these tests. Remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.keys: list[str] = []

    def __call__(self, category: str, name: str, given: Any, key: str) -> Any:
        self.calls.append((category, name, given))
        self.keys.append(key)
        if name == "flaky":
            raise ConnectionError("no route to host")
        return {"tool": name, "n": len(self.calls)}


def workflow(given: Any) -> Any:
    user = yield {"__tool": ["api", "user", {"id": given["user_id"]}]}
    posts = yield {"__tool": ["api", "posts", {"uid": user["n"]}]}
    return {"user": user, "posts": posts}


EXPECTED = {"user": {"tool": "user", "n": 1}, "posts": {"tool": "posts", "n": 2}}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def storage() -> MemoryStepStorage:
    return MemoryStepStorage()


@pytest.fixture
def flow(storage: MemoryStepStorage, api: Api) -> FlowExecutor:
    return create_flow_executor(storage, call=api)


async def to_end(flow: FlowExecutor, function: Callable[..., Any], id: str, given: Any) -> Any:
    """Execute as callbacks would, until there is a result."""
    result = await flow.execute(function, id, given)
    while isinstance(result, dict) and "paused" in result:
        result = await flow.execute(function, id)
    return result


# --- the pattern ---------------------------------------------------------------------------------


async def test_it_pauses_after_each_call_and_ends_with_the_value(
    flow: FlowExecutor, storage: MemoryStepStorage, api: Api
) -> None:
    assert await flow.execute(workflow, "exec-1", {"user_id": 123}) == {
        "paused": "exec-1",
        "step": 0,
    }
    assert await flow.execute(workflow, "exec-1") == {"paused": "exec-1", "step": 1}
    assert await flow.execute(workflow, "exec-1") == EXPECTED

    assert api.calls == [("api", "user", {"id": 123}), ("api", "posts", {"uid": 1})]
    assert await storage.get("exec-1") is None
    assert await storage.get_result("exec-1", 0) is None


async def test_it_can_go_on_to_the_end(flow: FlowExecutor, api: Api) -> None:
    assert await flow.execute(workflow, "exec-1", {"user_id": 123}, until="end") == EXPECTED
    assert len(api.calls) == 2


async def test_it_can_go_on_for_some_time(flow: FlowExecutor) -> None:
    assert await flow.execute(workflow, "a", {"user_id": 1}, until=0.0) == {
        "paused": "a",
        "step": 0,
    }
    assert await flow.execute(workflow, "a", until=60.0) == EXPECTED


async def test_an_id_is_made_if_none_is_given(flow: FlowExecutor) -> None:
    first = await flow.execute(workflow, input={"user_id": 1})
    second = await flow.execute(workflow, input={"user_id": 1})

    assert first["paused"] != second["paused"]
    assert (await flow.execute(workflow, first["paused"]))["step"] == 1


async def test_the_input_is_kept_and_must_not_change(flow: FlowExecutor) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123, "more": (1, 2)})

    with pytest.raises(InvalidInputError, match="begun with another input"):
        await flow.execute(workflow, "exec-1", {"user_id": 5})

    paused = await flow.execute(workflow, "exec-1", {"more": (1, 2), "user_id": 123})
    assert paused["step"] == 1


async def test_a_workflow_without_input(flow: FlowExecutor) -> None:
    def nothing() -> Any:
        return "done"
        yield

    assert await flow.execute(nothing) == "done"


async def test_a_save_point_gets_past_itself(
    flow: FlowExecutor, storage: MemoryStepStorage, api: Api
) -> None:
    def saving() -> Any:
        sent = yield {"__save": True}
        answer = yield {"__tool": ["api", "user", None]}
        yield {"__save": True}
        return sent, answer

    paused = [await flow.execute(saving, "exec-1") for _ in range(3)]

    assert [one["step"] for one in paused] == [0, 1, 2]
    assert await flow.execute(saving, "exec-1") == (None, {"tool": "user", "n": 1})
    assert len(api.calls) == 1


async def test_async_generators(flow: FlowExecutor, api: Api) -> None:
    async def fetching(given: Any) -> Any:
        user = yield {"__tool": ["api", "user", given]}
        await asyncio.sleep(0)
        posts = yield {"__tool": ["api", "posts", {"uid": user["n"]}]}
        yield {"__return": {"user": user, "posts": posts}}

    assert await to_end(flow, fetching, "exec-1", {"id": 1}) == EXPECTED
    assert await flow.execute(fetching, "exec-2", {"id": 1}, until="end") != EXPECTED
    assert len(api.calls) == 4


async def test_generators_may_delegate(flow: FlowExecutor) -> None:
    def user(id: int) -> Any:
        return (yield {"__tool": ["api", "user", {"id": id}]})

    def both() -> Any:
        return [(yield from user(1)), (yield from user(2))]

    result = await to_end(flow, both, "exec-1", None)
    assert result == [{"tool": "user", "n": 1}, {"tool": "user", "n": 2}]


async def test_a_thousand_steps(flow: FlowExecutor, api: Api) -> None:
    def long() -> Any:
        total = 0
        for n in range(1000):
            total += (yield {"__tool": ["api", "step", {"n": n}]})["n"]
        return total

    for step in range(3):
        assert (await flow.execute(long, "exec-1"))["step"] == step
    assert await flow.execute(long, "exec-1", until="end") == sum(range(1001))
    assert len(api.calls) == 1000


# --- hooks ---------------------------------------------------------------------------------------


async def test_the_callback_is_fired_and_not_waited_for(storage: MemoryStepStorage) -> None:
    results: list[Any] = []
    begin = asyncio.Event()

    async def resume(id: str) -> None:
        await begin.wait()
        results.append(await executor.execute(workflow, id))

    executor = create_flow_executor(storage, call=Api(), resume=resume)
    async with executor:
        first = await executor.execute(workflow, "exec-1", {"user_id": 123})
        assert results == []
        begin.set()

    assert first == {"paused": "exec-1", "step": 0}
    assert EXPECTED in results
    assert {"paused": "exec-1", "step": 1} in results
    assert len(results) == 2


async def test_the_callback_comes_after_the_step_is_stored(storage: MemoryStepStorage) -> None:
    seen: list[Any] = []

    async def resume(id: str, step: int) -> None:
        seen.append((id, step, await storage.get(id)))

    async with create_flow_executor(storage, call=Api(), resume=resume) as flow:
        await flow.execute(workflow, "exec-1", {"user_id": 123})

    assert [(name, step, state["step"]) for name, step, state in seen] == [("exec-1", 0, 1)]
    assert "driver" not in seen[0][2]


async def test_a_callback_that_is_an_ordinary_function(storage: MemoryStepStorage) -> None:
    queue: list[str] = []
    flow = create_flow_executor(storage, call=Api(), resume=queue.append)

    await flow.execute(workflow, "exec-1", {"user_id": 123})
    await flow.execute(workflow, "exec-1")
    await flow.execute(workflow, "exec-1")

    assert queue == ["exec-1", "exec-1"], "none at the end"


async def test_a_callback_that_fails_in_an_ordinary_function(storage: MemoryStepStorage) -> None:
    def resume(id: str) -> None:
        raise ConnectionError("the queue is full")

    flow = create_flow_executor(storage, call=Api(), resume=resume)
    with pytest.raises(ConnectionError, match="the queue is full"):
        await flow.execute(workflow, "exec-1", {"user_id": 123})

    state = await storage.get("exec-1")
    assert state
    assert state["step"] == 1, "the step is stored, and nobody drives the flow"
    assert "driver" not in state


async def test_a_callback_that_fails_is_told(
    storage: MemoryStepStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def resume(id: str) -> None:
        raise ConnectionError("no route to host")

    with caplog.at_level(logging.ERROR):
        async with create_flow_executor(storage, call=Api(), resume=resume) as flow:
            paused = await flow.execute(workflow, "exec-1", {"user_id": 123})

    assert paused["step"] == 0
    assert "the callback of flow exec-1 failed: execute the flow again" in caplog.text
    assert (await flow.execute(workflow, "exec-1"))["step"] == 1


async def test_calls_may_be_coroutines_or_block_in_a_thread(storage: MemoryStepStorage) -> None:
    threads: list[int] = []

    async def awaited(category: str, name: str, given: Any) -> Any:
        threads.append(threading.get_ident())
        return "awaited"

    def blocking(category: str, name: str, given: Any) -> Any:
        threads.append(threading.get_ident())
        return "blocked"

    def one() -> Any:
        return (yield {"__tool": ["api", "one", None]})

    first = create_flow_executor(storage, call=awaited)
    second = create_flow_executor(storage, call=blocking)
    third = create_flow_executor(storage, call=lambda *request: awaited(*request))
    assert await first.execute(one, until="end") == "awaited"
    assert await second.execute(one, until="end") == "blocked"
    assert await third.execute(one, until="end") == "awaited"
    here = threading.get_ident()
    assert threads[0] == here
    assert threads[1] != here


async def test_a_tool_call_without_a_hook_says_what_is_missing(storage: MemoryStepStorage) -> None:
    flow = create_flow_executor(storage)

    with pytest.raises(ConfigError, match=r"nothing performs api\.user: create_flow_executor"):
        await flow.execute(workflow, "exec-1", {"user_id": 1})


# --- errors --------------------------------------------------------------------------------------


def catching(given: Any) -> Any:
    result = yield {"__tool": ["api", "flaky", {}]}
    if "__error" in result:
        return {"failed": True, "reason": result["__error"]}
    return result


async def test_an_error_of_a_tool_is_an_answer(flow: FlowExecutor, api: Api) -> None:
    result = await to_end(flow, catching, "exec-1", None)

    assert result == {"failed": True, "reason": "no route to host"}
    assert len(api.calls) == 1


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ValueError(), "ValueError"),
        (Broken(), "(the exception has no text)"),
        (ValueError("half \ud83d"), "half ?"),
        (StopIteration(3), "the hook raised StopIteration: 3"),
        (StopAsyncIteration("x"), "x"),
        (KeyError("id"), "id"),
    ],
)
async def test_whatever_a_tool_raises(
    storage: MemoryStepStorage, raised: Exception, message: str
) -> None:
    def call(category: str, name: str, given: Any) -> Any:
        raise raised

    flow = create_flow_executor(storage, call=call)
    result = await asyncio.wait_for(to_end(flow, catching, "exec-1", None), 10)

    assert result == {"failed": True, "reason": message}


async def test_an_error_of_the_workflow_propagates_and_can_be_tried_again(
    flow: FlowExecutor, api: Api
) -> None:
    broken = True

    def failing(given: Any) -> Any:
        user = yield {"__tool": ["api", "user", given]}
        if broken:
            raise KeyError("email")
        return user

    with pytest.raises(KeyError, match="email"):
        await flow.execute(failing, "exec-1", {"id": 1}, until="end")
    with pytest.raises(KeyError, match="email"):
        await flow.execute(failing, "exec-1")
    broken = False

    assert await flow.execute(failing, "exec-1") == {"tool": "user", "n": 1}
    assert len(api.calls) == 1


async def test_an_error_names_the_flow_whose_id_was_made(flow: FlowExecutor, api: Api) -> None:
    def failing(given: Any) -> Any:
        yield {"__tool": ["api", "user", given]}
        raise KeyError("email")

    with pytest.raises(KeyError) as caught:
        await flow.execute(failing, input=1, until="end")
    (note,) = caught.value.__notes__
    made = note.removeprefix("this was flow ").partition(":")[0]

    with pytest.raises(KeyError):
        await flow.execute(failing, made)
    assert len(api.calls) == 1


@pytest.mark.parametrize(
    "yielded",
    [
        None,
        "text",
        {},
        {"__tool": "api.user"},
        {"__tool": ["api"]},
        {"__tool": ["api", 3, {}]},
        {"__tool": ["", "user", {}]},
        {"__tool": ["__save", "point", {}]},
        {"__tool": ["api", "user", {}, "more"]},
        {"__tool": ["api", "user", {}], "__save": True},
        {"__save": False},
        {"__return": 1},
        ["api", "user"],
    ],
)
async def test_other_yields_say_what_may_be_yielded(flow: FlowExecutor, yielded: Any) -> None:
    def wrong() -> Any:
        yield yielded

    with pytest.raises(InvalidTaskError, match="a workflow may yield") as caught:
        await flow.execute(wrong, "exec-1")

    assert '{"__tool": [category, name, input]} or {"__save": True}' in str(caught.value)
    assert str(caught.value).startswith("test_executor.py:")


@pytest.mark.parametrize("function", [lambda given: given, print, dict])
async def test_what_is_no_generator_is_refused(
    flow: FlowExecutor, function: Callable[..., Any]
) -> None:
    with pytest.raises(InvalidTaskError, match="is not a generator function"):
        await flow.execute(function, "exec-1", {})


async def test_a_coroutine_function_is_refused(flow: FlowExecutor) -> None:
    async def workflow(given: Any) -> Any:
        return given

    with pytest.raises(InvalidTaskError, match="is not a generator function"):
        await flow.execute(workflow, "exec-1", 1)


async def test_a_workflow_that_yields_while_it_is_put_away(flow: FlowExecutor, api: Api) -> None:
    def stubborn() -> Any:
        try:
            yield {"__tool": ["api", "user", None]}
        finally:
            yield {"__tool": ["api", "audit", None]}

    with pytest.raises(InvalidTaskError, match="put that call behind the block"):
        await flow.execute(stubborn, "exec-1")
    assert await flow.execute(stubborn, "exec-1") == {"paused": "exec-1", "step": 1}

    assert [name for _, name, _ in api.calls] == ["user", "audit"]
    assert await flow.execute(stubborn, "exec-1") is None


# --- values --------------------------------------------------------------------------------------


async def test_values_come_back_as_they_were(storage: MemoryStepStorage) -> None:
    value = {
        "when": dt.datetime(2026, 11, 21, tzinfo=dt.UTC),
        "price": decimal.Decimal("1.10"),
        "bytes": b"\x00\xff",
        "pair": (1, 2),
        "names": {"a", "b"},
        "large": 10**100,
        "$tool": {3: "three"},
    }
    received = []

    def echo() -> Any:
        answer = yield {"__tool": ["api", "echo", value]}
        yield {"__save": True}
        received.append(answer)
        return answer

    flow = create_flow_executor(storage, call=lambda category, name, given: given)
    assert await to_end(flow, echo, "exec-1", None) == value
    assert received == [value]


async def test_the_same_arrives_at_once_and_on_replay(storage: MemoryStepStorage) -> None:
    class Row(dict[str, int]):
        pass

    kinds = []

    def one() -> Any:
        answer = yield {"__tool": ["api", "row", None]}
        kinds.append(type(answer))
        answer["n"] = 2
        yield {"__save": True}
        return answer["n"]

    flow = create_flow_executor(storage, call=lambda *request: Row(n=1))
    assert await flow.execute(one, "a", until="end") == 2
    assert await to_end(flow, one, "b", None) == 2
    assert set(kinds) == {dict}


async def test_a_value_that_cannot_be_stored_is_named(flow: FlowExecutor) -> None:
    def wrong() -> Any:
        yield {"__tool": ["api", "user", {"rows": [{"owner": object()}]}]}

    with pytest.raises(ValueNotSupportedError, match=r"input of api\.user\.rows\[0\]\.owner is an"):
        await flow.execute(wrong, "exec-1")
    with pytest.raises(ValueNotSupportedError, match=r"input\.key is an? object"):
        await flow.execute(workflow, "exec-2", {"key": object()})


async def test_a_result_that_cannot_be_stored_is_named(storage: MemoryStepStorage) -> None:
    flow = create_flow_executor(storage, call=lambda *request: {"session": object()})

    with pytest.raises(ValueNotSupportedError, match=r"result of api\.user\.session is an object"):
        await flow.execute(workflow, "exec-1", {"user_id": 1})

    flow = create_flow_executor(storage, call=Api())
    assert (await flow.execute(workflow, "exec-1"))["step"] == 0


# --- changed code --------------------------------------------------------------------------------


async def test_changed_code_is_shown_beside_what_was_recorded(flow: FlowExecutor, api: Api) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123})

    def changed(given: Any) -> Any:
        user = yield {"__tool": ["api", "user", {"id": given["user_id"] + 1}]}
        return user

    with pytest.raises(NonDeterminismError) as caught:
        await flow.execute(changed, "exec-1")

    _, expected, actual, difference = str(caught.value).splitlines()
    assert expected.startswith('  expected  api.user {"id":123}  at test_executor.py:')
    assert expected.endswith('user = yield {"__tool": ["api", "user", {"id": given["user_id"]}]}')
    assert actual.startswith('  actual    api.user {"id":124}  at test_executor.py:')
    assert difference == "  first difference: id is 123, actual 124"
    assert len(api.calls) == 1
    assert (await flow.execute(workflow, "exec-1"))["step"] == 1


async def test_a_workflow_that_ends_too_early(flow: FlowExecutor) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123})

    def shorter(given: Any) -> Any:
        return given
        yield

    with pytest.raises(NonDeterminismError, match=r"expected  api\.user .*\n  actual    \(no call"):
        await flow.execute(shorter, "exec-1")


async def test_a_save_point_is_not_a_call(flow: FlowExecutor) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123})

    def changed(given: Any) -> Any:
        yield {"__save": True}

    with pytest.raises(NonDeterminismError):
        await flow.execute(changed, "exec-1")


# --- two at once ---------------------------------------------------------------------------------


class Slow:
    """A call that lasts until it is let go."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, category: str, name: str, given: Any, key: str) -> Any:
        self.keys.append(key)
        self.begun.set()
        await self.go.wait()
        return len(self.keys)


async def test_of_two_deliveries_one_performs_the_call(storage: MemoryStepStorage) -> None:
    slow = Slow()
    flow, other = [create_flow_executor(storage, call=slow) for _ in range(2)]
    first = asyncio.create_task(flow.execute(workflow, "exec-1", {"user_id": 1}))
    await slow.begun.wait()

    with pytest.raises(RunBusyError, match="nothing was done; try again later"):
        await other.execute(workflow, "exec-1")
    slow.go.set()

    assert await first == {"paused": "exec-1", "step": 0}
    assert len(slow.keys) == 1


async def test_a_callback_that_comes_twice_counts_once(flow: FlowExecutor, api: Api) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123})

    assert (await flow.execute(workflow, "exec-1", step=0))["step"] == 1
    assert (await flow.execute(workflow, "exec-1", step=0))["step"] == 1
    assert len(api.calls) == 2

    assert await flow.execute(workflow, "exec-1", step=1) == EXPECTED
    with pytest.raises(RunNotFoundError, match="flow exec-1 is over, or was never begun"):
        await flow.execute(workflow, "exec-1", step=1)
    assert len(api.calls) == 2


async def test_a_late_callback_does_nothing_while_the_flow_is_driven(
    flow: FlowExecutor, storage: MemoryStepStorage
) -> None:
    await flow.execute(workflow, "exec-1", {"user_id": 123})
    slow = Slow()
    driving = asyncio.create_task(
        create_flow_executor(storage, call=slow).execute(workflow, "exec-1", step=0)
    )
    await slow.begun.wait()

    with pytest.raises(RunBusyError):
        await flow.execute(workflow, "exec-1", step=0)
    assert await flow.execute(workflow, "exec-1", step=-1) == {"paused": "exec-1", "step": 0}
    slow.go.set()

    assert await driving == {"paused": "exec-1", "step": 1}


async def test_a_process_that_died_is_replaced_when_its_lease_is_over(
    storage: MemoryStepStorage, api: Api
) -> None:
    clock = FakeClock()
    slow = Slow()
    dead = create_flow_executor(storage, call=slow, lease=60, clock=clock)
    dying = asyncio.create_task(dead.execute(workflow, "exec-1", {"user_id": 1}))
    await slow.begun.wait()
    state = await storage.get("exec-1")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert state
    await storage.set("exec-1", state)  # as if it had not had the time to give it back

    flow = create_flow_executor(storage, call=api, lease=60, clock=clock)
    with pytest.raises(RunBusyError):
        await flow.execute(workflow, "exec-1")
    clock.advance(100)

    assert (await flow.execute(workflow, "exec-1"))["step"] == 0
    assert api.keys == slow.keys, "the same call with the same key"


async def test_who_was_replaced_writes_nothing(storage: MemoryStepStorage, api: Api) -> None:
    clock = FakeClock(patience=3600)  # so nothing is renewed
    slow = Slow()
    frozen = create_flow_executor(storage, call=slow, lease=60, clock=clock)
    late = asyncio.create_task(frozen.execute(workflow, "exec-1", {"user_id": 1}))
    await slow.begun.wait()
    clock.advance(100)
    flow = create_flow_executor(storage, call=api, lease=60, clock=clock)
    assert (await flow.execute(workflow, "exec-1"))["step"] == 0

    slow.go.set()
    with pytest.raises(LeaseLostError, match="theirs counts"):
        await late

    assert await flow.execute(workflow, "exec-1", until="end") == EXPECTED


async def test_a_claim_is_renewed_while_a_call_lasts(storage: MemoryStepStorage) -> None:
    clock = FakeClock()
    slow = Slow()
    flow = create_flow_executor(storage, call=slow, lease=60, clock=clock)
    task = asyncio.create_task(flow.execute(workflow, "exec-1", {"user_id": 1}))
    await slow.begun.wait()
    begun = clock.now()
    while (clock.now() - begun).total_seconds() < 600:
        await asyncio.sleep(0)

    with pytest.raises(RunBusyError):
        await flow.execute(workflow, "exec-1")
    slow.go.set()

    assert await task == {"paused": "exec-1", "step": 0}


async def test_a_cancelled_call_is_performed_again_at_once(
    storage: MemoryStepStorage, api: Api
) -> None:
    slow = Slow()
    task = asyncio.create_task(
        create_flow_executor(storage, call=slow).execute(workflow, "exec-1", {"user_id": 1})
    )
    await slow.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    flow = create_flow_executor(storage, call=api)
    assert await flow.execute(workflow, "exec-1", until="end") == EXPECTED
    assert api.keys[0] == slow.keys[0]


async def test_keys_are_of_one_flow_and_one_step(flow: FlowExecutor, api: Api) -> None:
    for _ in range(2):  # the second is another flow, though under the same id
        await flow.execute(workflow, "exec-1", {"user_id": 1}, until="end")

    assert len(set(api.keys)) == 4


# --- storages ------------------------------------------------------------------------------------


async def test_any_object_with_the_five_methods_will_do(api: Api) -> None:
    states: dict[str, Any] = {}
    results: dict[Any, Any] = {}

    class Database:  # its methods are ordinary functions
        get = staticmethod(states.get)
        set = staticmethod(states.__setitem__)

        def delete(self, id: str) -> None:
            states.pop(id)
            results.clear()

        def get_result(self, id: str, step: int) -> Any:
            return results.get((id, step))

        def set_result(self, id: str, step: int, data: Any) -> None:
            results[id, step] = data

    flow = create_flow_executor(Database(), call=api)
    assert await to_end(flow, workflow, "exec-1", {"user_id": 123}) == EXPECTED
    assert states == results == {}


async def test_how_far_to_go_is_a_word_or_a_number(flow: FlowExecutor) -> None:
    until: Any = "forever"
    with pytest.raises(ConfigError, match='until is \'forever\': use "step", "end" or a number'):
        await flow.execute(workflow, "exec-1", {"user_id": 1}, until=until)


async def test_what_cannot_store_is_refused() -> None:
    with pytest.raises(ConfigError, match="dict cannot store flows: it lacks set, delete"):
        create_flow_executor({})
    with pytest.raises(ConfigError, match="a number of seconds above 0"):
        create_flow_executor(MemoryStepStorage(), lease=0)


async def test_an_adapter_is_taken_as_it_is(api: Api) -> None:
    adapter = await create_adapter("memory:")
    flow = create_flow_executor(adapter, call=api)
    await flow.execute(workflow, "exec-1", {"user_id": 123})

    (run,) = await adapter.query_task_runs(task_identifier="flow-executor")
    (call,) = await adapter.query_stack_runs(task_run_id=run.id)
    assert (run.status, run.input) == ("paused", {"input": {"user_id": 123}})
    assert (call.operation, call.status) == ("api.user", "completed")
    assert call.result == {"tool": "user", "n": 1}
    assert call.where
    assert call.where.function == "workflow"
    assert await adapter.wakeups("9999") == [], "no worker takes it"
    assert await flow.execute(workflow, "exec-1", until="end") == EXPECTED


async def test_a_missing_result_is_named(api: Api) -> None:
    storage = CustomStorage()
    flow = create_flow_executor(storage, call=api)
    await flow.execute(workflow, "exec-1", {"user_id": 123})
    kept = storage.results.pop(("exec-1", 0))

    with pytest.raises(StorageError, match="flow exec-1: the result of step 0 is missing"):
        await flow.execute(workflow, "exec-1")
    storage.results["exec-1", 0] = {**kept, "sequence": "no number"}
    with pytest.raises(StorageError, match="the result of step 0 is missing or damaged"):
        await flow.execute(workflow, "exec-1")
    storage.results["exec-1", 0] = kept
    assert (await flow.execute(workflow, "exec-1"))["step"] == 1

    del storage.results["exec-1", -1]
    with pytest.raises(StorageError, match="its input is missing"):
        await flow.execute(workflow, "exec-1")


@pytest.mark.parametrize("state", [{}, [], 7, {"step": "1"}, {"step": -1}, {"step": True}])
async def test_a_damaged_state_is_refused(
    storage: MemoryStepStorage, flow: FlowExecutor, state: Any
) -> None:
    await storage.set("exec-1", state)

    with pytest.raises(StorageError, match="the state of flow exec-1 is damaged"):
        await flow.execute(workflow, "exec-1", {"user_id": 1})
    await flow.delete("exec-1")
    assert (await flow.execute(workflow, "exec-1", {"user_id": 1}))["step"] == 0


async def test_a_flow_that_was_ended_half_is_removed_before_another_begins(api: Api) -> None:
    """Its process died while it removed the results one by one."""
    storage = CustomStorage()
    flow = create_flow_executor(storage, call=api)
    await flow.execute(workflow, "exec-1", {"user_id": 123})
    storage.states["exec-1"]["ended"] = True
    del storage.results["exec-1", 0]

    with pytest.raises(RunNotFoundError):
        await flow.execute(workflow, "exec-1", step=0)
    assert (await flow.execute(workflow, "exec-1", {"user_id": 5}))["step"] == 0
    assert storage.results["exec-1", -1] == {"input": {"user_id": 5}}

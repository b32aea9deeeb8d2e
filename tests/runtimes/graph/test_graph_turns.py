"""The graph runtime by itself: outcomes in, turns out."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sequential.core.model import Failure, Finished, Outcome, Raised, Turn, Waiting
from sequential.runtimes.base import Program, SnapshotRefusedError
from sequential.runtimes.graph.runtime import GraphRuntime

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETRIED = {
    "initial": "work",
    "states": {
        "work": {
            "invoke": {"src": "work", "id": "again:work", "retry": 5, "onDone": "end"},
            "on": {"STOP": "end"},
            "after": {"60000": "end"},
        },
        "end": {"invoke": {"src": "work", "onDone": "over"}},
        "over": {"type": "final"},
    },
}


def program(graph: Any) -> Program:
    return Program("run", "job", "def work(input): pass", graph=json.dumps(graph))


def numbers(turn: Turn) -> dict[str, int]:
    """Operation -> number of the last call of this kind that the turn has asked for."""
    return {call.operation: call.sequence for call in turn.calls}


@pytest.fixture
async def failed() -> tuple[GraphRuntime, dict[str, int]]:
    """A machine that pauses before a retry, and its calls."""
    runtime = GraphRuntime()
    first = numbers(await runtime.start(program(RETRIED), {}, NOW))
    error = Outcome(error=Failure("OSError", "down"))
    paused = numbers(await runtime.resume([(first["tasks.run"], error)], NOW))
    return runtime, {"events.wait": first["events.wait"], "pause": paused["clock.sleep"]}


async def test_a_pause_that_ends_as_its_state_is_left_changes_nothing(
    failed: tuple[GraphRuntime, dict[str, int]],
) -> None:
    runtime, calls = failed
    stop = Outcome({"name": "STOP", "data": None})
    both = [(calls["events.wait"], stop), (calls["pause"], Outcome())]
    turn = await runtime.resume(both, NOW)
    assert [c.arguments.get("handler") for c in turn.calls if c.service == "tasks"] == ["work"]


async def test_a_pause_that_ends_leads_to_the_handler_again(
    failed: tuple[GraphRuntime, dict[str, int]],
) -> None:
    runtime, calls = failed
    turn = await runtime.resume([(calls["pause"], Outcome())], NOW)
    assert [call.operation for call in turn.calls] == ["tasks.run"]


async def test_outcomes_of_one_turn_may_be_of_states_that_the_same_turn_leaves() -> None:
    graph = json.loads(json.dumps(RETRIED))
    del graph["states"]["work"]["invoke"]["retry"]
    for last in (Outcome(1), Outcome(error=Failure("OSError", "down"))):
        runtime = GraphRuntime()
        calls = numbers(await runtime.start(program(graph), {}, NOW))
        stop = Outcome({"name": "STOP", "data": None})
        given = [(calls["events.wait"], stop), (calls["tasks.run"], last),
                 (calls["clock.sleep"], Outcome())]  # fmt: skip
        turn = await runtime.resume(given, NOW)
        assert isinstance(turn.state, Waiting)
        assert numbers(turn).keys() == {"graph.step", "tasks.run"}
        assert turn.dropped == ()  # all of them were given


async def test_what_is_left_is_given_up_in_the_same_turn() -> None:
    runtime = GraphRuntime()
    calls = numbers(await runtime.start(program(RETRIED), {}, NOW))
    stop = Outcome({"name": "STOP", "data": None})
    turn = await runtime.resume([(calls["events.wait"], stop)], NOW)
    assert turn.dropped == tuple(sorted([calls["tasks.run"], calls["clock.sleep"]]))


async def test_a_snapshot_is_the_machine_with_all_that_it_waits_for() -> None:
    runtime = GraphRuntime()
    calls = numbers(await runtime.start(program(RETRIED), {}, NOW))
    state = await runtime.snapshot()
    assert state is not None
    other = GraphRuntime()
    waiting = await other.restore(program(RETRIED), state)
    assert set(waiting.calls) == {calls[n] for n in ("events.wait", "clock.sleep", "tasks.run")}
    later = NOW + timedelta(minutes=1)
    outcome = [(calls["clock.sleep"], Outcome())]
    assert await other.resume(outcome, later) == await runtime.resume(outcome, later)


async def test_a_snapshot_of_another_graph_is_refused() -> None:
    runtime = GraphRuntime()
    await runtime.start(program(RETRIED), {}, NOW)
    state = await runtime.snapshot()
    assert state is not None
    other = {"initial": "over", "states": {"over": {"type": "final"}}}
    for given, damaged in ((other, state), (RETRIED, state[:-3]), (RETRIED, b"")):
        with pytest.raises(SnapshotRefusedError):
            await GraphRuntime().restore(program(given), damaged)


async def test_an_event_that_nobody_takes_is_used_up() -> None:
    runtime = GraphRuntime()
    calls = numbers(await runtime.start(program(RETRIED), {}, NOW))
    other = Outcome({"name": "NEVER", "data": {"x": 1}})
    turn = await runtime.resume([(calls["events.wait"], other)], NOW)
    assert [call.operation for call in turn.calls] == ["events.wait"]
    assert turn.dropped == ()


async def test_a_machine_in_which_nothing_can_happen_fails() -> None:
    never = {"target": "b", "guard": {"$expr": "1 > 2"}}
    graph = {"initial": "a", "states": {"a": {"always": never}, "b": {"type": "final"}}}
    turn = await GraphRuntime().start(program(graph), {}, NOW)
    assert isinstance(turn.state, Raised)
    assert "nothing can happen" in turn.state.error.message


async def test_a_machine_that_ends_at_once_waits_for_nothing() -> None:
    graph = {"initial": "over", "states": {"over": {"type": "final"}}, "output": 7}
    turn = await GraphRuntime().start(program(graph), {}, NOW)
    assert turn.state == Finished(7)
    assert [call.operation for call in turn.calls] == ["graph.step"]

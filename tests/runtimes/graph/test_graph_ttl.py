"""A task's ttl in a graph: it counts while nothing but an event from outside can lead on."""

from typing import Any

from runtimes.graph.conftest import Start, over
from sequential.core import times
from sequential.core.model import Status
from sequential.runner.engine import Engine
from sequential.runner.run_handle import Run

DAY = 86400.0
SLOW = "async def work(input):\n    await sleep(3 * 86400)\n"
GO = {"on": {"GO": "end"}}
END = {"type": "final"}


def lasted(run: Run) -> float:
    """Seconds from the first turn of a run to its end."""
    assert run.record.started_at
    assert run.record.ended_at
    return times.seconds_between(run.record.started_at, run.record.ended_at)


async def test_a_handler_may_take_longer_while_events_are_accepted(start: Start) -> None:
    graph = {
        "initial": "work",
        "on": {"CANCEL": ".end"},
        "states": {"work": {"onDone": "end"}, "end": END},
    }
    run = await over(await start(graph, SLOW, ttl=DAY))
    assert run.status is Status.COMPLETED
    assert lasted(run) >= 3 * DAY


async def test_a_wait_that_begins_anew_counts_anew(start: Start) -> None:
    graph = {
        "initial": "work",
        "states": {"work": {"onDone": "asking", **GO}, "asking": GO, "end": END},
    }
    run = await over(await start(graph, SLOW, ttl=DAY))
    assert run.status is Status.FAILED
    assert run.record.error
    assert run.record.error.code == "expired"
    assert run.record.error.message.endswith("while waiting in asking")
    assert 4 * DAY <= lasted(run) < 4.5 * DAY


async def test_a_state_with_a_time_of_its_own_waits_as_long_as_it_says(start: Start) -> None:
    graph: Any = {
        "initial": "asking",
        "states": {"asking": {**GO, "after": {str(int(7 * DAY) * 1000): "late"}}, "late": END},
    }
    graph["states"]["end"] = END
    run = await over(await start(graph, ttl=DAY))
    assert run.status is Status.COMPLETED
    assert lasted(run) >= 7 * DAY


async def test_an_event_that_leads_nowhere_is_an_answer_all_the_same(
    engine: Engine, start: Start
) -> None:
    graph = {
        "initial": "asking",
        "states": {"asking": {"on": {**GO["on"], "NOTE": {"actions": "log"}}}, "end": END},
    }
    run = await start(graph, ttl=DAY)
    await run.send("NOTE")
    run = await over(run)
    assert run.record.error
    assert run.record.error.code == "expired"

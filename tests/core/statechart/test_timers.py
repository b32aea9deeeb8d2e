"""Time: `after`, delayed events, and timers that outlive a process."""

from typing import Any

import pytest

from support.statecharts import Graph, Run, flat, problems, when


def raise_(name: str, **more: Any) -> Graph:
    return {"type": "raise", "params": {"event": {"type": name}, **more}}


def test_after_a_time_the_state_is_left() -> None:
    run = Run(flat(a={"after": {"1000": "b"}}, b={}))

    assert run.snapshot["timers"] == [
        {
            "id": "xstate.after.1000.m.a",
            "key": "xstate.after.1000.m.a#1",
            "due": 1000,
            "event": {"type": "xstate.after.1000.m.a"},
        }
    ]
    assert run.wait(999).value == "a"
    assert run.wait(1).value == "b"


def test_of_several_times_each_has_its_timer() -> None:
    run = Run(flat(a={"after": {"10": {"actions": "ten"}, "0.5": {"actions": "half"}}}))

    assert run.wait(5).did == ["half"]
    assert run.wait(5).did == ["ten"]


def test_an_event_may_be_raised_later_and_cancelled() -> None:
    on = {
        "GO": {"actions": raise_("LATE", delay=100, id="late")},
        "STOP": {"actions": {"type": "cancel", "params": {"id": "late"}}},
        "LATE": {"actions": "late"},
    }
    graph = flat(a={"on": on})

    assert Run(graph).send("GO").wait(100).did == ["late"]
    assert Run(graph).send("GO", "STOP").timers == []


def test_a_second_delayed_event_of_an_id_replaces_the_first() -> None:
    # Quirk 2: in XState both come.
    on = {"GO": {"actions": raise_("LATE", delay=100, id="late")}, "LATE": {"actions": "late"}}
    run = Run(flat(a={"on": on})).send("GO").wait(60).send("GO")

    assert run.timers == ["late"]
    assert run.wait(60).did == []
    assert run.wait(40).did == ["late"]


def test_delayed_events_without_an_id_all_come() -> None:
    raised = raise_("LATE", delay=when("event.ms"))
    run = Run(flat(a={"on": {"GO": {"actions": raised}, "LATE": {"actions": "late"}}}))

    run.send("GO", ms=10).send("GO", ms=10)

    assert run.timers == ["raise#1", "raise#3"]
    assert run.wait(10).did == ["late"]
    assert run.timers == []


def test_times_are_absolute_so_a_late_worker_shifts_nothing() -> None:
    run = Run(flat(a={"after": {"100": {"actions": "x"}, "200": "b"}}, b={}))
    run.now = 5_000
    first, second = run.snapshot["timers"]

    after_first, _ = run.machine.fire(run.snapshot, first["key"], run.now)
    assert after_first["timers"] == [second]
    assert run.machine.fire(after_first, second["key"], run.now)[0]["value"] == "b"


def test_a_timer_that_was_cleared_or_set_again_is_stale() -> None:
    again = {"AGAIN": {"target": "a", "reenter": True}}
    run = Run(flat(a={"after": {"100": "b"}, "on": again}, b={}))
    (old,) = run.snapshot["timers"]
    run.send("AGAIN")

    assert run.machine.fire(run.snapshot, old["key"], 100) == (run.snapshot, [])


def test_too_many_timers_end_the_machine() -> None:
    raised = {"actions": [raise_("LATE", delay=1000)] * 500}
    run = Run(flat(a={"on": {"GO": raised}})).send("GO", "GO")

    assert len(run.timers) == 1000
    assert "more than 1000 delayed events" in run.send("GO").error["message"]


@pytest.mark.parametrize("delay", ["soon", "-1", "1e3", "1_000", " 5", "nan", "inf", "+5", "٣"])
def test_delays_are_plain_numbers_of_milliseconds(delay: str) -> None:
    (problem,) = problems(flat(a={"after": {delay: "b"}}, b={"on": {"X": "a"}}))

    assert problem.startswith("$.states.a.after[")
    assert "write milliseconds, as in 60000 for a minute" in problem

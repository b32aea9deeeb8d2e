"""Final states: done events, outputs, and the end of the machine."""

import pytest

from support.statecharts import Graph, Run, assign, compound, flat, told, when

END: Graph = {"type": "final"}


def test_a_final_child_of_the_machine_ends_it() -> None:
    graph = told("m", **flat(a=told("a", on={"GO": "end"}), end=told("end", type="final")))

    run = Run(graph).send("GO")

    assert run.status == "done"
    assert run.did == ["-a", "+end", "-end", "-m"]  # trap 5: exit actions run on completion, too


def test_nothing_happens_after_the_end() -> None:
    run = Run(flat(a={"on": {"GO": "end"}}, end={**END, "invoke": []}))
    run.send("GO")

    for result in (
        run.machine.send(run.snapshot, {"type": "GO"}, 1),
        run.machine.done(run.snapshot, "x#1", None, 1),
        run.machine.fire(run.snapshot, "x#1", 1),
    ):
        assert result == (run.snapshot, [])
    assert not run.machine.can(run.snapshot, {"type": "GO"})


def test_the_end_drops_timers_and_handlers() -> None:
    work = {"invoke": {"src": "work"}, "after": {"1000": {"actions": "x"}}}
    regions = {"x": work, "y": compound(a={"on": {"GO": "#end"}})}
    graph = flat(p={"type": "parallel", "states": regions}, end={**END, "id": "end"})
    graph["invoke"] = {"src": "watch", "id": "watch"}

    run = Run(graph).send("GO")

    assert (run.status, run.in_flight, run.timers) == ("done", [], [])
    assert [e.id for e in run.effects if hasattr(e, "id")] == ["0.m.p.x", "watch"]


def test_a_final_state_tells_its_parent_with_its_output() -> None:
    # Trap 7.
    inner = compound(a={"on": {"GO": "end"}}, end={**END, "output": {"n": when("context.n")}})
    inner["onDone"] = {"target": "next", "actions": assign(got="event.output.n")}
    graph = {**flat(outer=inner, next={}), "context": {"n": 3}}

    assert Run(graph).send("GO").context == {"n": 3, "got": 3}


def test_a_parallel_state_is_done_when_every_region_is() -> None:
    region = compound(a={"on": {"ONE": "end"}}, end=END)
    other = compound(a={"on": {"TWO": "end"}}, end=END)
    p = {"type": "parallel", "states": {"x": region, "y": other}, "onDone": "next"}
    run = Run(flat(p=p, next={}))

    assert run.send("ONE").value == {"p": {"x": "end", "y": "a"}}
    assert run.send("TWO").value == "next"


def test_a_final_state_two_levels_down_does_not_count() -> None:
    region = compound(inner=compound(a={"on": {"GO": "end"}}, end=END))
    p = {"type": "parallel", "states": {"x": region}, "onDone": "next"}

    assert Run(flat(p=p, next={})).send("GO").value == {"p": {"x": {"inner": "end"}}}


def test_a_parallel_machine_ends_with_its_regions() -> None:
    region = compound(a={"on": {"GO": "end"}}, end=END)
    graph = {"id": "m", "type": "parallel", "states": {"x": region, "y": region}}

    run = Run({**graph, "output": {"type": when("event.type"), "n": when("event.output")}})

    assert run.send("GO").status == "done"
    assert run.output == {"type": "xstate.done.state.m", "n": None}


@pytest.mark.parametrize(
    ("output", "expected"),
    [(None, None), (when("event.output"), 5), ({"sum": when("context.n + 1")}, {"sum": 6})],
)
def test_the_output_of_the_machine_is_its_own(output: object, expected: object) -> None:
    # Quirk 11: without an `output` of the machine there is none.
    graph = {**flat(a={"on": {"GO": "end"}}, end={**END, "output": when("context.n")})}
    graph |= {"context": {"n": 5}, **({"output": output} if output else {})}

    run = Run(graph).send("GO")

    assert (run.status, run.output) == ("done", expected)


def test_a_final_state_with_a_handler_is_reached_when_the_handler_has_ended() -> None:
    # Our extension.
    graph = told("m", **flat(a={"invoke": {"src": "last", "id": "last"}, **END}))
    graph["output"] = when("event.output")

    run = Run(graph)
    assert (run.status, run.in_flight) == ("active", ["last"])

    assert run.done("last", 7).status == "done"
    assert run.output == 7
    assert run.did == ["-m"]


def test_a_final_state_waits_for_all_its_handlers() -> None:
    invokes = [{"src": "one", "id": "one"}, {"src": "two", "id": "two"}]
    region = compound(end={**END, "invoke": invokes})
    p = {"type": "parallel", "states": {"x": region, "y": END}, "onDone": "next"}
    run = Run(flat(p=p, next={}))

    assert run.done("two").value == {"p": {"x": "end", "y": {}}}
    assert run.done("one").value == "next"


def test_an_error_that_a_final_state_takes_ends_its_handler_as_well() -> None:
    invoke = {"src": "last", "id": "last", "onError": {"actions": "sorry"}}
    run = Run(flat(a={**END, "invoke": invoke})).failed("last")

    assert (run.status, run.did) == ("done", ["sorry"])

"""Which states a transition leaves and enters, and what history restores."""

from typing import Any

import pytest

from support.statecharts import Graph, Run, compound, flat, told


def nested(**on: Any) -> Graph:
    """`outer` with a and b in it, beside `away`; all tell when they are entered and left."""
    inner = {"a": told("a"), "b": told("b")}
    outer = told("outer", initial="a", states=inner, on=on)
    return flat(outer=outer, away=told("away", on={"BACK": "outer"}))


@pytest.mark.parametrize(
    ("transition", "did", "value"),
    [
        ({"actions": "act"}, ["act"], {"outer": "b"}),
        (".b", ["-b", "+b"], {"outer": "b"}),
        (".a", ["-b", "+a"], {"outer": "a"}),
        ("outer", ["-b", "+a"], {"outer": "a"}),
        ({"target": ".a", "reenter": True}, ["-b", "-outer", "+outer", "+a"], {"outer": "a"}),
        ({"target": "outer", "reenter": True}, ["-b", "-outer", "+outer", "+a"], {"outer": "a"}),
        ("away", ["-b", "-outer", "+away"], "away"),
        ("#m", ["-b", "-outer", "+outer", "+a"], {"outer": "a"}),
        ("#m.away", ["-b", "-outer", "+away"], "away"),
    ],
)
def test_what_is_left_and_entered(transition: Any, did: list[str], value: Any) -> None:
    graph = nested(GO=transition, TO_B=".b")

    run = Run(graph).send("TO_B", "GO")

    assert run.did == did
    assert run.value == value
    assert [state.rpartition(".")[2] for state in run.step.left] == [
        name[1:] for name in did if name.startswith("-")
    ]


def test_an_atomic_state_that_targets_itself_keeps_its_timer() -> None:
    state = told("a", on={"GO": {"target": "a", "actions": "act"}}, after={"100": "late"})
    run = Run(flat(a=state, late={}))

    assert run.wait(60).send("GO").did == ["act"]  # neither left nor entered
    assert run.wait(40).value == "late"


def test_reenter_starts_the_timer_anew() -> None:
    state = told("a", on={"GO": {"target": "a", "reenter": True}}, after={"100": "late"})
    run = Run(flat(a=state, late={}))

    assert run.wait(60).send("GO").did == ["-a", "+a"]
    assert run.wait(40).value == "a"
    assert run.wait(60).value == "late"


def parallel_with_regions() -> Graph:
    regions = {
        "x": told("x", initial="x1", states={"x1": told("x1"), "x2": told("x2")}),
        "y": told("y", initial="y1", states={"y1": told("y1"), "y2": told("y2")}),
    }
    regions["x"]["states"]["x1"]["on"] = {"CROSS": "#y2"}
    regions["y"]["states"]["y2"]["id"] = "y2"
    return flat(p=told("p", type="parallel", states=regions))


def test_a_transition_across_regions_leaves_them_all_but_not_the_parallel_state() -> None:
    run = Run(parallel_with_regions()).send("CROSS")

    assert run.did == ["-y1", "-y", "-x1", "-x", "+x", "+x1", "+y", "+y2"]
    assert run.value == {"p": {"x": "x1", "y": "y2"}}


def test_states_are_left_in_reverse_document_order_not_by_depth() -> None:
    deep = told("deep", initial="d1", states={"d1": told("d1")})
    regions = {"x": told("x", initial="deep", states={"deep": deep}), "y": told("y")}
    graph = flat(p=told("p", type="parallel", states=regions, on={"GO": "end"}), end={})

    assert Run(graph).send("GO").did == ["-y", "-d1", "-deep", "-x", "-p"]


def test_several_targets_enter_one_state_of_each_region() -> None:
    region = compound("a", "b")
    regions = {"x": region, "y": region, "z": region}
    both = {"target": ["p.x.b", "p.z.b"]}
    graph = flat(idle={"on": {"GO": both}}, p={"type": "parallel", "states": regions})

    assert Run(graph).send("GO").value == {"p": {"x": "b", "y": "a", "z": "b"}}


def test_the_actions_of_an_initial_transition_run_when_it_is_entered_by_default() -> None:
    outer = told("outer", initial={"target": "a", "actions": "init"}, states={"a": told("a")})
    graph = flat(idle={"on": {"OUTER": "outer", "A": "outer.a"}}, outer=outer)

    assert Run(graph).send("OUTER").did == ["+outer", "init", "+a"]
    assert Run(graph).send("A").did == ["+outer", "+a"]


def player(history: str, **more: Any) -> Graph:
    """Music that can be stopped, and goes on where it was."""
    playing = compound(
        low={"on": {"LOUDER": "high"}},
        high=compound(bass={"on": {"OTHER": "treble"}}, treble={}),
        memory={"type": "history", "history": history, **more},
    )
    playing["on"] = {"STOP": "stopped"}
    return flat(playing=playing, stopped={"on": {"PLAY": "playing.memory"}})


def test_shallow_history_restores_the_child_deep_history_the_leaf() -> None:
    shallow = Run(player("shallow")).send("LOUDER", "OTHER", "STOP", "PLAY")
    deep = Run(player("deep")).send("LOUDER", "OTHER", "STOP", "PLAY")

    assert shallow.value == {"playing": {"high": "bass"}}
    assert deep.value == {"playing": {"high": "treble"}}
    assert deep.snapshot["history"] == {"m.playing.memory": ["m.playing.high.treble"]}


def test_without_a_record_history_means_its_target_or_the_initial_state() -> None:
    graph = player("deep")
    graph["initial"] = "stopped"
    with_target = player("deep", target="high")
    with_target["initial"] = "stopped"

    assert Run(graph).send("PLAY").value == {"playing": "low"}
    assert Run(with_target).send("PLAY").value == {"playing": {"high": "bass"}}


def test_history_of_a_parallel_state_restores_every_region() -> None:
    region = compound(a={"on": {"NEXT": "b"}}, b={})
    regions = {"x": region, "y": compound("a"), "h": {"type": "history", "history": "deep"}}
    graph = flat(
        p={"type": "parallel", "states": regions, "on": {"OFF": "off"}}, off={"on": {"ON": "p.h"}}
    )

    assert Run(graph).send("NEXT", "OFF", "ON").value == {"p": {"x": "b", "y": "a"}}


def test_history_that_means_the_source_is_left_before_it_is_entered() -> None:
    # Quirk 1: XState enters it without leaving it, and its timers count twice.
    a = told("a", on={"AGAIN": "h"}, after={"100": "a"})

    run = Run(flat(p=compound(a=a, h={"type": "history"}))).send("AGAIN")

    assert run.did == ["-a", "+a"]
    assert len(run.timers) == 1


def test_history_inside_the_ancestor_that_is_left_runs_its_exit_and_entry() -> None:
    # Quirk 3: XState runs the exit only.
    states = {"a": told("a"), "b": told("b"), "h": {"type": "history"}}
    back = {"BACK": {"target": ".h", "reenter": True}}
    outer = told("outer", initial="a", states=states, on=back)

    assert Run(flat(outer=outer)).send("BACK").did == ["-a", "-outer", "+outer", "+a"]


def test_simultaneous_transitions_go_in_document_order_whatever_was_entered_first() -> None:
    # Quirk 4: XState goes by the order in which the states were entered.
    again = {"target": "a", "reenter": True}
    x, y = (compound(a={"on": {"GO": {"actions": name}, f"AGAIN_{name}": again}}) for name in "xy")

    run = Run({"id": "m", "type": "parallel", "states": {"x": x, "y": y}}).send("AGAIN_x", "GO")

    assert run.did == ["x", "y"]


def test_names_that_look_like_numbers_keep_their_written_order() -> None:
    # Quirk 12: objects of JavaScript would put 2 before 10.
    regions = {"10": {"entry": "ten"}, "2": {"entry": "two"}}

    assert Run({"id": "m", "type": "parallel", "states": regions}).did == ["ten", "two"]

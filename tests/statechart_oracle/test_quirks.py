"""Where we do not do what XState does, on purpose; the random graphs keep clear of it."""

from typing import Any, NamedTuple

import pytest

from statechart_oracle.cases import Case, Graph, Refused, Step
from statechart_oracle.walk import Walk
from statechart_oracle.xstate import package, walked_by_xstate


class Quirk(NamedTuple):
    """What the two show at the end, in words of the observation."""

    about: str
    graph: Graph
    steps: list[Step]
    ours: dict[str, Any]
    theirs: dict[str, Any]

    @property
    def case(self) -> Case:
        return Case(self.about, {"id": "m", "context": {"n": 0}} | self.graph, self.steps)


def says(label: str) -> Graph:
    return {"type": "log", "params": label}


def state(name: str, **more: Any) -> Graph:
    return {"entry": says(f"enter {name}"), "exit": says(f"exit {name}")} | more


COUNT = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
TWICE = {"type": "raise", "params": {"event": {"type": "GO"}, "delay": 10, "id": "same"}}
IF_COUNTED = {"$expr": "context.n == 1"}
GO: Step = {"send": {"type": "GO"}}

QUIRKS = [
    Quirk(
        "a history that leads to where the transition starts: left, then entered",
        {
            "initial": "p",
            "states": {
                "p": {
                    "initial": "a",
                    "states": {"h": {"type": "history"}, "a": state("a", on={"GO": "h"})},
                }
            },
        },
        [GO],
        ours={"trace": ["exit a", "enter a"]},
        theirs={"trace": ["enter a"]},
    ),
    Quirk(
        "the history of a state that is being left: entered again",
        {
            "initial": "p",
            "states": {
                "p": state(
                    "p",
                    type="parallel",
                    states={"h": {"type": "history"}, "x": {"on": {"GO": "#m.p.h"}}, "y": {}},
                )
            },
        },
        [GO],
        ours={"trace": ["exit p", "enter p"]},
        theirs={"trace": ["exit p"]},
    ),
    Quirk(
        "a delayed event raised again under its id: the second replaces the first",
        {
            "initial": "a",
            "states": {"a": {"entry": [TWICE, TWICE], "on": {"GO": {"actions": COUNT}}}},
        },
        [{"advance": 10}],
        ours={"context": {"n": 1}},
        theirs={"context": {"n": 2}},
    ),
    Quirk(
        "timers live through a change of process",
        {"initial": "a", "states": {"a": {"after": {"10": "b"}}, "b": {}}},
        [{"restart": True}, {"advance": 10}],
        ours={"value": "b"},
        theirs={"value": "a"},
    ),
    Quirk(
        "names like numbers keep the order in which they are written",
        {"type": "parallel", "states": {"2": state("2"), "1": state("1")}},
        [],
        ours={"trace": ["enter 2", "enter 1"]},
        theirs={"trace": ["enter 1", "enter 2"]},
    ),
    Quirk(
        "stateIn with an empty object asks for the state, whatever is in it",
        {
            "initial": "a",
            "states": {
                "a": {
                    "on": {
                        "GO": {
                            "target": "b",
                            "guard": {"type": "stateIn", "params": {"state": {"a": {}}}},
                        }
                    }
                },
                "b": {},
            },
        },
        [GO],
        ours={"value": "b"},
        theirs={"value": "a"},
    ),
    Quirk(
        "a target and another inside it: the inner one is meant, not two states of one region",
        {
            "initial": "a",
            "states": {
                "a": {"on": {"GO": {"target": ["#m.p", "#m.p.c"]}}},
                "p": {"initial": "b", "states": {"b": state("b"), "c": state("c")}},
            },
        },
        [GO],
        ours={"value": {"p": "c"}, "trace": ["enter c"]},
        theirs={"value": {"p": "b"}, "trace": ["enter b", "enter c"]},
    ),
    Quirk(
        "simultaneous transitions in document order, not in that of entering",
        {
            "type": "parallel",
            "states": {
                "x": {
                    "initial": "x1",
                    "states": {
                        "x1": {"on": {"GO": {"target": "x2", "actions": COUNT}}},
                        "x2": {
                            "always": {"guard": IF_COUNTED, "target": "x3", "actions": says("x")}
                        },
                        "x3": {},
                    },
                },
                "y": {
                    "initial": "y1",
                    "states": {
                        "y1": {
                            "always": {"guard": IF_COUNTED, "target": "y2", "actions": says("y")}
                        },
                        "y2": {},
                    },
                },
            },
        },
        [GO],
        ours={"trace": ["x", "y"]},
        theirs={"trace": ["y", "x"]},
    ),
]


@pytest.mark.parametrize("quirk", QUIRKS, ids=[quirk.about for quirk in QUIRKS])
def test_what_we_do(quirk: Quirk) -> None:
    walk = Walk(quirk.case.graph, anew=True)

    *_, last = [walk.start(None), *map(walk.take, quirk.steps)]

    assert last | quirk.ours == last


@pytest.mark.parametrize("quirk", QUIRKS, ids=[quirk.about for quirk in QUIRKS])
def test_what_xstate_does(quirk: Quirk) -> None:
    try:
        package()
    except LookupError as error:
        pytest.skip(str(error))

    (walked,) = walked_by_xstate([quirk.case], entered_order=True)

    assert not isinstance(walked, Refused), walked.reason
    assert walked[-1] | quirk.theirs == walked[-1]

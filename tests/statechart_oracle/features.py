"""Graphs written by hand: the traps, one by one, and a few that might be somebody's."""

from typing import Any

from statechart_oracle.cases import Case, Graph, Step


def _send(*names: str) -> list[Step]:
    return [{"send": {"type": name}} for name in names]


def _says(*labels: str) -> list[Graph]:
    return [
        {"type": "log", "params": {"at": label, "n": {"$expr": "context.n"}}} for label in labels
    ]


def _state(name: str, **more: Any) -> Graph:
    """One that says when it is entered and left."""
    return {"entry": _says(f"enter {name}"), "exit": _says(f"exit {name}"), **more}


def _go(target: Any, label: str = "go", **more: Any) -> Graph:
    return {"target": target, "actions": _says(label), **more}


def _assign(**values: str) -> Graph:
    return {"type": "assign", "params": {k: {"$expr": source} for k, source in values.items()}}


COUNT = _assign(n="context.n + 1")
INVOKED: Graph = {"invoke": {"src": "w", "id": "w"}}


def _flat(**states: Graph) -> Graph:
    first = next(iter(states))
    return {"id": "m", "context": {"n": 0}, "initial": first, "states": states}


def _parallel(**states: Graph) -> Graph:
    return {"id": "m", "context": {"n": 0}, "type": "parallel", "states": states}


def _region(name: str, *states: str, **more: Any) -> Graph:
    inner = {one: _state(f"{name}.{one}") for one in states}
    return _state(name, initial=states[0], states=inner, **more)


def _traps() -> dict[str, tuple[Graph, list[Step]]]:
    home = _flat(
        a=_state(
            "a", initial="a1", on={"OUT": "z"}, states={"a1": _state("a1"), "a2": _state("a2")}
        ),
        z=_state("z"),
    )
    regions = {"x": _region("x", "x1", "x2"), "y": _region("y", "y1", "y2")}
    nested = _flat(p=_state("p", type="parallel", states=regions), z=_state("z"))
    found: dict[str, tuple[Graph, list[Step]]] = {}

    found["a parallel parent beside its child"] = (
        _with(
            _parallel(**regions),
            {
                "": {"on": {"GO": _go("#m.y.y2", "parent")}},
                "x.x1": {"on": {"GO": _go("x2", "child")}},
            },
        ),
        _send("GO", "GO", "GO"),
    )
    for name, reenter in (("stays", False), ("is left", True)):
        more: Graph = {"reenter": True} if reenter else {}
        found[f"a transition to itself: it {name}"] = (
            _flat(
                a=_state(
                    "a",
                    on={"GO": _go("a", **more)},
                    after={"100": "z"},
                    invoke={"src": "w", "id": "w"},
                ),
                z=_state("z"),
            ),
            [{"advance": 60}, *_send("GO"), {"advance": 60}, {"resolve": ["w", 1]}],
        )
        found[f"a transition to a child: the parent {name}"] = (
            _with(
                home, {"a": {"on": {"GO": _go(".a2", **more), "OUT": "z"}, "after": {"100": "z"}}}
            ),
            [{"advance": 60}, *_send("GO"), {"advance": 60}],
        )
        found[f"a transition to itself, with children: it {name}"] = (
            _with(home, {"a": {"on": {"GO": _go("a", **more)}}, "a.a1": {"on": {"IN": "a2"}}}),
            _send("IN", "GO", "IN"),
        )
    found["no target: nothing is left"] = (
        _flat(
            a=_state("a", on={"GO": {"actions": [COUNT, *_says("go")]}}, after={"100": "z"}), z={}
        ),
        [{"advance": 60}, *_send("GO"), {"advance": 60}],
    )
    found["across regions"] = (
        _with(nested, {"p.x.x1": {"on": {"GO": _go("#m.p.y.y2")}}}),
        _send("GO", "GO"),
    )
    found["exits, transition actions, entries, phase by phase"] = (
        _with(
            nested,
            {
                "p.x.x1": {"on": {"GO": _go("x2", "x")}},
                "p.y.y1": {"on": {"GO": _go("y2", "y")}},
                "p": {"on": {"OUT": _go("z")}},
            },
        ),
        _send("GO", "OUT"),
    )
    found["exit actions on completion"] = (
        {
            **_flat(a=_state("a", on={"GO": "z"}), z=_state("z", type="final", output={"n": 7})),
            "exit": _says("exit m"),
            "output": {"$expr": "event.output"},
        },
        _send("GO", "GO"),
    )
    found["an error that no state takes"] = (
        _flat(a=_state("a", invoke={"src": "w", "id": "w", "onDone": "z"}), z=_state("z")),
        [*_send("X"), {"reject": ["w", {"message": "no"}]}, {"resolve": ["w", 1]}],
    )
    found["an error taken by a wildcard"] = (
        _flat(a=_state("a", on={"*": _go("z")}, invoke={"src": "w", "id": "w"}), z=_state("z")),
        [{"reject": ["w", {"message": "no"}]}],
    )
    found["an error taken far above"] = (
        _flat(
            a={
                "initial": "b",
                "on": {
                    "xstate.error.actor.w": {
                        "target": "z",
                        "actions": [_assign(why="event.error.message")],
                    }
                },
                "states": {"b": {"invoke": {"src": "w", "id": "w"}}},
            },
            z=_state("z"),
        ),
        [{"reject": ["w", {"message": "no"}]}],
    )
    found["the output of a final state"] = (
        _flat(
            a={
                "initial": "b",
                "onDone": {"target": "z", "actions": [_assign(got="event.output")]},
                "states": {
                    "b": {"on": {"GO": "c"}},
                    "c": {"type": "final", "output": {"n": {"$expr": "context.n"}}},
                },
            },
            z={},
        ),
        _send("GO"),
    )
    found["always sees the event"] = (
        _flat(
            a={"on": {"GO": "b", "RUN": "b"}},
            b={"always": [_go("c", guard={"$expr": "event.type == 'RUN'"}), _go("d")]},
            c={},
            d={},
        ),
        _send("RUN"),
    )
    found["names match exactly, wildcards by whole words"] = (
        _flat(
            a={
                "on": {
                    "job": _go("a", "job"),
                    "job.*": _go("a", "job.*"),
                    "*": _go("a", "*"),
                    "job.ok.*": _go("a", "job.ok.*"),
                }
            }
        ),
        _send("job", "job.ok", "job.ok.late", "jobs", "job.", "other", "*"),
    )
    found["a forbidden event"] = (
        _flat(
            a={"initial": "b", "on": {"GO": "z", "RUN": "z"}, "states": {"b": {"on": {"GO": {}}}}},
            z={},
        ),
        _send("GO", "RUN"),
    )
    found["an exception in an action"] = (
        _flat(
            a=_state("a", on={"GO": {"target": "z", "actions": [_assign(n="1 / context.n")]}}),
            z=_state("z"),
        ),
        _send("GO", "GO"),
    )
    found["an exception in a guard"] = (
        _flat(
            a=_state("a", on={"GO": _go("z", guard={"$expr": "1 / context.n > 0"})}), z=_state("z")
        ),
        _send("GO", "GO"),
    )
    found["timers and history after a change of process"] = (
        _with(
            home,
            {
                "a.a1": {"on": {"IN": "a2"}},
                "z": {"on": {"BACK": "#m.a.h"}},
                "a.h": {"type": "history"},
                "a": {"after": {"1000": "z"}},
            },
        ),
        [
            *_send("IN"),
            {"advance": 999},
            {"advance": 1},
            *_send("BACK"),
            {"advance": 400},
            *_send("OUT", "BACK"),
            {"advance": 700},
            {"advance": 300},
        ],
    )
    for depth in ("shallow", "deep"):
        found[f"{depth} history"] = (
            _with(
                nested,
                {
                    "p.x": {
                        "initial": "x1",
                        "states": {
                            "x1": _region("x1", "i", "j"),
                            "h": {"history": depth, "type": "history"},
                        },
                    },
                    "p.x.x1.i": {"on": {"IN": "j"}},
                    "p": {"on": {"OUT": "#m.z"}},
                    "p.y.y1": {"on": {"IN": "y2"}},
                    "z": {"on": {"BACK": "#m.p.x.h"}},
                },
            ),
            _send("OUT", "BACK", "IN", "OUT", "BACK"),
        )
    found["a history without a past"] = (
        _with(
            home,
            {
                "": {"initial": "z"},
                "a.h": {"type": "history", "target": "a2"},
                "a.k": {"type": "history"},
                "z": {"on": {"H": "#m.a.h", "K": "#m.a.k"}},
            },
        ),
        _send("K", "OUT", "H"),
    )
    found["the history of a parallel state"] = (
        _with(
            nested,
            {
                "p.h": {"type": "history", "history": "deep"},
                "p.x.x1": {"on": {"IN": "x2"}},
                "p": {"on": {"OUT": _go("z")}},
                "z": {"on": {"BACK": _go("p.h")}},
            },
        ),
        _send("IN", "OUT", "BACK"),
    )
    found["two regions that want to leave: the first does"] = (
        _with(
            nested,
            {
                "p.x.x1": {"on": {"GO": _go("#m.z", "first")}},
                "p.y.y1": {"on": {"GO": _go("#m.p.x", "second")}},
            },
        ),
        _send("GO"),
    )
    for region in ("x", "y"):
        found[f"the parallel state and its region {region} want to go on: the region does"] = (
            _with(
                nested,
                {
                    "p": {
                        "on": {"GO": {"actions": [COUNT]}},
                        "always": _go("z", "outer", guard={"$expr": "context.n == 1"}),
                    },
                    f"p.{region}.{region}1": {
                        "always": _go(f"{region}2", "inner", guard={"$expr": "context.n > 0"})
                    },
                },
            ),
            _send("GO"),
        )
    found["several targets"] = (
        _with(nested, {"": {"initial": "z"}, "z": {"on": {"GO": _go(["#m.p.y.y2", "#m.p.x.x2"])}}}),
        _send("GO"),
    )
    found["a parallel state is done when every region is"] = (
        _with(
            nested,
            {
                "p": {"onDone": _go("z", "done")},
                "p.x.x1": {"on": {"X": "x2"}},
                "p.y.y1": {"on": {"Y": "y2"}},
                "p.x.x2": {"type": "final"},
                "p.y.y2": {"type": "final"},
            },
        ),
        _send("X", "Y"),
    )
    found["a final state two levels down does not finish a region"] = (
        _parallel(
            x={
                "initial": "i",
                "states": {"i": {"initial": "j", "states": {"j": {"type": "final"}}}},
            },
            y={"initial": "f", "states": {"f": {"type": "final"}}},
        ),
        _send("X"),
    )
    found["raised events are taken one by one, after always"] = (
        _flat(
            a={"on": {"GO": {"target": "b", "actions": [_raise("ONE"), _raise("TWO")]}}},
            b=_state("b", always=_go("c", "always"), on={"ONE": "z"}),
            c=_state("c", on={"ONE": _go("d", "one"), "TWO": "z"}),
            d=_state("d", on={"TWO": _go("e", "two")}),
            e=_state("e"),
            z=_state("z"),
        ),
        _send("GO"),
    )
    found["a delayed event outlives its state, until it is cancelled"] = (
        _flat(
            a=_state("a", entry=[_raise("LATE", delay=100, id="late")], on={"GO": "b"}),
            b=_state("b", on={"LATE": "c"}),
            c=_state(
                "c",
                entry=[_raise("LATER", delay=50, id="later")],
                on={
                    "STOP": {"actions": [{"type": "cancel", "params": {"id": "later"}}]},
                    "LATER": "a",
                },
            ),
        ),
        [*_send("GO"), {"advance": 99}, {"advance": 1}, *_send("STOP"), {"advance": 100}],
    )
    found["always on what changes nothing"] = (
        _flat(a={"always": {"actions": _says("once")}, "on": {"GO": "b"}}, b={}),
        _send("GO", "GO"),
    )
    for name, more in (("nothing else changes", {}), ("its handler is started anew", INVOKED)):
        found[f"always into the states that are left, and {name}"] = (
            _flat(
                a=_state("a", on={"GO": "b"}), b=_state("b", always=_go("b", reenter=True), **more)
            ),
            _send("GO"),
        )
    found["initial actions of what is entered by default"] = (
        _flat(
            a={"on": {"GO": "b", "H": "#m.b.h"}},
            b={
                "initial": {"target": "c", "actions": _says("initial b")},
                "states": {
                    "c": {
                        "initial": {"target": "d", "actions": _says("initial c")},
                        "states": {"d": _state("d")},
                    },
                    "h": {"type": "history"},
                },
                "on": {"OUT": "a"},
            },
        ),
        _send("H", "OUT", "H", "OUT", "GO", "OUT"),
    )
    found["always for ever"] = (
        _flat(a={"on": {"GO": "b"}}, b={"always": "c"}, c={"always": "b"}),
        _send("GO"),
    )
    found["the counter that is read is the one that was"] = (
        _flat(
            a={
                "entry": [
                    {
                        "type": "assign",
                        "params": {"n": {"$expr": "context.n + 1"}, "was": {"$expr": "context.n"}},
                    },
                    *_says("a"),
                    COUNT,
                    *_says("a"),
                ],
                "on": {"GO": _go("a", reenter=True)},
            }
        ),
        _send("GO"),
    )
    found["initial actions, and the initial states that are passed by"] = (
        _flat(
            a={
                "initial": {"target": "b", "actions": _says("initial a")},
                "entry": _says("a"),
                "states": {"b": _state("b"), "c": _state("c")},
                "on": {"C": ".c", "A": _go("a", reenter=True)},
            }
        ),
        _send("C", "A"),
    )
    found["a field called actorId"] = (
        _flat(
            a={
                "invoke": {"src": "w", "id": "w", "onDone": "z"},
                "on": {"DONE": {"actions": [_assign(n="event.actorId")]}},
            },
            z={},
        ),
        [{"send": {"type": "DONE", "actorId": "w", "key": "w#1", "output": 1}}],
    )
    guards = [{"$expr": "context.n > 0"}, {"type": "stateIn", "params": {"state": "#m.y.y2"}}]
    for kind in ("and", "or"):
        guard = {"type": kind, "params": {"guards": guards}}
        found[f"guards: {kind}"] = (
            _with(
                _parallel(**regions),
                {
                    "x.x1": {
                        "on": {
                            "GO": _go("x2", guard=guard),
                            "NOT": _go("x2", guard={"type": "not", "params": {"guard": guard}}),
                        }
                    },
                    "x.x2": {"on": {"GO": "x1"}},
                    "y.y1": {"on": {"Y": "y2", "N": {"actions": [COUNT]}}},
                },
            ),
            _send("GO", "Y", "GO", "NOT", "GO", "GO", "N", "GO", "N"),
        )
    for spelled in ("y.y2", {"y": "y2"}, "x", {"y": "y1", "x": "x1"}):
        found[f"state in {spelled}"] = (
            _with(
                _parallel(**regions),
                {
                    "x.x1": {
                        "on": {
                            "GO": _go("x2", guard={"type": "stateIn", "params": {"state": spelled}})
                        }
                    },
                    "y.y1": {"on": {"Y": "y2"}},
                },
            ),
            _send("GO", "Y", "GO"),
        )
    return found


def _raise(name: str, **more: Any) -> Graph:
    return {"type": "raise", "params": {"event": {"type": name}, **more}}


def _with(graph: Graph, changes: dict[str, Graph]) -> Graph:
    """The graph with more in the states at these paths, which may be new."""
    for path, more in changes.items():
        name, _, rest = path.partition(".")
        if not path:
            graph = graph | more
            continue
        states = graph.get("states", {})
        inner = _with(states.get(name, {}), {rest: more})
        graph = graph | {"states": states | {name: inner}}
    return graph


def _living() -> dict[str, tuple[Graph, list[Step]]]:
    """Graphs that might be somebody's."""
    light = _flat(
        green=_state("green", after={"30000": "yellow"}, on={"FAULT": "blinking"}),
        yellow=_state("yellow", after={"3000": "red"}, on={"FAULT": "blinking"}),
        red=_state(
            "red",
            initial="walk",
            after={"20000": "green"},
            on={"FAULT": "blinking"},
            states={
                "walk": _state("walk", after={"12000": "wait"}),
                "wait": _state("wait", after={"4000": "stop"}),
                "stop": _state("stop"),
            },
        ),
        blinking=_state("blinking", on={"REPAIRED": {"target": "red", "actions": [COUNT]}}),
    )
    order = {
        "id": "order",
        "initial": "charge",
        "context": {"total": {"$expr": "input.total"}, "tries": 0, "receipt": None},
        "output": {"$expr": "event.output"},
        "states": {
            "charge": {
                "invoke": {
                    "src": "charge",
                    "id": "charge",
                    "input": {"$expr": "context.total"},
                    "onDone": {
                        "target": "approval",
                        "actions": [_assign(receipt="event.output.id")],
                    },
                    "onError": [
                        {
                            "target": "charge",
                            "reenter": True,
                            "guard": {"$expr": "context.tries < 2"},
                            "actions": [_assign(tries="context.tries + 1")],
                        },
                        "failed",
                    ],
                }
            },
            "approval": {
                "on": {
                    "APPROVE": {"target": "shipping", "guard": {"$expr": "event.role == 'admin'"}},
                    "REJECT": "refund",
                },
                "after": {"86400000": "refund"},
            },
            "shipping": {
                "type": "parallel",
                "onDone": "shipped",
                "on": {"REJECT": "refund"},
                "states": {
                    "parcel": {
                        "initial": "pack",
                        "states": {
                            "pack": {"invoke": {"src": "pack", "id": "pack", "onDone": "packed"}},
                            "packed": {"type": "final"},
                        },
                    },
                    "letter": {
                        "initial": "write",
                        "states": {
                            "write": {
                                "invoke": {"src": "write", "id": "write", "onDone": "written"}
                            },
                            "written": {"type": "final"},
                        },
                    },
                },
            },
            "refund": {"invoke": {"src": "refund", "id": "refund", "onDone": "failed"}},
            "shipped": {"type": "final", "output": {"$expr": "context.receipt"}},
            "failed": {"type": "final", "output": {"tries": {"$expr": "context.tries"}}},
        },
    }
    admin = {"send": {"type": "APPROVE", "role": "admin"}}
    no = {"message": "declined"}
    player = _flat(
        off=_state("off", on={"POWER": "on"}),
        on=_state(
            "on",
            type="parallel",
            on={"POWER": "off"},
            states={
                "deck": {
                    "initial": "stopped",
                    "states": {
                        "stopped": _state("stopped", on={"PLAY": "playing"}),
                        "playing": _state(
                            "playing",
                            on={"PAUSE": "paused", "STOP": "stopped"},
                            after={"180000": "stopped"},
                        ),
                        "paused": _state("paused", on={"PAUSE": "playing", "STOP": "stopped"}),
                    },
                },
                "volume": {
                    "initial": "loud",
                    "on": {"UP": {"actions": [COUNT]}},
                    "states": {
                        "last": {"type": "history", "history": "deep"},
                        "loud": {"on": {"MUTE": "muted"}},
                        "muted": {"on": {"MUTE": "loud", "UP": "loud"}},
                    },
                },
            },
        ),
    )
    player = _with(
        player,
        {
            "on.memory": {"type": "history", "history": "deep"},
            "off": {"on": {"POWER": "on", "RESUME": "#m.on.memory"}},
        },
    )
    wizard = {
        "id": "wizard",
        "initial": "form",
        "context": {"name": None, "mail": None, "errors": 0},
        "on": {"CANCEL": ".cancelled"},
        "output": {"name": {"$expr": "context.name"}},
        "states": {
            "form": {
                "initial": "name",
                "onDone": "saving",
                "states": {
                    "name": {
                        "on": {
                            "NEXT": [
                                {
                                    "target": "mail",
                                    "guard": {"$expr": "event.value"},
                                    "actions": [_assign(name="event.value")],
                                },
                                {"actions": [_assign(errors="context.errors + 1")]},
                            ]
                        }
                    },
                    "mail": {
                        "on": {
                            "BACK": "name",
                            "NEXT": {"target": "ready", "actions": [_assign(mail="event.value")]},
                        }
                    },
                    "ready": {"on": {"BACK": "mail", "SAVE": "complete"}},
                    "complete": {"type": "final"},
                    "last": {"type": "history"},
                },
            },
            "saving": {
                "invoke": {
                    "src": "save",
                    "id": "save",
                    "input": {"name": {"$expr": "context.name"}, "mail": {"$expr": "context.mail"}},
                    "onDone": "saved",
                    "onError": "offline",
                }
            },
            "offline": {"after": {"5000": "saving"}, "on": {"EDIT": "form.ready"}},
            "saved": {"type": "final"},
            "cancelled": {"type": "final"},
        },
    }
    typed = [{"send": {"type": "NEXT", "value": value}} for value in ("", "Ada", "ada@x.test")]
    return {
        "traffic light": (
            light,
            [
                {"advance": 30000},
                {"advance": 3000},
                {"advance": 12000},
                {"advance": 4000},
                {"advance": 4000},
                {"advance": 100},
                *_send("FAULT", "FAULT", "REPAIRED"),
                {"advance": 50000},
            ],
        ),
        "order": (
            order,
            [
                {"resolve": ["charge", {"id": "r-9"}]},
                *_send("APPROVE"),
                admin,
                {"resolve": ["pack", 1]},
                {"resolve": ["write", 2]},
            ],
        ),
        "order, declined": (order, [{"reject": ["charge", no]}] * 4),
        "order, forgotten": (
            order,
            [
                {"reject": ["charge", no]},
                {"resolve": ["charge", {}]},
                {"advance": 86399999},
                {"advance": 1},
                {"resolve": ["refund", 1]},
            ],
        ),
        "order, rejected": (
            order,
            [
                {"resolve": ["charge", {"id": "r-9"}]},
                admin,
                {"resolve": ["pack", 1]},
                *_send("REJECT"),
                {"resolve": ["write", 1]},
                {"reject": ["refund", no]},
            ],
        ),
        "media player": (
            player,
            [
                *_send(
                    "POWER", "PLAY", "UP", "MUTE", "PAUSE", "POWER", "RESUME", "PAUSE", "UP", "UP"
                ),
                {"advance": 180000},
                *_send("POWER"),
            ],
        ),
        "form wizard": (
            wizard,
            [
                *typed,
                *_send("BACK"),
                typed[2],
                *_send("SAVE"),
                {"reject": ["save", no]},
                *_send("EDIT", "SAVE"),
                {"reject": ["save", no]},
                {"advance": 5000},
                {"resolve": ["save", 1]},
            ],
        ),
        "form wizard, cancelled": (wizard, [*typed[:2], *_send("CANCEL", "NEXT")]),
    }


def cases() -> list[Case]:
    """Each with a name that says what it is about."""
    found = _traps() | _living()
    return [Case(name, graph, steps, {"total": 120}) for name, (graph, steps) in found.items()]

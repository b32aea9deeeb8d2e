"""Messages for graphs that cannot run: all at once, with the place, a near match and what to do."""

from typing import Any

import pytest

from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError
from support.statecharts import Graph, Run, compound, flat, problems, when


def state(**more: Any) -> Graph:
    """A machine whose first state `a` is this; `start` and `b` stand beside it."""
    return flat(a=more, start={"on": {"X": "a"}}, b={"on": {"X": "start"}}, c={"on": {"X": "b"}})


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ([], "$: a graph must be an object, this is a list"),
        (None, "$: a graph must be an object, this is null"),
        ({"states": {"a": {}}}, '$: no "initial" state; add "initial": "a"'),
        (
            {"initial": "strat", "states": {"start": {}, "b": {}}},
            ('$.initial: initial state "strat" does not exist; '
            'states here: start, b (did you mean "start"?)'),
        ),
        ({"initial": "a"}, '$.initial: there is no state "a": add it to "states"'),
        ({"initial": "a", "states": {}}, '$.initial: there is no state "a": add it to "states"'),
        ({"type": "final"}, "$: the machine itself cannot be a final state"),
        ({"id": 7}, '$: "id" must be a text, this is a number'),
        ({"states": []}, "$.states: must be an object of states by name"),
        ({"type": "parallel"}, '$: a parallel state needs "states" with something in it'),
        ({"context": 1, **flat("a")}, "$.context: the context must be an object, this is a number"),
        (
            {"context": {"a": when("1 +")}, **flat("a")},
            "$.context.a: '1 +': invalid syntax",
        ),
        ({"on": {"X": "a"}, **flat("a")},
         '$.on["X"]: a target on the machine itself must be written ".a" or "#id"'),
        ({"key": 1, **flat("a")}, '$: key "key": unknown key'),
        ({"initial": "a", "states": {"a": 1}}, ("$.states.a: a state must be an object, this is a "
         "number")),
        ({"initial": "a b", "states": {"a b": {"on": {"X": "c"}}}},
         ('$.states["a b"].on["X"]: target "c" does not exist: no state "c" in "(machine)"; '
         "states there: a b")),
        ({"initial": "", "states": {"": {}}},
         '$.states[""]: the name of a state must not be empty, hold "." or begin with "#"'),
        ({"initial": "a.b", "states": {"a.b": {}}},
         '$.states["a.b"]: the name of a state must not be empty, hold "." or begin with "#"'),
    ],
)  # fmt: skip
def test_problems_of_a_machine(graph: Any, expected: str) -> None:
    assert problems(graph) == [expected]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"onErorr": "b"}, ': key "onErorr": unknown key (did you mean "onError"?)'),
        ({"cond": 1}, ': key "cond": renamed "guard" in XState v5'),
        ({"data": 1}, ': key "data": renamed "output" in XState v5'),
        ({"onEntry": 1}, ': key "onEntry": renamed "entry"'),
        ({"handlerType": "task"}, (': key "handlerType": write "invoke": {"src": "<function or '
         'task:name>"}')),
        ({"type": "conditional"}, (': "type": "conditional" is not supported: write "always": '
         '[{"guard": {"$expr": ...}, "target": ...}, "<otherwise>"]')),
        ({"type": "switch"}, (': "type": "switch" is not supported: write "always": a list of '
         '{"guard": {"$expr": ...}, "target": ...}')),
        ({"type": "atomik"}, (': "type": "atomik" is not one of atomic, compound, parallel, final, '
         'history (did you mean "atomic"?)')),
        ({"type": "atomic", **compound("x")}, ": an atomic state cannot have child states"),
        ({"type": "compound"}, ': a compound state needs "states" with something in it'),
        ({"id": "m.b"}, " is used twice"),
        ({"on": []}, ".on: must be an object by event"),
        ({"on": {"GO": "strat"}}, ('.on["GO"]: target "strat" does not exist: no state "strat" in '
         '"m" (did you mean "start"?); states there: a, start, b, c')),
        ({"on": {"GO": "#strat"}}, ('.on["GO"]: no state has the id "strat" '
         '(did you mean "#m.start"?)')),
        ({"on": {"GO": ".x"}}, '.on["GO"]: target ".x" does not exist: no state "x" in "m.a"'),
        ({"on": {"GO": "b.x"}}, '.on["GO"]: target "b.x" does not exist: no state "x" in "m.b"'),
        ({"on": {"GO": ["b", 7]}}, ('.on["GO"][1]: a transition must be a state\'s name or an '
         "object, this is a number")),
        ({"on": {"GO": {"target": [7]}}}, '.on["GO"]: a target must be a text, this is a number'),
        ({"on": {"GO": {"target": ["b", "c"]}}}, ('.on["GO"]: targets "b" and "c" cannot be active '
         "together")),
        ({"on": {"GO": {"target": "b", "cond": "x"}}}, ('.on["GO"]: key "cond": renamed "guard" in '
         "XState v5")),
        ({"on": {"GO": {"reenter": 1}}}, ('.on["GO"]: "reenter" must be true or false, this is a '
         "number")),
        ({"on": {"": "b"}}, '.on[""]: an empty name of an event: use "always"'),
        ({"on": {"a*": "b"}}, '.on["a*"]: a "*" may stand alone, or at the end after "."'),
        ({"on": {"*.a": "b"}}, '.on["*.a"]: a "*" may stand alone, or at the end after "."'),
        ({"on": {"GO": {"guard": "isAdmin"}}}, ('.on["GO"].guard: no guard named "isAdmin"; write '
         'the condition itself: {"$expr": "event.role == \'admin\'"}, here or under a name in '
         '"implementations"')),
        ({"on": {"GO": {"guard": "work"}}}, ('.on["GO"].guard: guard "work" is a function of the '
         'code, and a guard is an expression; write the condition itself: {"$expr": "event.role == '
         '\'admin\'"}, here or under a name in "implementations"')),
        ({"exit": "work"}, ('.exit: action "work" is a function of the code, and is run by a '
         'state: write "invoke": {"src": "work"}, or one of assign, raise, cancel, log, emit')),
        ({"on": {"GO": {"guard": 7}}}, ('.on["GO"].guard: a guard must be {"$expr": "..."} or '
         '{"type": ..., "params": {...}}')),
        ({"on": {"GO": {"guard": {"type": "and"}}}},
         '.on["GO"].guard: guard "and" needs "params": {"guards": ...}'),
        ({"on": {"GO": {"guard": {"type": "not", "params": {"guard": None}}}}},
         '.on["GO"].guard.params.guard: a guard is missing here'),
        ({"on": {"GO": {"guard": {"type": "or", "params": {"guards": [when("("), when("1")]}}}}},
         ".on[\"GO\"].guard.params.guards[0]: '(': '(' was never closed"),
        ({"on": {"GO": {"guard": when("__import__('os')")}}}, ('.on["GO"].guard: '
         '"__import__(\'os\')": only calls to abs, all, any, bool, float, get, int, len, max, min, '
         "round, sorted, str, sum are allowed")),
        ({"on": {"GO": {"guard": {"type": "stateIn", "params": {"state": "stort"}}}}},
         '.on["GO"].guard.params.state: no state "stort" in "m" (did you mean "start"?)'),
        ({"on": {"GO": {"guard": {"type": "stateIn", "params": {"state": 7}}}}},
         '.on["GO"].guard.params.state: write "#id", "a.b" or {"a": "b"}'),
        ({"entry": "notify"}, ('.entry: no action named "notify"; there are assign, raise, cancel, '
         'log, emit: name others in "implementations", and do work in the function of a state or '
         'in "invoke"')),
        ({"entry": ["log", "asign"]}, ('.entry[1]: no action named "asign" (did you mean "assign"?)'
         '; there are assign, raise, cancel, log, emit: name others in "implementations", and do '
         'work in the function of a state or in "invoke"')),
        ({"entry": {"type": "sendTo"}}, ('.entry: action "sendTo" is not supported: actors take no '
         'events here: use "raise"')),
        ({"entry": {"type": "spawnChild"}}, ('.entry: action "spawnChild" is not supported: use '
         '"invoke", or "src": "task:<name>" for a child task')),
        ({"entry": {"params": {}}}, '.entry: an action must be {"type": "...", "params": {...}}'),
        ({"entry": {"type": "assign", "params": [1]}}, ('.entry: "params" of assign must be an '
         "object, this is a list")),
        ({"entry": {"type": "assign", "assignment": {}}}, '.entry: key "assignment": unknown key'),
        ({"entry": {"type": "raise"}}, '.entry: raise needs "params": {"event": {"type": "NAME"}}'),
        ({"entry": {"type": "raise", "params": {"event": "GO"}}}, (".entry.params.event: an event "
         'is an object with a "type": {"type": "NAME"}')),
        ({"entry": {"type": "raise", "params": {"event": {"type": "xstate.x"}}}},
         '.entry.params.event: event names beginning with "xstate." are reserved'),
        ({"entry": {"type": "raise", "params": {"event": {"type": "X"}, "delay": "soon"}}},
         ('.entry.params.delay: no delay named "soon"; write milliseconds, as in 60000 for a '
          'minute, or name them in "implementations"')),
        ({"entry": {"type": "raise", "params": {"event": {"type": "X"}, "delay": None}}},
         ".entry.params.delay: must be a number of milliseconds, 0 or more"),
        ({"entry": {"type": "raise", "params": {"event": {"type": "X"}, "dely": 1}}},
         '.entry: key "dely": unknown key of raise (did you mean "delay"?)'),
        ({"entry": {"type": "cancel"}}, '.entry: cancel needs "params": {"id": "..."}'),
        ({"after": {"SOON": "b"}}, ('.after["SOON"]: no delay named "SOON"; write milliseconds, as '
         'in 60000 for a minute, or name them in "implementations"')),
        ({"after": {"99999999999999999": "b"}}, '.after["99999999999999999"]: is too long a time'),
        ({"invoke": "work"}, ('.invoke: "invoke" needs "src": the name of a function in the code, '
         'or "task:<name>"')),
        ({"invoke": [{"src": "wrok"}]}, ('.invoke[0]: no function named "wrok" in the code '
         '(did you mean "work"?); it has: work')),
        ({"invoke": {"src": "task:"}}, '.invoke: write the name of a task after "task:"'),
        ({"invoke": {"src": "work", "onSnapshot": "b"}}, ('.invoke: key "onSnapshot": observing '
         "running children is not supported: wait for onDone")),
        ({"invoke": [{"src": "work", "id": "x"}] * 2}, '.invoke[1]: invoke id "x" is used twice'),
        ({"invoke": {"src": "work", "timeoutMs": 0}}, (".invoke.timeoutMs: must be a number of "
         "milliseconds, more than 0")),
        ({"invoke": {"src": "work", "retry": {"max": -1}}}, (".invoke.retry: its numbers must not "
         "be less than 0")),
        ({"invoke": {"src": "work", "onDone": {"target": "b", "cond": 1}}},
         '.invoke.onDone: key "cond": renamed "guard" in XState v5'),
        ({"invoke": {"src": "work"}, "onDone": "b"}, '.onDone: put it inside "invoke"'),
        ({**compound("x"), "onError": "b"}, (': key "onError": is only for a state without child '
         "states, which runs a function")),
        ({"output": {"x": when("os")}, "type": "final"},
         '.output.x: \'os\': unknown name "os" (use context, event, input)'),
        ({**compound("x"), "initial": {"target": "x", "action": "y"}},
         '.initial: key "action": unknown key (did you mean "actions"?)'),
        ({"initial": "h", "states": {"x": {}, "h": {"type": "history"}}},
         '.states.h: entering it leads back to it: give it a "target" that is another state'),
        ({**compound("x", h={"history": "deep-ish"})},
         '.states.h.history: must be "shallow" or "deep"'),
        ({**compound("x", h={"history": True, "target": "y"})},
         '.states.h.target: target "y" does not exist: no state "y" in "m.a"; states there: x, h'),
    ],
)  # fmt: skip
def test_problems_of_a_state(more: Graph, expected: str) -> None:
    found = problems(state(**more), ("work",))

    assert len(found) == 1
    assert found[0].startswith("$.states.")
    assert found[0].endswith(expected)


def test_all_problems_are_told_at_once() -> None:
    graph = flat(a={"on": {"GO": "x"}, "cond": 1}, b={"entry": "act"})

    with pytest.raises(GraphError) as refusal:
        Machine({**graph, "initial": "c"}, ())

    first, *lines = str(refusal.value).splitlines()
    assert first == "graph.json has 4 problems:"
    assert [line.partition(": ")[0] for line in lines] == [
        *("  $.states.a", "  $.initial", '  $.states.a.on["GO"]', "  $.states.b.entry")
    ]


def test_keys_for_notes_of_the_author_are_left_alone() -> None:
    graph = flat(a={"x-colour": "red", "// why": "because", "meta": {"any": 1}, "tags": ["t"]})

    assert problems({**graph, "$schema": "x", "title": "t", "version": "1"}) == []


@pytest.mark.parametrize(
    ("graph", "level", "expected"),
    [
        (flat("a", "lost"), "warning", '$.states.lost: state "lost" can never be reached'),
        (
            flat(a={"always": "b"}, b={"type": "final", "on": {"GO": "a"}}),
            "warning",
            ("$.states.b: a final state has no way out: remove its transitions, or its "
            '"type": "final"'),
        ),
        (flat(a={"initial": "b"}), "warning", ("$.states.a.initial: has no meaning on an atomic "
         "state")),
        (
            flat(a={"invoke": {"src": "work", "id": "w"}, "on": {"*": {"actions": "log"}}}),
            "note",
            '$.states.a.on["*"]: also takes the error of "w" and hides it: add "onError"',
        ),
        (
            flat(a={"always": "b"}, b={"type": "final", "output": 1}),
            "note",
            ('$.states.b.output: the machine has no "output" of its own, so the run gives null: '
            'add "output": {"$expr": "event.output"} to the machine'),
        ),
    ],
)  # fmt: skip
def test_what_runs_but_may_not_be_meant(graph: Graph, level: str, expected: str) -> None:
    machine = Machine(graph, ("work",))

    (found,) = machine.warnings + machine.notes
    assert (found.level, str(found)) == (level, expected)


def test_a_cycle_without_an_exit_is_accepted() -> None:
    graph = flat(a={"after": {"1000": "b"}}, b={"onDone": "a"})

    machine = Machine(graph, ("b",))
    assert machine.warnings + machine.notes == ()


def test_without_code_names_are_not_checked_but_met() -> None:
    graph = flat(a={"invoke": {"src": "anything"}, "on": {"GO": {"guard": "may", "target": "b"}}},
                 b={"entry": "notify", "after": {"SOON": "a"}})  # fmt: skip

    assert problems(graph, None) == []
    run = Run(graph).send("GO")
    assert (run.status, run.error["message"]) == (
        "error",
        '$.states.a.on["GO"]: no guard named "may"',
    )

"""From the simple graph.json (onDone, onError, onSuccess, onFail on a state) to the general form.

The shorthand applies to every leaf state, also inside nested and parallel ones, so both forms may
stand in one file. A leaf becomes an `invoke` of the function of its name. Every outcome of a
function must have a place to go, checked when the graph is read: a run never ends up in a state
that nothing leads out of.

A result *fails* when it is `{"success": false}` or `{"status": "error" | "fail" | "failed"}`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sequential.core.statechart.draft import listed, places
from sequential.core.statechart.handlers import Handlers
from sequential.core.statechart.problems import Problems, below
from sequential.core.statechart.vocabulary import RECORD, SHORTHAND, WAYS_OUT

DATA = {"$expr": "context.data"}
HAS_FAILED = {
    "$expr": "event.output.success is false or event.output.status in ['error', 'fail', 'failed']"
}
HAS_STATUS_ERROR = {"$expr": "event.output.status == 'error'"}
HAS_NOT_FAILED = {"type": "not", "params": {"guard": HAS_FAILED}}

Json = dict[str, Any]


class Leaf(msgspec.Struct):
    """A state without children, as it is written."""

    name: str
    path: str  # names from the machine down: "a.b"
    where: str
    state: Json

    @property
    def words(self) -> Json:
        """The shorthand that stands on it."""
        return {word: self.state[word] for word in SHORTHAND if word in self.state}

    @property
    def waits(self) -> bool:
        """Whether it has ways out of its own."""
        return any(way in self.state for way in WAYS_OUT)


def callers(graph: Json) -> set[str]:
    """Names of the states that are written in shorthand: each calls a function."""
    return {leaf.name for leaf in _leaves(graph, "", "$") if leaf.words}


def is_simple(graph: Json, handlers: Handlers) -> bool:
    """Whether some leaf is written in shorthand, or has a function of its name."""
    return any(
        "invoke" not in leaf.state and (leaf.words or handlers.named(leaf.name))
        for leaf in _leaves(graph, "", "$")
    )


def general_form(graph: Json, handlers: Handlers, problems: Problems) -> Json:
    """The general form of a graph; one without any shorthand comes back as it is.

    `problems.places` learns which part of the general form was made of which part of the graph.
    """
    if not is_simple(graph, handlers):
        return graph
    rewritten = {leaf.where: _Rewriting(leaf, handlers, problems).state() for leaf in
                 _leaves(graph, "", "$")}  # fmt: skip
    general = _with_leaves(graph, "$", rewritten)
    general["context"] = _context(graph.get("context"), problems)
    general.setdefault("output", {"$expr": "event.output"})
    return general


def _leaves(node: Json, prefix: str, where: str) -> Iterator[Leaf]:
    states = node.get("states")
    if not isinstance(states, dict):
        return
    for name, state in states.items():
        if not isinstance(state, dict):
            continue
        path, place = f"{prefix}{name}", below(f"{where}.states", name)
        if state.get("states"):
            yield from _leaves(state, f"{path}.", place)
        elif state.get("type") != "history" and not state.get("history"):
            yield Leaf(name, path, place, state)


def _with_leaves(node: Json, where: str, rewritten: dict[str, Json]) -> Json:
    copy = dict(node)
    if isinstance(node.get("states"), dict):
        copy["states"] = {
            name: rewritten.get(below(f"{where}.states", name))
            or (_with_leaves(state, below(f"{where}.states", name), rewritten)
                if isinstance(state, dict) else state)
            for name, state in node["states"].items()
        }  # fmt: skip
    return copy


def _context(given: Any, problems: Problems) -> Json:
    """The author's context with the names of the simple form: `data` and `results`."""
    own = given if isinstance(given, dict) else {}
    if given is not None and (not isinstance(given, dict) or "$expr" in given):
        problems.error("$.context", 'must be an object of names: the graph adds "data" to it')
    for name in ("data", "results"):
        if name in own:
            problems.error(
                below("$.context", name),
                f'the name "{name}" belongs to the results of functions: take another',
            )
    return {**own, "data": {"$expr": "input"}, "results": {}}


class _Rewriting:
    """Rewrites one leaf."""

    def __init__(self, leaf: Leaf, handlers: Handlers, problems: Problems) -> None:
        self.leaf = leaf
        self.problems = problems
        self.words = leaf.words
        self.has_handler = handlers.named(leaf.name) is not None
        self.record = {"type": RECORD, "params": {"state": leaf.path}}

    def state(self) -> Json:
        """The leaf in the general form."""
        leaf, words, problems = self.leaf, self.words, self.problems
        state = {key: value for key, value in leaf.state.items() if key not in SHORTHAND}
        if state.get("type") == "normal":  # an old spelling of "no special type"
            del state["type"]
        if "invoke" in state:
            if words:
                problems.error(leaf.where, f'"{next(iter(words))}" beside "invoke": put it inside')
            return state
        if words and state.get("type") == "final":
            problems.note(leaf.where, 'has a way out, so "type": "final" is ignored')
            del state["type"]
        if not words and not leaf.waits and "type" not in state:
            problems.note(leaf.where, 'has no way out, so it ends the task: write "type": "final"')
            state["type"] = "final"
        if state.get("type") == "final":
            return self._final(state)
        if words or self.has_handler:
            state["invoke"] = self._invoke()
        return state  # without either it only waits: for an event, a time, a condition

    def _final(self, state: Json) -> Json:
        if self.has_handler:
            state["invoke"] = self._call()
        else:
            state.setdefault("output", DATA)
        return state

    def _call(self) -> Json:
        self.problems.places[f"{self.leaf.where}.invoke"] = self.leaf.where
        return {"id": self.leaf.path, "src": self.leaf.name, "input": DATA}

    def _invoke(self) -> Json:
        """The call of the state's function, and where its outcomes lead."""
        good, bad, rest, raised = (
            word if word in self.words else None
            for word in ("onSuccess", "onFail", "onDone", "onError")
        )
        self._check_outcomes(good, bad, rest, raised)
        done: list[Json] = []
        if bad is not None:
            done += self._to(bad, HAS_FAILED, "onDone", len(done))
        elif raised is not None:
            # A reported error counts as one; any failure does if only onSuccess stands beside it.
            guard = HAS_STATUS_ERROR if rest is not None or good is None else HAS_FAILED
            done += self._to(raised, guard, "onDone", len(done))
        if good is not None:
            needs_guard = bad is None and rest is not None
            guard_of_good = HAS_NOT_FAILED if needs_guard else None
            done += self._to(good, guard_of_good, "onDone", len(done))
        if rest is not None:
            done += self._to(rest, None, "onDone", len(done))
        if not done or "guard" in done[-1]:
            done.append({"actions": [self.record]})  # goes on waiting after its function
        invoke = {**self._call(), "onDone": done}
        error = raised or bad
        if error is not None:
            invoke["onError"] = self._to(error, None, "onError", 0)
        return invoke

    def _check_outcomes(
        self, good: str | None, bad: str | None, rest: str | None, raised: str | None
    ) -> None:
        only = f'"{next(iter(self.words))}" alone' if self.words else ""
        if good and not (bad or raised or rest):
            self.problems.error(
                self.leaf.where,
                '"onSuccess" alone: add "onFail", "onError" or "onDone" for a result that is not '
                "a success",
            )
        elif self.words and not (good or rest or self.leaf.waits):
            self.problems.error(self.leaf.where, f'{only}: add "onDone" for a good result')

    def _to(self, word: str, guard: Json | None, outcome: str, first: int) -> list[Json]:
        """The transitions of a word, each with the record and with our guard."""
        transitions: list[Json] = []
        author = places(self.words[word], f"{self.leaf.where}.{word}")
        for index, (one, place) in enumerate(author, first):
            made = f"{self.leaf.where}.invoke.{outcome}[{index}]"
            self.problems.places[made] = place
            if isinstance(one, dict):
                transitions.append(self._amended(one, guard, made, place))
            else:
                target = {"target": one, "actions": [self.record]}
                transitions.append({**target, "guard": guard} if guard else target)
        return transitions

    def _amended(self, transition: Json, guard: Json | None, made: str, place: str) -> Json:
        actions = transition.get("actions")
        for index, (_, own) in enumerate(places(actions, f"{place}.actions"), 1):
            self.problems.places[f"{made}.actions[{index}]"] = own
        amended = {**transition, "actions": [self.record, *listed(actions)]}
        own_guard = transition.get("guard")
        if guard and own_guard is not None:
            amended["guard"] = {"type": "and", "params": {"guards": [guard, own_guard]}}
            self.problems.places[f"{made}.guard.params.guards[1]"] = f"{place}.guard"
        elif guard:
            amended["guard"] = guard
        return amended

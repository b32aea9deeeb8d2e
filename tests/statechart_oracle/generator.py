"""Random graphs and what happens to them, drawn from a seed.

Left out is what XState does in a way of its own (history targets from inside the state whose
history it is; a delayed event raised again under a pending id) and what no JavaScript object can
keep (names like integers in an order of their own). A random graph is wired so that it lives for a
while: most guards let pass now and then, and most cycles of `always` are counted.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from statechart_oracle.cases import Case, Graph, Step

DEEPEST = 3
EVENTS = ("A", "B", "C", "job.ok", "job.ok.late", "job.bad")
DESCRIPTORS = ("A", "A", "B", "B", "C", "job.ok", "job.bad", "job.*", "job.ok.*", "*", "again")
RAISED = (*["again"] * 15, "A", "job.ok")
COUNTED = ("*", "again")  # what takes raised events might do so for ever


@dataclass(eq=False)
class _State:
    name: str
    kind: str
    parent: "_State | None"
    own_id: str | None = None
    children: list["_State"] = field(default_factory=list)

    @property
    def id(self) -> str:
        if self.own_id or self.parent is None:
            return self.own_id or self.name
        return ".".join(one.name for one in [*reversed(list(self.ancestors())), self])

    @property
    def regular(self) -> list["_State"]:
        return [child for child in self.children if child.kind != "history"]

    def ancestors(self) -> Iterator["_State"]:
        above = self.parent
        while above:
            yield above
            above = above.parent

    def family(self) -> Iterator["_State"]:
        """Itself and all below it."""
        yield self
        for child in self.children:
            yield from child.family()


def case(seed: int) -> Case:
    """The same case for the same seed, on every machine and in every Python."""
    return _Author(random.Random(seed)).case(f"seed {seed}")


class _Author:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._root = _State("m", "parallel" if self._chance(0.2) else "compound", None)
        self._grow(self._root, 1)
        self._states = list(self._root.family())
        self._invocations: list[str] = []
        self._delays = draw.sample(range(1, 400), 40)  # no two are due together
        self._labels = 0

    def case(self, name: str) -> Case:
        graph = {"id": "m", "context": {"n": 0, "last": None}, **self._written(self._root)}
        if self._chance(0.3):
            graph["context"]["given"] = {"$expr": "input.size"}
        if self._chance(0.4):
            graph["output"] = {"n": {"$expr": "context.n"}, "of": {"$expr": "event.output"}}
        return Case(name, graph, list(self._steps()), {"size": self._draw.randrange(5)})

    def _chance(self, probability: float) -> bool:
        return self._draw.random() < probability

    # -- the tree of states

    def _grow(self, state: _State, depth: int) -> None:
        names = [*"abcdef"]
        self._draw.shuffle(names)
        within_parallel = state.kind == "parallel"
        for _ in range(self._draw.choice((2, 2, 3))):
            child = _State(names.pop(), self._kind(depth), state)
            if within_parallel and child.kind == "atomic" and self._chance(0.4) and depth < DEEPEST:
                child.kind = "compound"
            if self._chance(0.15):
                child.own_id = f"id-{child.id.replace('.', '-')}"
            state.children.append(child)
            if child.kind in ("compound", "parallel"):
                self._grow(child, depth + 1)
        if self._chance(0.05 if within_parallel else 0.4):
            state.children.append(_State(names.pop(), "final", state))
        if state.parent and self._chance(0.35):
            place = self._draw.randrange(len(state.children) + 1)
            state.children.insert(place, _State(names.pop(), "history", state))

    def _kind(self, depth: int) -> str:
        if depth == DEEPEST:
            return "atomic"
        return self._draw.choices(("atomic", "compound", "parallel"), (50, 32, 18))[0]

    # -- a state as JSON

    def _written(self, state: _State) -> Graph:
        if state.kind == "history":
            return self._history(state)
        out: Graph = {"id": state.own_id} if state.own_id else {}
        if state.kind in ("parallel", "final"):
            out["type"] = state.kind
        if state.kind == "compound":
            out["initial"] = self._initial(state)
        if self._chance(0.5):
            out["entry"] = self._actions(f"enter {state.id}")
        if self._chance(0.5):
            out["exit"] = self._actions(f"exit {state.id}")
        if state.kind == "final":
            if self._chance(0.5):
                out["output"] = {"from": state.id, "n": {"$expr": "context.n"}}
            return out
        out |= self._ways_out(state)
        if state.children:
            out["states"] = {child.name: self._written(child) for child in state.children}
        return out

    def _history(self, state: _State) -> Graph:
        assert state.parent
        out: Graph = {"type": "history"}
        if self._chance(0.6):
            out["history"] = self._draw.choice(("shallow", "deep"))
        if self._chance(0.5) and state.parent.kind == "compound":
            target = self._draw.choice(state.parent.regular)
            out["target"] = target.name if not target.own_id else f"#{target.id}"
        return out

    def _initial(self, state: _State) -> Any:
        name = self._draw.choice([c for c in state.regular if c.kind != "final"]).name
        if self._chance(0.3):
            return {"target": name, "actions": self._actions(f"initial {state.id}")}
        return name

    def _ways_out(self, state: _State) -> Graph:
        out: Graph = {}
        if self._chance(0.75):
            names = {self._draw.choice(DESCRIPTORS) for _ in range(self._draw.choice((1, 2, 3)))}
            out["on"] = {
                name: self._counted(state) if name in COUNTED else self._transitions(state)
                for name in sorted(names)
            }
            if self._chance(0.06):
                out["on"][self._draw.choice(EVENTS)] = {}  # forbidden
        if self._chance(0.2):
            out["after"] = {
                str(self._delays.pop()): self._transitions(state)
                for _ in range(self._draw.choice((1, 1, 2)))
            }
        if self._chance(0.15):
            out["always"] = [self._counted(state) for _ in range(self._draw.choice((1, 1, 2)))]
        if self._chance(0.25):
            several = self._draw.choice((1, 1, 1, 2))
            invocations = [self._invoke(state, number) for number in range(several)]
            out["invoke"] = invocations if len(invocations) > 1 else invocations[0]
        if state.children and self._chance(0.5):
            out["onDone"] = self._when_done(state)
        return out

    def _when_done(self, state: _State) -> Graph:
        out = self._counted(state)
        gave = {"type": "log", "params": {"gave": {"$expr": "event.output"}}}
        return out | {"actions": [gave, *out.get("actions", [])]}

    def _invoke(self, state: _State, number: int) -> Graph:
        out: Graph = {"src": self._draw.choice(("charge", "ship"))}
        if self._chance(0.6):
            out["id"] = f"job{len(self._invocations)}"
        self._invocations.append(out.get("id", f"{number}.{state.id}"))
        if self._chance(0.5):
            out["input"] = {"n": {"$expr": "context.n"}, "after": {"$expr": "event.type"}}
        if self._chance(0.7):
            out["onDone"] = self._transitions(state)
        if self._chance(0.6):
            out["onError"] = self._transitions(state)
        return out

    # -- transitions

    def _transitions(self, state: _State) -> Any:
        if self._chance(0.25):
            return [self._transition(state) for _ in range(2)]
        one = self._transition(state)
        return one["target"] if one.keys() == {"target"} and self._chance(0.7) else one

    def _counted(self, state: _State) -> Graph:
        out = self._transition(state)
        if self._chance(0.995):
            count = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
            out["guard"] = {"$expr": f"context.n < {self._draw.randrange(1, 12)}"}
            if self._chance(0.4):
                out["guard"] = {
                    "type": "and",
                    "params": {"guards": [out["guard"], self._guard(1)]},
                }
            out["actions"] = [*out.get("actions", []), count]
        return out

    def _transition(self, state: _State) -> Graph:
        out: Graph = {}
        if self._chance(0.85):
            targets = self._several(state) if self._chance(0.12) else None
            out["target"] = targets or self._target(state)
            if self._chance(0.2):
                out["reenter"] = True
        if self._chance(0.35):
            out["guard"] = self._guard(2)
        if self._chance(0.6) or not out:
            self._labels += 1
            out["actions"] = self._actions(f"transition {self._labels}")
        return out

    def _target(self, state: _State) -> str:
        able = list(self._open_to(state, self._states))
        near = [one for one in able if one.kind == "final" and one.parent is state.parent]
        return self._spelled(state, self._draw.choice(near if near and self._chance(0.3) else able))

    def _several(self, state: _State) -> list[str] | None:
        """One target in each of some regions of a parallel state."""
        parallel = [one for one in self._states if one.kind == "parallel" and len(one.regular) > 1]
        if not parallel:
            return None
        regions = self._draw.choice(parallel).regular
        chosen = self._draw.sample(regions, self._draw.randrange(2, len(regions) + 1))
        inside = [list(self._open_to(state, region.family())) for region in chosen]
        return [self._spelled(state, self._draw.choice(family)) for family in inside]

    @staticmethod
    def _open_to(state: _State, targets: Any) -> Iterator[_State]:
        above = {state, *state.ancestors()}
        for target in targets:
            # The machine itself is no target, and a state's history none for what is in the state.
            if target.parent and not (target.kind == "history" and target.parent in above):
                yield target

    def _spelled(self, state: _State, target: _State) -> str:
        ways = [f"#{target.id}"]
        below = [target, *target.ancestors()]
        if state in below[1:]:
            ways.append("".join(f".{one.name}" for one in reversed(below[: below.index(state)])))
        if state.parent is not None and state.parent in below[1:]:
            path = reversed(below[: below.index(state.parent)])
            ways.append(".".join(one.name for one in path))
        return self._draw.choice(ways)

    # -- guards and actions

    def _guard(self, depth: int) -> Graph:
        kinds = ("counter", "counter", "event", "stateIn")
        kind = self._draw.choice(kinds if depth == 0 else (*kinds, "and", "or", "not"))
        if kind == "counter":
            return {"$expr": self._counter()}
        if kind == "event":
            return {"$expr": f"event.type == '{self._draw.choice(EVENTS)}' or context.n > 2"}
        if kind == "stateIn":
            return {"type": "stateIn", "params": {"state": self._state_in()}}
        if kind == "not":
            return {"type": "not", "params": {"guard": self._guard(depth - 1)}}
        return {"type": kind, "params": {"guards": [self._guard(depth - 1) for _ in range(2)]}}

    def _counter(self) -> str:
        limit = self._draw.randrange(1, 6)
        return self._draw.choice(
            (
                f"context.n % {self._draw.choice((2, 3))} == {self._draw.randrange(2)}",
                f"context.n < {limit}",
                f"context.n >= {limit}",
                f"event.size > {limit} if event.size else context.n != {limit}",
                f"not (context.last == null and context.n > {limit})",
            )
        )

    def _state_in(self) -> Any:
        state = self._draw.choice([one for one in self._states if one.kind != "history"][1:])
        path = [one.name for one in [*reversed(list(state.ancestors())), state]][1:]
        as_object: Any = path[-1]
        for name in reversed(path[:-1]):
            as_object = {name: as_object}
        return self._draw.choice((f"#{state.id}", ".".join(path), as_object))

    def _actions(self, label: str) -> list[Graph]:
        seen: Graph = {"at": label}
        if self._chance(0.3):
            seen |= {"n": {"$expr": "context.n"}, "on": {"$expr": "event.type"}}
        out: list[Graph] = [{"type": "log", "params": seen}]
        if self._chance(0.3):
            changes = ({"n": "context.n + 1"}, {"last": "event.output"}, {"last": "event.type"})
            change = self._draw.choice(changes)
            values = {key: {"$expr": source} for key, source in change.items()}
            out.append({"type": "assign", "params": values})
        if self._chance(0.06):
            event = {"type": self._draw.choice(RAISED), "size": {"$expr": "context.n"}}
            out.append({"type": "raise", "params": {"event": event}})
        self._draw.shuffle(out)
        if self._chance(0.06):
            out += self._delayed()
        return out

    def _delayed(self) -> list[Graph]:
        raised: Graph = {"event": {"type": self._draw.choice(EVENTS)}, "delay": self._delays.pop()}
        if self._chance(0.5):
            return [{"type": "raise", "params": raised}]
        # The cancelling comes first: a pending id is not raised again.
        raised["id"] = self._draw.choice(("soon", "later"))
        cancel = {"type": "cancel", "params": {"id": raised["id"]}}
        return [cancel, {"type": "raise", "params": raised}][: self._draw.choice((1, 2, 2))]

    # -- what happens

    def _steps(self) -> Iterator[Step]:
        restarted = False
        for _ in range(self._draw.randrange(5, 14)):
            kind = self._draw.choices(
                ("send", "advance", "resolve", "reject", "restart"), (55, 20, 18, 6, 2)
            )[0]
            if kind == "restart":
                restarted = True
                yield {"restart": True}
            elif kind == "advance" and not restarted:  # XState forgets its timers then
                yield {"advance": self._draw.randrange(1, 500)}
            elif kind in ("resolve", "reject") and self._invocations:
                name = self._draw.choice(self._invocations)
                yield {kind: [name, {"message": "no"} if kind == "reject" else {"id": name}]}
            else:
                event: Graph = {"type": self._draw.choice(EVENTS)}
                if self._chance(0.3):
                    event["size"] = self._draw.randrange(5)
                yield {"send": event}

"""A run of a state graph for tests: its snapshot becomes text after every step."""

import json
from collections.abc import Collection
from typing import Any

from sequential.core.statechart.effects import (
    ActionEffect,
    Effect,
    InvokeEffect,
    LogEffect,
    StepEffect,
)
from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError

Graph = dict[str, Any]


class Run:
    """One run, told what happens; `did` are the names of actions since the last step."""

    def __init__(
        self,
        graph: Graph,
        functions: Collection[str] | None = None,
        *,
        input: Any = None,
        entry: str | None = None,
    ) -> None:
        self.machine = Machine(json.loads(json.dumps(graph)), functions, entry=entry)
        self.now = 0
        self.effects: list[Effect] = []
        self.snapshot: dict[str, Any] = {}
        self._keep(self.machine.start(input, 0))

    def _keep(self, result: tuple[dict[str, Any], list[Effect]]) -> "Run":
        snapshot, self.effects = result
        self.snapshot = json.loads(json.dumps(snapshot))
        return self

    # What happens

    def send(self, *names: str, **fields: Any) -> "Run":
        """Events from outside, one after the other."""
        for name in names:
            event = {**fields, "type": name}
            self._keep(self.machine.send(self.snapshot, event, self.now))
        return self

    def done(self, name: str, output: Any = None) -> "Run":
        return self._keep(self.machine.done(self.snapshot, self.key(name), output, self.now))

    def failed(self, name: str, error: Any = None) -> "Run":
        error = error or {"name": "ValueError", "message": "no"}
        return self._keep(self.machine.failed(self.snapshot, self.key(name), error, self.now))

    def wait(self, milliseconds: int) -> "Run":
        """Time goes by; what is due comes, the earliest first."""
        until = self.now + milliseconds
        while due := [one for one in self.snapshot["timers"] if one["due"] <= until]:
            first = min(due, key=lambda timer: timer["due"])
            self.now = first["due"]
            self._keep(self.machine.fire(self.snapshot, first["key"], self.now))
        self.now = until
        return self

    # What is there

    def key(self, name: str) -> str:
        """The key of what is in flight under this id."""
        return str(self.snapshot["invocations"][name]["key"])

    @property
    def value(self) -> Any:
        return self.snapshot["value"]

    @property
    def context(self) -> Any:
        return self.snapshot["context"]

    @property
    def status(self) -> str:
        return str(self.snapshot["status"])

    @property
    def output(self) -> Any:
        return self.snapshot["output"]

    @property
    def error(self) -> Any:
        return self.snapshot["error"]

    @property
    def in_flight(self) -> list[str]:
        return list(self.snapshot["invocations"])

    @property
    def timers(self) -> list[str]:
        return [timer["id"] for timer in self.snapshot["timers"]]

    @property
    def did(self) -> list[Any]:
        """Names of actions, and what was logged, in order."""
        return [
            effect.params if isinstance(effect, LogEffect) else effect.type
            for effect in self.effects
            if isinstance(effect, LogEffect | ActionEffect)
        ]

    @property
    def step(self) -> StepEffect:
        (found,) = [effect for effect in self.effects if isinstance(effect, StepEffect)]
        return found

    @property
    def invokes(self) -> list[InvokeEffect]:
        return [effect for effect in self.effects if isinstance(effect, InvokeEffect)]


def flat(*names: str, **states: Graph) -> Graph:
    """A machine `m` of states beside each other; the first one is the initial one."""
    all_ = {**{name: {} for name in names}, **states}
    return {"id": "m", "initial": next(iter(all_)), "states": all_}


def compound(*names: str, **states: Graph) -> Graph:
    """A state with states in it."""
    inner = {**{name: {} for name in names}, **states}
    return {"initial": next(iter(inner)), "states": inner}


def told(name: str, **more: Any) -> Graph:
    """A state that tells when it is entered and left."""
    return {"entry": f"+{name}", "exit": f"-{name}", **more}


def assign(**values: str) -> Graph:
    """An action that assigns what expressions give."""
    return {"type": "assign", "params": {name: when(source) for name, source in values.items()}}


def when(source: str) -> Graph:
    """An expression, as in a guard."""
    return {"$expr": source}


def problems(graph: Any, functions: Collection[str] | None = ()) -> list[str]:
    """What is wrong with a graph, a line each."""
    try:
        Machine(graph, functions)
    except GraphError as error:
        return [str(problem) for problem in error.problems]
    return []

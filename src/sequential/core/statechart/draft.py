"""A graph while it is read: what its parts need to know of each other."""

from collections.abc import Iterable
from typing import Any

from sequential.core.statechart.bounds import MAX_NAMED
from sequential.core.statechart.definition import Action, Guard, Invocation, NamedDelay, State
from sequential.core.statechart.handlers import Handlers
from sequential.core.statechart.problems import Problems, quoted
from sequential.core.statechart.vocabulary import KEY_HINTS, SHORTHAND


class Draft:
    """The states found so far, the names of the code and of the graph itself, and the problems."""

    def __init__(self, handlers: Handlers, problems: Problems) -> None:
        self.handlers = handlers
        self.problems = problems
        self.states: list[State] = []
        self.by_id: dict[str, State] = {}
        self.invocations: dict[str, Invocation] = {}
        self.guards: dict[str, Guard] = {}  # these three: what has a name in `implementations`
        self.actions: dict[str, tuple[Action, ...]] = {}
        self.delays: dict[str, NamedDelay] = {}
        self._named = 0

    def actions_named(self, name: str, where: str) -> tuple[Action, ...]:
        """What a name of `implementations` stands for."""
        actions = self.actions[name]
        self._named += len(actions)
        if self._named > MAX_NAMED:
            self.problems.error(where, f"names stand for more than {MAX_NAMED} actions by now")
            return ()
        return actions

    def check_keys(self, spec: dict[str, Any], allowed: frozenset[str], where: str) -> None:
        """Refuse keys that mean nothing: one that is misspelt would silently change the graph."""
        for key in spec:
            if key in allowed or key.startswith(("x-", "//")):
                continue
            self.problems.error(where, f"key {quoted(key)}: {self._hint(key, allowed)}")

    def _hint(self, key: str, allowed: frozenset[str]) -> str:
        if key in SHORTHAND and "states" in allowed:
            return "is only for a state without child states, which runs a function"
        near = self.problems.near(key, [*sorted(allowed), *SHORTHAND])
        return KEY_HINTS.get(key) or f"unknown key{near}"

    def object(self, spec: Any, where: str, what: str) -> dict[str, Any]:
        """An object of the graph; an empty one, with a problem, when it is something else."""
        if spec is None:
            return {}
        if isinstance(spec, dict):
            return spec
        self.problems.error(where, f"must be an object {what}")
        return {}


def listed(spec: Any) -> list[Any]:
    """One or many, as a list."""
    return [] if spec is None else list(spec) if isinstance(spec, list) else [spec]


def places(spec: Any, where: str) -> Iterable[tuple[Any, str]]:
    """One or many with their places: only what is written as a list has an index."""
    if isinstance(spec, list):
        return [(one, f"{where}[{index}]") for index, one in enumerate(spec)]
    return [] if spec is None else [(spec, where)]

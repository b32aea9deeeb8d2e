"""The compiled graph: states, transitions, actions, guards and invocations.

States are numbered in document order, so the descendants of a state are the numbers that follow
its own, up to `last`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from sequential.core.model import RetryPolicy
from sequential.core.statechart.expression import Scope
from sequential.core.statechart.template import Template


class Situation(Scope, Protocol):
    """What a guard can see: the data, and which states are active."""

    @property
    def active(self) -> dict["State", None]: ...


class Guard(msgspec.Struct, eq=False, frozen=True):
    """A condition of a transition; `text` is for people."""

    text: str
    holds: Callable[[Situation], bool]


class Action(msgspec.Struct, eq=False, frozen=True):
    """Something a transition or a state does: one of `vocabulary.ACTIONS`, or a name."""

    type: str
    params: Template
    where: str
    name: str | None = None  # that it has in the graph's `implementations`


class Transition(msgspec.Struct, eq=False):
    """One way from a state. Without targets only its actions run; without both it forbids."""

    source: "State"
    event: str
    targets: tuple["State", ...] | None
    guard: Guard | None = None
    actions: tuple[Action, ...] = ()
    reenter: bool = False
    where: str = ""

    @property
    def does_something(self) -> bool:
        """Whether it is more than the word that an event is not wanted here."""
        return self.targets is not None or bool(self.actions)


class Invocation(msgspec.Struct, eq=False, frozen=True):
    """A handler or a child task that runs while its state is active."""

    id: str
    src: str
    state: "State"
    input: Template
    handler: str | None = None  # the function in the code, if the code was given
    task: str | None = None  # the child task of `task:<name>`
    retry: RetryPolicy | None = None
    timeout: float | None = None  # milliseconds


class Delay(msgspec.Struct, eq=False, frozen=True):
    """An event that comes when a state has been active for a time."""

    event: str
    milliseconds: float | None  # None: an expression gives them, or only code could
    computed: Template | None = None


class NamedDelay(msgspec.Struct, eq=False, frozen=True):
    """A time of the graph's `implementations`: a number of milliseconds, or what computes one."""

    spec: Any
    milliseconds: float | None
    computed: Template | None


class State(msgspec.Struct, eq=False):
    """A state with what it contains and where it leads."""

    name: str
    id: str
    type: str
    parent: "State | None"
    order: int
    where: str
    last: int = 0  # the number of the last descendant
    description: str = ""
    children: dict[str, "State"] = msgspec.field(default_factory=dict)
    regions: list["State"] = msgspec.field(default_factory=list)  # children but history states
    histories: list["State"] = msgspec.field(default_factory=list)
    entry: tuple[Action, ...] = ()
    exit: tuple[Action, ...] = ()
    on: dict[str, list[Transition]] = msgspec.field(default_factory=dict)
    wildcards: list[tuple[str, str]] = msgspec.field(default_factory=list)  # prefix, name
    always: tuple[Transition, ...] = ()
    invocations: list[Invocation] = msgspec.field(default_factory=list)
    delays: list[Delay] = msgspec.field(default_factory=list)
    initial: "State | None" = None
    initial_actions: tuple[Action, ...] = ()
    deep: bool = False  # of a history state
    targets: tuple["State", ...] = ()  # of a history state
    output: Template | None = None

    def __repr__(self) -> str:
        return f"<State {self.id}>"

    @property
    def is_atomic(self) -> bool:
        """Whether it has no children: every configuration ends in such states."""
        return self.type in ("atomic", "final")

    def is_within(self, other: "State") -> bool:
        """Whether it is inside the other one, at any depth."""
        return other.order < self.order <= other.last

    def ancestors(self, stop: "State | None" = None) -> Iterator["State"]:
        """Its parent, grandparent and so on, up to but without `stop`."""
        state = None if stop is self else self.parent
        while state is not None and state is not stop:
            yield state
            state = state.parent

    @property
    def first_initial(self) -> "State":
        """The initial state of a compound one."""
        assert self.initial is not None, "the reader refuses a compound state without one"
        return self.initial

    @property
    def container(self) -> "State":
        """The parent of a state that has one: of every history and every final state."""
        assert self.parent is not None, "the reader refuses such a machine"
        return self.parent

    @property
    def default_targets(self) -> list["State"]:
        """What a history state means while nothing is recorded for it."""
        if self.targets:
            return list(self.targets)
        parent = self.container
        return [parent] if parent.type == "parallel" else [parent.first_initial]


class Chart(msgspec.Struct, eq=False):
    """A whole graph."""

    root: State
    states: list[State]  # in document order
    by_id: dict[str, State]
    invocations: dict[str, Invocation]
    context: Template

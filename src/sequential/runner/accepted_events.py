"""Which events from outside the state graph of a run accepts at the moment."""

import difflib
from collections.abc import Sequence

from sequential.core import values
from sequential.core.model import StackRun, TaskRun
from sequential.core.task_graph import machine_of
from sequential.errors import InvalidInputError, InvalidTransitionError
from sequential.runner.open_calls import EVENT
from sequential.storage.base import StorageAdapter

RESERVED = "xstate."  # what names of the machine's own events begin with
LONGEST = 60  # characters of a name for which a near one is looked for


async def accepted_events(storage: StorageAdapter, run: TaskRun) -> list[str]:
    """Names of the events that would do something now, guards aside, sorted.

    Of a run that has not begun, all that its graph ever takes; of one that has ended, none. A name
    may end with `*`, as in the graph.
    """
    if run.status.is_final or run.config.graph is None:
        return []
    if run.turn == 0:
        chart = machine_of(run.config.graph, run.code, run.task_identifier).chart
        found = {
            event
            for state in chart.states
            for event, transitions in state.on.items()
            if not event.startswith(RESERVED) and any(t.does_something for t in transitions)
        }
        return sorted(found)
    return listened_for(await storage.load_calls(run.id, run.turn))


def listened_for(calls: Sequence[StackRun]) -> list[str]:
    """Names of the events that the one open call of a graph run waits for."""
    for call in calls:
        if call.operation == EVENT and not call.status.is_settled:
            _, named = values.arguments_from_json(call.input)
            if named.get("any"):
                return list(named["accepts"])
    return []


def takes(accepted: Sequence[str], name: str) -> bool:
    """Whether an event is among those accepted: `a.*` takes `a`, `a.b` and `a.b.c`."""
    return any(
        f"{name}.".startswith(one[:-1]) if one.endswith("*") else name == one for one in accepted
    )


def check_name(name: str) -> None:
    """Refuse the names that belong to the machine itself."""
    if name.startswith(RESERVED):
        raise InvalidInputError(
            f'event names beginning with "{RESERVED}" are reserved: take another'
        )


async def check_accepted(storage: StorageAdapter, run: TaskRun, name: str) -> None:
    """Raise `InvalidTransitionError`, with those that it accepts, for an event it would ignore."""
    accepted = await accepted_events(storage, run)
    if run.status.is_final or takes(accepted, name):
        return
    place = f" in {run.where.function}" if run.where and run.where.function else ""
    near = difflib.get_close_matches(name, accepted, n=1) if len(name) <= LONGEST else []
    meant = f" (did you mean {near[0]}?)" if near else ""
    instead = f"it accepts {', '.join(accepted)}{meant}" if accepted else "it accepts no event now"
    raise InvalidTransitionError(
        f"run {run.id} of {run.task_identifier} does not accept the event {name}{place}: {instead}"
    )

"""What the API shows of the store's records: the same types, without what is nobody's business.

A run is shown without its code, its lease and the data of answers it has not taken; in lists also
without input and result. What is left out is missing in the JSON, so a client can read what it gets
as the record it is.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from sequential.core import values
from sequential.core.model import StackRun, Status, TaskFunction, TaskRun, evolve

Item = TypeVar("Item")

LARGEST_SHOWN = 1024  # bytes of JSON of an input or a result in a list of calls
# The very object that a run has without one: only then it is left out.
_NO_CONFIG = TaskRun("", "", Status.PENDING, None).config


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some of a list, and where it goes on: `next` is the value for the query's cursor."""

    items: list[Item]
    next: str | None = None


def shown_run(run: TaskRun) -> TaskRun:
    """A run with its input and its result."""
    events = tuple(evolve(event, data=None) for event in run.events)
    return evolve(run, code="", lease_token=None, lease_until=None, events=events)


def listed_run(run: TaskRun) -> TaskRun:
    """A run as one of many."""
    return evolve(shown_run(run), input=None, result=None, config=_NO_CONFIG)


def listed_call(call: StackRun) -> StackRun:
    """A call as one of many: its payloads only where they are short."""
    return evolve(call, input=_short(call.input), result=_short(call.result))


def listed_task(task: TaskFunction) -> TaskFunction:
    """A task without its program."""
    return evolve(task, code="", config=evolve(task.config, graph=None))


def page_of(items: Sequence[Item], limit: int, cursor: str) -> Page[Item]:
    """The first `limit` of the items, of which there is one more if the list goes on."""
    shown = list(items[:limit])
    more = len(items) > limit
    return Page(shown, str(getattr(shown[-1], cursor)) if more else None)


def _short(tree: Any) -> Any:
    if tree is None or isinstance(tree, bool | int | float):
        return tree
    size = len(values.dumps(tree))
    return tree if size <= LARGEST_SHOWN else {"$omitted": size}

"""Conditions, actions and times that a graph calls by a name: its `implementations`.

    "implementations": {
      "guards": {"isAdult": {"$expr": "context.age >= 18"}},
      "actions": {"count": {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}},
      "delays": {"soon": 1000}
    }

XState has functions in their place, given to `setup`. These name no others, so nothing goes round
in a circle, and what a graph does is never much larger than what is written.
"""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from sequential.core.statechart.actions import check_delay, read_actions
from sequential.core.statechart.definition import NamedDelay
from sequential.core.statechart.draft import Draft
from sequential.core.statechart.guards import read_guard
from sequential.core.statechart.problems import keyed, quoted
from sequential.core.statechart.template import Template, is_expression
from sequential.core.statechart.times import milliseconds
from sequential.core.statechart.vocabulary import ACTIONS, GUARDS, IMPLEMENTATION_KEYS


def read_implementations(draft: Draft, spec: Any) -> None:
    """Let the rest of the graph use the names; what is wrong goes to the problems."""
    where = "$.implementations"
    parts = draft.object(spec, where, 'of "guards", "actions" and "delays"')
    draft.check_keys(parts, IMPLEMENTATION_KEYS, where)
    guards = {
        name: read_guard(draft, one, place)
        for name, one, place in _named(draft, parts, "guards", GUARDS)
    }
    actions = {
        name: read_actions(draft, one, place)
        for name, one, place in _named(draft, parts, "actions", ACTIONS)
    }
    delays = dict(_delays(draft, parts))
    draft.guards = {name: replace(one, text=name) for name, one in guards.items() if one}
    draft.actions = {
        name: tuple(replace(one, name=name) for one in those) for name, those in actions.items()
    }
    draft.delays = delays


def _named(
    draft: Draft, parts: dict[str, Any], word: str, built_in: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, str]]:
    """What has a name, with its place."""
    where = f"$.implementations.{word}"
    for name, one in draft.object(parts.get(word), where, "by name").items():
        place = keyed(where, name)
        if name.startswith("//"):
            continue  # a remark
        if not name or name in built_in or name.startswith(("xstate.", "sequential.")):
            draft.problems.error(place, f"{quoted(name)} cannot be a name here: take another")
        elif one is None:
            draft.problems.error(place, "says nothing: write what the name stands for")
        else:
            yield name, one, place


def _delays(draft: Draft, parts: dict[str, Any]) -> Iterator[tuple[str, NamedDelay]]:
    for name, delay, place in _named(draft, parts, "delays"):
        if milliseconds(name) is not None:
            draft.problems.error(place, "is a number of milliseconds by itself: take another name")
        else:
            check_delay(draft, delay, place)
            is_known = isinstance(delay, int | float)
            computed = Template(delay, place, draft.problems) if is_expression(delay) else None
            yield name, NamedDelay(delay, delay if is_known else None, computed)

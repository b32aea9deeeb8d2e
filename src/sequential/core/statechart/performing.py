"""What each action does to the machine."""

from collections.abc import Iterable
from typing import Any

from sequential.core.statechart.definition import Action
from sequential.core.statechart.effects import ActionEffect, EmitEffect, LogEffect
from sequential.core.statechart.expression import ExpressionError
from sequential.core.statechart.problems import kind
from sequential.core.statechart.vocabulary import RECORD
from sequential.core.statechart.working_copy import MachineError, WorkingCopy


def perform(copy: WorkingCopy, actions: Iterable[Action]) -> None:
    """Do the actions in order; raises `MachineError` that says which one cannot be done."""
    for action in actions:
        try:
            _perform(copy, action.type, action.params.render(copy, copy.count))
        except (ExpressionError, MachineError) as error:
            raise MachineError(f"{action.where}: {error}") from None


def _perform(copy: WorkingCopy, name: str, params: Any) -> None:
    match name:
        case "assign":
            copy.context = {**copy.context, **_object(params, "what is assigned")}
        case "raise":
            _raise(copy, _object(params, '"params" of raise'))
        case "cancel":
            copy.clear_timer(str(_object(params, '"params" of cancel').get("id")))
        case "log":
            copy.add_effect(LogEffect(params))
        case "emit":
            copy.add_effect(EmitEffect(params))
        case _ if name == RECORD:
            _record(copy, params["state"])
        case _:
            copy.add_effect(ActionEffect(name, params))


def _object(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise MachineError(f"{what} must be an object, this is {kind(value)}")


def _raise(copy: WorkingCopy, params: dict[str, Any]) -> None:
    event = _object(params.get("event"), "a raised event")
    name = event.get("type")
    if not isinstance(name, str) or not name:
        raise MachineError('a raised event needs a "type" that is a text')
    if name.startswith("xstate."):
        raise MachineError('event names beginning with "xstate." are reserved')
    if "delay" not in params:
        copy.queue_event(event)
    else:
        identity = params.get("id")
        copy.set_timer(None if identity is None else str(identity), event, params["delay"])


def _record(copy: WorkingCopy, state: str) -> None:
    """Of the simple form: what a handler gave is the input of the next."""
    event = copy.event
    given = event["output"] if "output" in event else event.get("error")
    results = copy.context.get("results")
    results = {**results, state: given} if isinstance(results, dict) else {state: given}
    copy.context = {**copy.context, "data": given, "results": results}

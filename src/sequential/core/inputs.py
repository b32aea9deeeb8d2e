"""A task's input: checked against the fields of its `config.json` before anything starts."""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from sequential.core.model import InputField, TaskConfig
from sequential.errors import InvalidInputError

TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: (isinstance(v, float) and math.isfinite(v)) or TYPES["integer"](v),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list | tuple),
    "any": lambda v: True,
}

_JSON_NAMES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    tuple: "array",
    type(None): "null",
}


def check_input(config: TaskConfig, given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The complete input of a run: what was given, then the project's `defaults`, then the fields'.

    Raises `InvalidInputError` that lists every missing, mistyped and unknown field at once. A task
    without declared fields takes any object.
    """
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"the input of {config.name} must be an object with its fields by name, "
            f'as in {{"userId": "123"}}; this is {_named(given)}'
        )
    if not config.inputs:
        return dict(given)
    problems: list[str] = []
    complete: dict[str, Any] = {}
    for field in config.inputs:
        _fill(field, given, defaults, complete, problems)
    known = [field.name for field in config.inputs]
    problems += [_unknown(str(name), known) for name in given if name not in known]
    if problems:
        raise InvalidInputError(f"the input does not fit {config.name}: {'; '.join(problems)}")
    return complete


def _fill(
    field: InputField,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    complete: dict[str, Any],
    problems: list[str],
) -> None:
    if field.name in given:
        value, origin = given[field.name], ""
    elif field.name in defaults:
        value, origin = defaults[field.name], " in the project's defaults"
    elif field.default is not None or not field.required:
        complete[field.name] = field.default
        return
    else:
        problems.append(f'"{field.name}" ({field.type}) is missing')
        return
    fits = TYPES.get(field.type, TYPES["any"])
    if fits(value) or (value is None and not field.required):
        complete[field.name] = value
    else:
        problems.append(f'"{field.name}" must be {field.type}, this is {_named(value)}{origin}')


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"
    return f'"{name}" is not a field of this task ({hint})'


def _named(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _JSON_NAMES.get(type(value), type(value).__name__)

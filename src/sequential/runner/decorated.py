"""Functions with the decorator `sequential.task.task`, as tasks of a store.

What is stored is no source but where the function is: a line that imports it. So any process that
can import the module can drive its runs.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sequential.core import values
from sequential.core.inputs import TYPES
from sequential.core.model import InputField, TaskConfig, TaskFunction
from sequential.core.names import check_task_name
from sequential.errors import ConfigError, InvalidTaskError

_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
}

_CODE = """\
# The function {name} of the module {module}, a task because of its @task.
try:
    from {module} import {name} as main
except ModuleNotFoundError as missing:
    raise ImportError(
        f"{{missing}}: install {module} and what it imports where this worker runs, or start the "
        "worker in its folder, then retry this run"
    ) from None
"""


def task_of(function: Callable[..., Any]) -> TaskFunction:
    """The task that a decorated function is; raises `InvalidTaskError` for any other."""
    given = getattr(function, "__sequential_task__", None)
    name = getattr(function, "__qualname__", repr(function))
    if given is None:
        raise InvalidTaskError(f"{name} is no task: put `@task` of `sequential.task` above it")
    if not isinstance(function, types.FunctionType) or "." in name or "<" in name:
        raise InvalidTaskError(
            f"{name} cannot be a task, which other processes have to find by its name: move it to "
            "the top of its module, as a plain function"
        )
    identifier = check_task_name(given["name"] or function.__name__)
    try:
        config = msgspec.convert(
            {"inputs": [*_inputs(function)], **given["config"], "name": identifier},
            TaskConfig,
            from_attributes=True,
        )
    except msgspec.ValidationError as error:
        raise ConfigError(f"@task of {name}: {error}") from error
    config = msgspec.structs.replace(config, runtime="native")
    module = _module(function)
    return TaskFunction(identifier, _CODE.format(module=module, name=name), config)


def _module(function: types.FunctionType) -> str:
    """The module to import; a script that is run is known by the name of its file."""
    if function.__module__ != "__main__":
        return function.__module__
    script = sys.modules["__main__"]
    spec = getattr(script, "__spec__", None)
    if spec is not None:
        name = str(spec.name)
        name = name.removesuffix(".__main__") + ".__main__" if "__main__" in name else name
    elif file := getattr(script, "__file__", None):
        name = Path(file).stem
    else:
        raise InvalidTaskError(
            f"{function.__name__} was typed in, so no other process can find it: put it into a file"
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise InvalidTaskError(
            f"{function.__name__} is in {name}.py, which cannot be imported: give the file a name "
            "of letters, digits and _"
        )
    sys.modules.setdefault(name, script)
    return name


def _inputs(function: types.FunctionType) -> Iterator[InputField]:
    """The fields that the parameters ask for; one parameter without a type takes anything."""
    parameters = list(inspect.signature(function).parameters.values())
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only a type checker knows
        hints = {}
    takes = [hints.get(one.name, Any) for one in parameters]
    single = len(takes) == 1 and (typing.get_origin(takes[0]) or takes[0]) in (Any, dict)
    if single and parameters[0].default is inspect.Parameter.empty:
        return
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        hint = hints.get(one.name, Any)
        kind = _TYPES.get(typing.get_origin(hint) or hint, "any")
        if one.default is inspect.Parameter.empty:
            yield InputField(one.name, kind)
        else:
            default = values.to_json(one.default, f"the default of {one.name}")
            fits = one.default is None or TYPES[kind](one.default)
            yield InputField(one.name, kind if fits else "any", required=False, default=default)

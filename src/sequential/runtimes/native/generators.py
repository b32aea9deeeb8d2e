"""Tasks written as generators, as in the original: what they yield is what they ask for."""

from collections.abc import Generator, Mapping
from typing import Any

from sequential.runtimes.native.execution import Execution

TOOL, SAVE, ERROR = "__tool", "__save", "__error"


def drive(generator: Generator[Any, Any, Any], execution: Execution) -> Any:
    """Give a generator what it asks for until it returns; its value.

    It may yield `{"__tool": [category, name, input]}`, which comes back as the tool's answer or as
    `{"__error": message}`, and `{"__save": True}`, a point that a later process goes on from.
    """
    answer = None
    while True:
        try:
            asked = generator.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = _answer(asked, execution)


def _answer(asked: Any, execution: Execution) -> Any:
    match asked:
        case {"__tool": [str(category), str(name), *rest]} if len(rest) <= 1:
            return _tool(execution, category, name, rest[0] if rest else None)
        case {"__save": True}:
            return execution.call_blocking(execution.sleep_of(0.0))
    raise TypeError(
        f"the task yielded {asked!r:.200}: a generator may yield "
        f'{{"{TOOL}": [category, name, input]}} or {{"{SAVE}": True}}'
    )


def _tool(execution: Execution, category: str, name: str, given: Any) -> Any:
    args: list[Any] = []
    kwargs: Mapping[str, Any] = {}
    if isinstance(given, Mapping):
        kwargs = given
    elif isinstance(given, list | tuple):
        args = list(given)
    elif given is not None:
        args = [given]
    request = execution.requested(category, name, args, kwargs)
    try:
        return execution.call_blocking(request)
    except Exception as error:
        return {ERROR: str(error)}

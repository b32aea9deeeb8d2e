"""A task's graph.json together with the functions of its code: what a graph run follows."""

import ast
import functools
import json
import warnings
from typing import Any

from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError, Problem, quoted
from sequential.core.syntax import parse


@functools.lru_cache(maxsize=64)
def machine_of(graph: str, source: str, task: str) -> Machine:
    """The machine of a task; raises `GraphError` with all problems of its graph at once.

    A source that cannot be parsed here is not looked at: the runtime of the handlers says what is
    wrong with it.
    """
    functions = _functions(source)
    if functions is None:
        return Machine(_parsed(graph))
    return Machine(_parsed(graph), functions, entry=_entry(functions, task))


def _parsed(text: str) -> dict[str, Any]:
    try:
        graph: dict[str, Any] = json.loads(text, object_pairs_hook=_object)
    except _TwiceError as error:
        raise GraphError([Problem("error", "$", str(error))]) from None
    except (ValueError, RecursionError) as error:
        raise GraphError([Problem("error", "$", f"this is not JSON: {error}")]) from None
    return graph


class _TwiceError(Exception):
    """A key stands twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the graph: JSON readers would pass over the first of two states of a name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _TwiceError(f"the key {quoted(twice)} stands twice in one object: rename one of them")
    return found


def _functions(source: str) -> list[str] | None:
    """The names of the public functions of a source."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]


def _entry(functions: list[str], task: str) -> str | None:
    """The one function that every state calls, where none has the name of a state."""
    for name in (task, task.replace("-", "_"), "main"):
        if name in functions:
            return name
    return functions[0] if len(functions) == 1 else None

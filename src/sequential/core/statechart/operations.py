"""What expressions can do with values: Python's operations, each of them bounded.

Without bounds one expression fills the memory (`"x" * 1000000000`), and one in a cycle computes
for ever. Nothing here leads to an attribute or a method of a Python object.
"""

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any

from sequential.core.statechart.bounds import MAX_ITEMS, MAX_TEXT, bounded, check_number
from sequential.core.statechart.problems import kind

Operation = Callable[[Any, Any], Any]


def read(value: Any, key: Any) -> Any:
    """`value[key]`, or null where there is none; also of null."""
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list | str) and isinstance(key, int) and not isinstance(key, bool):
        return value[key] if -len(value) <= key < len(value) else None
    return None


def number(value: Any) -> Any:
    """The value, if it is a number; else `TypeError`."""
    if isinstance(value, int | float):
        return value
    raise TypeError(f"a number is needed, not {kind(value)}")


def negative(value: Any) -> Any:
    """`-value`, of numbers."""
    return -number(value)


def _arithmetic(operation: Operation) -> Operation:
    def compute(left: Any, right: Any) -> Any:
        result = operation(number(left), number(right))
        check_number(result)
        return result

    return compute


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > MAX_TEXT:
            raise ValueError(f"the text is longer than {MAX_TEXT} characters")
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        if len(left) + len(right) > MAX_ITEMS:
            raise ValueError(f"the value has more than {MAX_ITEMS} items")
        return bounded(left + right)
    return _sum(left, right)


_sum = _arithmetic(operator.add)


def _same(left: Any, right: Any) -> bool:
    """`is`: equal and of one kind; Python's own would tell copies of a text from each other."""
    return type(left) is type(right) and bool(left == right)


BINARY: dict[type[ast.operator], Operation] = {
    ast.Add: _add,
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.Mod: _arithmetic(operator.mod),
    ast.FloorDiv: _arithmetic(operator.floordiv),
}
COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: many is not None and one in many,
    ast.NotIn: lambda one, many: many is None or one not in many,
    ast.Is: _same,
    ast.IsNot: lambda left, right: not _same(left, right),
}


def _get(value: Any, key: Any, default: Any = None) -> Any:
    found = read(value, key)
    return default if found is None else found


def _round(value: Any, digits: Any = 0) -> Any:
    return round(number(value), max(-18, min(18, digits))) if digits else round(number(value))


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values)


def _total(values: Iterable[Any]) -> Any:
    return sum(number(value) for value in values)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "get": _get,
    "len": len,
    "min": min,
    "max": max,
    "abs": abs,
    "any": any,
    "all": all,
    "sorted": _sorted,
    "sum": _total,
    "round": _round,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
}

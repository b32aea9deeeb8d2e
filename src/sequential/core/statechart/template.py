"""Templates: JSON with expressions in it, as in `params`, `input`, `output` and `context`."""

from collections.abc import Callable
from typing import Any

from sequential.core.statechart.bounds import measure
from sequential.core.statechart.expression import Evaluate, Expression, ExpressionError, Scope
from sequential.core.statechart.problems import Problems, below

EXPRESSION = "$expr"


def is_expression(value: Any) -> bool:
    """Whether the value is `{"$expr": ...}` and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and EXPRESSION in value


class Template:
    """A JSON value that may hold expressions.

    `is_constant` says that it holds none, so it renders to the very value it was made of.
    """

    def __init__(self, value: Any, where: str, problems: Problems) -> None:
        """Read the value; expressions that cannot be read go to `problems`."""
        self._value = value
        self._is_single = is_expression(value)
        self._render = _compiled(value, where, problems)
        self.is_constant = self._render is None

    def render(self, scope: Scope, count: Callable[[int], None] | None = None) -> Any:
        """The value with every expression replaced by what it gives.

        `count` is told how many items were put together. Reading alone puts nothing together, so
        a large result of a handler may be passed on. Raises `ExpressionError`.
        """
        if self._render is None:
            return self._value
        result = self._render(scope)
        if not self._is_single:
            try:
                items = measure(result)
            except ValueError as error:
                raise ExpressionError(str(error)) from None
            if count is not None:
                count(items)
        return result


def _compiled(value: Any, where: str, problems: Problems) -> Evaluate | None:
    """What renders the value; None for a constant."""
    if isinstance(value, dict) and EXPRESSION in value:
        return _expression(value, where, problems)
    if isinstance(value, dict):
        parts = {key: _compiled(one, below(where, key), problems) for key, one in value.items()}
        return _object(value, parts) if any(parts.values()) else None
    if isinstance(value, list):
        elements = [_compiled(one, f"{where}[{i}]", problems) for i, one in enumerate(value)]
        return _list(value, elements) if any(elements) else None
    return None


def _expression(value: dict[str, Any], where: str, problems: Problems) -> Evaluate | None:
    if len(value) > 1:
        problems.error(where, '"$expr" must be the only key of its object')
        return None
    try:
        return Expression(value[EXPRESSION]).evaluate
    except ExpressionError as error:
        problems.error(where, str(error))
        return None


def _object(value: dict[str, Any], parts: dict[str, Evaluate | None]) -> Evaluate:
    constants = {key: one for key, one in value.items() if parts[key] is None}
    moving = [(key, part) for key, part in parts.items() if part is not None]
    first = dict.fromkeys(value)  # keeps the order of the keys

    def render(scope: Scope) -> Any:
        return first | constants | {key: part(scope) for key, part in moving}

    return render


def _list(value: list[Any], elements: list[Evaluate | None]) -> Evaluate:
    pairs = list(zip(value, elements, strict=True))

    def render(scope: Scope) -> Any:
        return [one if element is None else element(scope) for one, element in pairs]

    return render

"""The expressions of a graph: `{"$expr": "context.total + event.output.price > 100"}`.

A subset of Python's syntax, by an allow-list of syntax nodes. `a.b` reads the key `b` and gives
null where there is none, so `event.output.user.name` never fails; it never reads an attribute.
Truth is Python's: `0`, `""`, `[]`, `{}` and null are false. Expressions are read once, into
closures; evaluating one costs about a microsecond.
"""

import ast
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from sequential.core.statechart.bounds import MAX_EXPRESSION_DEPTH, MAX_SOURCE, bounded
from sequential.core.statechart.operations import BINARY, COMPARISONS, FUNCTIONS, negative, read
from sequential.core.statechart.problems import quoted

_LONGEST_SHOWN = 200

CONSTANTS = {"true": True, "false": False, "null": None}
SYNTAX = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Compare),
    *(ast.IfExp, ast.Constant, ast.Name, ast.Load, ast.Attribute, ast.Subscript, ast.List),
    *(ast.Dict, ast.Call, *BINARY, *COMPARISONS),
)


class Scope(Protocol):
    """What an expression can see."""

    @property
    def context(self) -> Any: ...  # the data of the machine
    @property
    def event(self) -> Any: ...  # the event that is being taken
    @property
    def input(self) -> Any: ...  # the input of the run


Evaluate = Callable[[Scope], Any]

NAMES: dict[str, Evaluate] = {
    "context": lambda scope: scope.context,
    "event": lambda scope: scope.event,
    "input": lambda scope: scope.input,
}


class ExpressionError(Exception):
    """An expression that cannot be read or evaluated; the message quotes it."""


class Expression:
    """An expression that was read and found harmless."""

    def __init__(self, source: Any) -> None:
        """Raise `ExpressionError` for what is not allowed in an expression."""
        if not isinstance(source, str) or len(source) > MAX_SOURCE:
            raise ExpressionError(f"an expression is a text of at most {MAX_SOURCE} characters")
        self._value = _read(source)
        self.source = source

    def evaluate(self, scope: Scope) -> Any:
        """Its value; raises `ExpressionError` for any mistake, such as adding to null."""
        try:
            return self._value(scope)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ExpressionError(f"{_shown(self.source)}: {reason}") from error


@functools.lru_cache(1024)
def _read(source: str) -> Evaluate:
    return _compiled(parse(source))


def parse(source: str) -> ast.expr:
    """The syntax tree of an expression, all of it allowed; else `ExpressionError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion on style is not for the author
            tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{_shown(source)}: {getattr(error, 'msg', error)}") from None
    for node, depth in _nodes(tree):
        if depth > MAX_EXPRESSION_DEPTH:
            _refuse(source, "is nested too deeply")
        if why := _forbidden(node):
            _refuse(source, why)
    return tree


def _shown(source: str) -> str:
    return ascii(source if len(source) <= _LONGEST_SHOWN else source[:_LONGEST_SHOWN] + "...")


def _refuse(source: str, why: str) -> NoReturn:
    raise ExpressionError(f"{_shown(source)}: {why}")


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    stack = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


def _forbidden(node: ast.AST) -> str | None:
    """Why a node may not stand in an expression; None when it may."""
    match node:
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return None
        case ast.Call():
            return f"only calls to {', '.join(sorted(FUNCTIONS))} are allowed"
        case ast.Name(id=name) if name not in {*NAMES, *CONSTANTS, *FUNCTIONS}:
            return f"unknown name {quoted(name)} (use context, event, input)"
        case ast.Constant(value=value) if not isinstance(value, bool | int | float | str | None):
            return "only numbers, texts, true, false and null are allowed as constants"
        case ast.Constant(value=value):
            try:
                bounded(value)
            except ValueError as error:
                return str(error)
        case ast.Dict(keys=keys) if None in keys:
            return '"**" is not allowed in an expression'
    if isinstance(node, SYNTAX):
        return None
    return f"{type(node).__name__} is not allowed in an expression"


def _compiled(node: ast.expr) -> Evaluate:
    match node:
        case ast.Constant(value=constant):
            return lambda scope: constant
        case ast.Name(id=name) if name in NAMES:
            return NAMES[name]
        case ast.Name(id=name) if name in CONSTANTS:
            named = CONSTANTS[name]
            return lambda scope: named
        case ast.Attribute(value=inner, attr=key):
            value = _compiled(inner)
            return lambda scope: read(value(scope), key)
        case ast.Subscript(value=inner, slice=index):
            value, position = _compiled(inner), _compiled(index)
            return lambda scope: read(value(scope), position(scope))
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            value = _compiled(inner)
            return lambda scope: not value(scope)
        case ast.UnaryOp(operand=inner):
            value = _compiled(inner)
            return lambda scope: negative(value(scope))
        case ast.BinOp(left=left, op=op, right=right):
            first, second, operation = _compiled(left), _compiled(right), BINARY[type(op)]
            return lambda scope: operation(first(scope), second(scope))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, yes, no = _compiled(test), _compiled(body), _compiled(orelse)
            return lambda scope: yes(scope) if condition(scope) else no(scope)
        case ast.BoolOp(op=op, values=operands):
            return _chosen([_compiled(one) for one in operands], isinstance(op, ast.Or))
        case ast.Compare():
            return _compared(node)
        case ast.List(elts=elements):
            values = [_compiled(one) for one in elements]
            return lambda scope: bounded([value(scope) for value in values])
        case ast.Dict(keys=keys, values=parts):
            pairs = [(_compiled(k), _compiled(v)) for k, v in zip(keys, parts, strict=True) if k]
            return lambda scope: bounded({_text(k(scope)): v(scope) for k, v in pairs})
        case ast.Call(func=ast.Name(id=name), args=args):
            function, given = FUNCTIONS[name], [_compiled(one) for one in args]
            return lambda scope: bounded(function(*[one(scope) for one in given]))
    raise ExpressionError(f"{quoted(ast.unparse(node))}: is a function, and has to be called")


def _chosen(operands: list[Evaluate], wanted: bool) -> Evaluate:
    """`and`, `or`: the first operand whose truth decides, else the last."""

    def choose(scope: Scope) -> Any:
        result = None
        for operand in operands:
            result = operand(scope)
            if bool(result) is wanted:
                break
        return result

    return choose


def _compared(node: ast.Compare) -> Evaluate:
    first = _compiled(node.left)
    steps = [
        (COMPARISONS[type(op)], _compiled(one))
        for op, one in zip(node.ops, node.comparators, strict=True)
    ]

    def compare(scope: Scope) -> bool:
        left = first(scope)
        for holds, operand in steps:
            right = operand(scope)
            if not holds(left, right):
                return False
            left = right
        return True

    return compare


def _text(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise TypeError("the keys of an object must be texts")

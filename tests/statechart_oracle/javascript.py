"""`$expr` in JavaScript, for XState: only what can mean the same there, and only for these tests.

The script reads {"$js": source}; its `h` brings Python's truth, reading that never fails, and
division that does.
"""

import ast
import json
from typing import Any

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Mod: "%",  # of numbers that are not negative
    ast.Eq: "===",  # of texts, numbers and null
    ast.NotEq: "!==",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def translated(part: Any) -> Any:
    """The graph with JavaScript for each expression; raises `ValueError` if there is none."""
    if isinstance(part, dict):
        if part.keys() == {"$expr"}:
            return {"$js": javascript(part["$expr"])}
        return {key: translated(one) for key, one in part.items()}
    return [translated(one) for one in part] if isinstance(part, list) else part


def javascript(source: str) -> str:
    return _written(ast.parse(source, mode="eval").body)


def _written(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=value):
            return json.dumps(value)
        case ast.Name(id=name):
            return name  # true, false and null are called so in both
        case ast.Attribute(value=value, attr=key):
            return f"h.read({_written(value)}, {json.dumps(key)})"
        case ast.Subscript(value=value, slice=key):
            return f"h.read({_written(value)}, {_written(key)})"
        case ast.BoolOp(op=op, values=[first, *rest]):
            for each in rest:
                a, b = _written(first), _written(each)
                yes, no = (b, a) if isinstance(op, ast.And) else (a, b)
                first = ast.Name(f"(h.truth({a}) ? {yes} : {no})")
            return _written(first)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return f"!h.truth({_written(operand)})"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-({_written(operand)})"
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return f"h.divide({_written(left)}, {_written(right)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return f"({_written(left)} {_OPERATORS[type(op)]} {_written(right)})"
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return f"({_written(left)} {_OPERATORS[type(op)]} {_written(right)})"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return f"(h.truth({_written(test)}) ? {_written(body)} : {_written(orelse)})"
        case ast.List(elts=elements):
            return f"[{', '.join(map(_written, elements))}]"
        case ast.Dict(keys=keys, values=values):
            pairs = [
                f"{_written(k)}: {_written(v)}" for k, v in zip(keys, values, strict=True) if k
            ]
            return f"{{{', '.join(pairs)}}}"
    raise ValueError(f"{ast.unparse(node)} may not mean the same in JavaScript")

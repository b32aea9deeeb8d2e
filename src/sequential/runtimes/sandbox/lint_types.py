"""Which type an expression has, as far as one look at it tells."""

import ast

# Calls whose result has a known type, by what is called (see `Source.origin`).
RESULTS = {
    **{name: name for name in ("str", "bytes", "int", "float", "complex", "bool", "list")},
    **{name: name for name in ("tuple", "dict", "set", "frozenset", "range")},
    **{f"collections.{name}": name for name in ("Counter", "defaultdict", "deque")},
    **{f"datetime.{name}": name for name in ("datetime", "date", "time", "timedelta")},
    **{f"hashlib.{name}": "Hash" for name in ("md5", "new", "sha1", "sha256", "sha512")},
    **{f"re.{name}": "Match" for name in ("match", "search", "fullmatch")},
    **dict.fromkeys(("enumerate", "filter", "map", "reversed", "zip"), "lazy list"),
    "await fetch": "Response",
    "datetime.date.fromisoformat": "date",
    "datetime.date.today": "date",
    "datetime.datetime.combine": "datetime",
    "datetime.datetime.fromisoformat": "datetime",
    "datetime.datetime.now": "datetime",
    "datetime.datetime.strptime": "datetime",
    "decimal.Decimal": "Decimal",
    "hash": "int",
    "json.dumps": "str",
    "len": "int",
    "pathlib.Path": "Path",
    "random.Random": "Random",
    "re.compile": "Pattern",
    "repr": "str",
    "sorted": "list",
    "time.time": "float",
}
_NODES: dict[type[ast.AST], str] = {
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.GeneratorExp: "lazy list",
    ast.JoinedStr: "str",
    ast.List: "list",
    ast.ListComp: "list",
    ast.Set: "set",
    ast.SetComp: "set",
    ast.Tuple: "tuple",
}
_CONSTANTS = {str, bytes, int, float, complex, bool}


def literal_type(node: ast.AST) -> str:
    """The type of a literal; empty for anything else."""
    if isinstance(node, ast.Constant):
        kind = type(node.value)
        return kind.__name__ if kind in _CONSTANTS else ""
    return _NODES.get(type(node), "")

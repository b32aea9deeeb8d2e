"""What may cross the border of a task, and how it is written down.

JSON types stay as they are. What Python has besides is written as an object with one key that
begins with "$", so any store that can hold JSON can hold it:

    bytes     {"$bytes": "<base64>"}         datetime  {"$datetime": "<ISO>"}
    date      {"$date": "<ISO>"}             time      {"$time": "<ISO>"}
    timedelta {"$timedelta": [days, s, us]}  Decimal   {"$decimal": "1.10"}
    tuple     {"$tuple": [...]}              set       {"$set": [...]}
    frozenset {"$frozenset": [...]}          float     {"$float": "nan|inf|-inf"}
    dict      {"$dict": [[key, value]]}

The last one is used for keys that are not strings and for keys that begin with "$". Integers of
up to 4300 digits are JSON numbers. Everything else is refused by name with the path to it; never
pickle.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from sequential.errors import ValueNotSupportedError

DEEPEST = 200  # three Python frames and three JSON levels each must fit into the recursion limit
_LARGEST = 10**4300  # Python refuses to read longer numbers

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def to_json(value: Any, name: str = "value") -> Any:
    """`value` with everything that JSON lacks written as tagged objects.

    `name` begins the path in the message of `ValueNotSupportedError`, as in
    `result.rows[3].owner is an instance of Person`.
    """
    try:
        return _encode(value, name, 0)
    except RecursionError as error:
        raise ValueNotSupportedError(f"{name} is nested too deeply") from error


def from_json(tree: Any) -> Any:
    """The value that `to_json` wrote; raises `ValueNotSupportedError` for a damaged one."""
    try:
        return _decode(tree)
    except RecursionError as error:
        raise ValueNotSupportedError("a stored value is nested too deeply") from error


def dumps(tree: Any) -> bytes:
    """The bytes of a tree made by `to_json`."""
    return _encoder.encode(tree)


def loads(text: bytes | str) -> Any:
    """The tree of JSON text; raises `ValueError` with the position of the mistake."""
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def arguments_to_json(args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Any:
    """A call's arguments as one JSON value: the keywords alone, or `{"$call": [args, kwargs]}`."""
    keywords = to_json(dict(kwargs), name)
    if not args:
        return keywords
    return {"$call": [[to_json(arg, f"{name}[{i}]") for i, arg in enumerate(args)], keywords]}


def arguments_from_json(tree: Any) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments that `arguments_to_json` wrote."""
    match tree:
        case {"$call": [list(args), keywords]}:
            given, named = from_json(args), from_json(keywords)
        case {"$call": _}:
            given, named = [], None
        case _:
            given, named = [], from_json(tree)
    if not isinstance(named, dict) or not all(isinstance(key, str) for key in named):
        raise ValueNotSupportedError("the stored arguments of a call are damaged")
    return given, named


def _encode(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value, path)
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -_LARGEST < value < _LARGEST else _too_large(path)
    if depth > DEEPEST:
        raise ValueNotSupportedError(f"{path[:80]}... is nested deeper than {DEEPEST} levels")
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is dict:
        return _object(value, path, depth)
    if kind is list:
        return [_encode(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if kind in (tuple, set, frozenset):
        items = [_encode(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        if kind is not tuple:
            items.sort(key=_encoder.encode)  # the order of a set differs from process to process
        return {f"${kind.__name__}": items}
    if write := _WRITE.get(kind):
        return write(value)
    return _encode(_plain_of(value, path), path, depth)


def _object(value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {
            _encode(key, path, depth): _encode(item, f"{path}.{key}", depth + 1)
            for key, item in value.items()
        }
    pairs = [
        [_encode(key, f"a key of {path}", depth + 1), _encode(item, f"{path}[{key!r}]", depth + 1)]
        for key, item in value.items()
    ]
    return {"$dict": pairs}


def _plain_of(value: Any, path: str) -> Any:
    """A subclass of a known type loses its subclass; anything else is refused by name."""
    for known, plain in _PLAIN.items():
        if isinstance(value, known):
            return plain(value)
    name = getattr(value, "type_name", None)
    name = name if isinstance(name, str) else type(value).__name__
    raise ValueNotSupportedError(
        f"{path} is {_article(name)}, which cannot cross the border of a task: "
        "use JSON types, bytes, date, datetime, Decimal, tuple or set"
    )


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueNotSupportedError(
            f"{path} holds half of a surrogate pair at position {error.start}, "
            "which is not valid text: remove or replace it"
        ) from error
    return value


def _too_large(path: str) -> NoReturn:
    raise ValueNotSupportedError(
        f"{path} is a number of more than 4300 digits, which cannot cross the border of a task: "
        "make it text in another base, or bytes"
    )


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _decode(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_decode(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((key, inner),) = tree.items()
        if key.startswith("$") and key in _RESTORE:
            kind, restore = _RESTORE[key]
            try:
                if type(inner) is not kind:
                    raise TypeError(f"it holds {_article(type(inner).__name__)}")
                return restore(inner)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueNotSupportedError(f"a stored {key} value is damaged: {error}") from error
    return {key: _decode(inner) for key, inner in tree.items()}


# What a subclass says of itself, as an Enum does in __str__, does not count.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    str: str.__str__,
    float: float.__float__,
    dict: dict,
    list: list,
    tuple: tuple,
    bytes: bytes.__bytes__,
}

_WRITE: dict[type, Callable[[Any], dict[str, Any]]] = {
    bytes: lambda v: {"$bytes": base64.b64encode(v).decode()},
    datetime: lambda v: {"$datetime": v.isoformat()},
    date: lambda v: {"$date": v.isoformat()},
    time: lambda v: {"$time": v.isoformat()},
    timedelta: lambda v: {"$timedelta": [v.days, v.seconds, v.microseconds]},
    Decimal: lambda v: {"$decimal": str(v)},
}

_RESTORE: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "$bytes": (str, lambda v: base64.b64decode(v, validate=True)),
    "$datetime": (str, datetime.fromisoformat),
    "$date": (str, date.fromisoformat),
    "$time": (str, time.fromisoformat),
    "$timedelta": (list, lambda v: timedelta(*v)),
    "$decimal": (str, Decimal),
    "$float": (str, float),
    "$tuple": (list, lambda v: tuple([_decode(item) for item in v])),
    "$set": (list, lambda v: {_decode(item) for item in v}),
    "$frozenset": (list, lambda v: frozenset([_decode(item) for item in v])),
    "$dict": (list, lambda v: {_decode(key): _decode(item) for key, item in v}),
}

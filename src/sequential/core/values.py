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
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import msgspec

from sequential.errors import ValueNotSupportedError

DEEPEST = 400
_LARGEST = 10**4300  # Python refuses to read longer numbers

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def to_json(value: Any, name: str = "value") -> Any:
    """`value` with everything that JSON lacks written as tagged objects.

    `name` begins the path in the message of `ValueNotSupportedError`, as in
    `result.rows[3].owner is an instance of Person`.
    """
    return _encode(value, name, 0)


def from_json(tree: Any) -> Any:
    """The value that `to_json` wrote."""
    if isinstance(tree, list):
        return [from_json(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((key, inner),) = tree.items()
        if key.startswith("$") and (restore := _RESTORE.get(key)):
            try:
                return restore(inner)
            except (TypeError, ValueError, binascii.Error, InvalidOperation) as error:
                raise ValueNotSupportedError(f"a stored {key} value is damaged: {error}") from error
    return {key: from_json(inner) for key, inner in tree.items()}


def dumps(tree: Any) -> bytes:
    """The bytes of a tree made by `to_json`."""
    return _encoder.encode(tree)


def loads(text: bytes | str) -> Any:
    """The tree of JSON text; raises `ValueError` with the position of the mistake."""
    return _decoder.decode(text)


def arguments_to_json(args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Any:
    """A call's arguments as one JSON value: the keywords alone, or `{"$call": [args, kwargs]}`."""
    keywords = _encode(dict(kwargs), name, 0)
    if not args:
        return keywords
    return {"$call": [[_encode(a, f"{name}[{i}]", 1) for i, a in enumerate(args)], keywords]}


def arguments_from_json(tree: Any) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments that `arguments_to_json` wrote."""
    if isinstance(tree, dict) and len(tree) == 1 and "$call" in tree:
        args, keywords = tree["$call"]
        return from_json(args), from_json(keywords)
    return [], from_json(tree)


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
    plain: type[Any]
    for plain in (int, str, float, dict, list, tuple, bytes):
        if isinstance(value, plain):
            return plain(value)
    name = getattr(value, "type_name", None) or type(value).__name__
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


_WRITE: dict[type, Callable[[Any], dict[str, Any]]] = {
    bytes: lambda v: {"$bytes": base64.b64encode(v).decode()},
    datetime: lambda v: {"$datetime": v.isoformat()},
    date: lambda v: {"$date": v.isoformat()},
    time: lambda v: {"$time": v.isoformat()},
    timedelta: lambda v: {"$timedelta": [v.days, v.seconds, v.microseconds]},
    Decimal: lambda v: {"$decimal": str(v)},
}

_RESTORE: dict[str, Callable[[Any], Any]] = {
    "$bytes": lambda v: base64.b64decode(v, validate=True),
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda v: timedelta(*v),
    "$decimal": Decimal,
    "$float": float,
    "$tuple": lambda v: tuple(from_json(v)),
    "$set": lambda v: {from_json(item) for item in v},
    "$frozenset": lambda v: frozenset(from_json(item) for item in v),
    "$dict": lambda v: {from_json(key): from_json(item) for key, item in v},
}

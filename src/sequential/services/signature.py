"""What a Python function takes and gives: its arguments checked, and as JSON Schema."""

import contextlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from sequential.services.base import CallContext, CallError, Secret
from sequential.services.describe import ANYTHING

# Text is no base64 unless somebody says so: these come as what they are.
_AS_THEY_ARE = (bytes, bytearray, memoryview)
# What the border of a task lets through besides JSON's own types.
_TYPES_OF_TASKS = (*_AS_THEY_ARE, datetime, date, time, timedelta, Decimal)
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ROOT = re.compile(r" - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`\Z")


class TypedSignature:
    """The parameters of a function: those that a task gives, and those that the engine fills in.

    An annotation that is no type of JSON's kind, such as a class of one's own without fields, is
    for people only: every value fits it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._full = inspect.signature(function)
        hints = {p.name: _hint(function, p.annotation) for p in self._full.parameters.values()}
        self._provided = {
            name: what for name, hint in hints.items() if (what := _provided(hint)) is not None
        }
        public = [p for p in self._full.parameters.values() if p.name not in self._provided]
        self._public = self._full.replace(parameters=public)
        given = {p.name: hints[p.name] for p in public if p.annotation is not p.empty}
        self._types = {name: hint for name, hint in given.items() if _schema(hint) != ANYTHING}
        result = self._full.return_annotation
        self._result = Any if result is self._full.empty else _hint(function, result)
        self._has_records = "$defs" in _schema(self._result)

    def __str__(self) -> str:
        return str(self._public.replace(return_annotation=inspect.Signature.empty))

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that are filled in."""
        return tuple(what.name for what in self._provided.values() if isinstance(what, Secret))

    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments, as an object with a property for each of them."""
        kinds = {p.name: p.kind for p in self._public.parameters.values()}
        single = [p for p in self._public.parameters.values() if p.kind not in _MANY]
        schemas, definitions = _schemas({p.name: self._types.get(p.name, Any) for p in single})
        for parameter in single:
            if parameter.default is not parameter.empty:
                with contextlib.suppress(TypeError, ValueError):
                    default = msgspec.to_builtins(parameter.default)
                    schemas[parameter.name] = {**schemas[parameter.name], "default": default}
        schema: dict[str, Any] = {"type": "object", "properties": schemas}
        if required := [p.name for p in single if p.default is p.empty]:
            schema["required"] = required
        if inspect.Parameter.VAR_KEYWORD not in kinds.values():
            schema["additionalProperties"] = False
        return {**schema, "$defs": definitions} if definitions else schema

    def result(self) -> dict[str, Any]:
        """The JSON Schema of the value; of an annotation that has none, what every value fits."""
        return _schema(self._result)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments of a task, as the annotations say.

        `TypeError` for those that do not fit: too many, too few, unknown, of another type.
        """
        bound = self._public.bind(*args, **kwargs)
        for name, hint in self._types.items():
            if name in bound.arguments:
                bound.arguments[name] = self._converted(name, hint, bound.arguments[name])
        bound.apply_defaults()
        return bound

    async def completed(
        self, bound: inspect.BoundArguments, context: CallContext
    ) -> inspect.BoundArguments:
        """All arguments: those of a task, and what the engine fills in."""
        if not self._provided:
            return bound
        provided = {
            name: await context.secrets.get(what.name) if isinstance(what, Secret) else context
            for name, what in self._provided.items()
        }
        arguments = {**bound.arguments, **provided}
        ordered = {name: arguments[name] for name in self._full.parameters}
        return inspect.BoundArguments(self._full, ordered)

    def value_of(self, returned: Any) -> Any:
        """What a task is given: records, which the annotation names, become objects."""
        if not self._has_records:
            return returned
        return msgspec.to_builtins(returned, builtin_types=_TYPES_OF_TASKS)

    def _converted(self, name: str, hint: Any, value: Any) -> Any:
        match self._public.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                return tuple(_fitting(f"{name}[{n}]", hint, one) for n, one in enumerate(value))
            case inspect.Parameter.VAR_KEYWORD:
                return {key: _fitting(key, hint, one) for key, one in value.items()}
        return _fitting(name, hint, value)


def invalid_call(method: str, signature: object, error: TypeError) -> CallError:
    """The error of a call whose arguments do not fit."""
    return CallError("TypeError", f"{method}{signature}: {error}", code="invalid_call")


def _fitting(name: str, hint: Any, value: Any) -> Any:
    """The value as its annotation says: 1 for a float is 1.0, an object becomes a record."""
    try:
        return msgspec.convert(value, hint, builtin_types=_AS_THEY_ARE)
    except msgspec.ValidationError as error:
        text, place = str(error), ""
        if found := _ROOT.search(text):
            text, place = text[: found.start()], found["path"] + (": a key" if found["key"] else "")
        raise TypeError(f"{name}{place}: {text[:1].lower()}{text[1:]}") from None
    except RecursionError:
        raise TypeError(f"{name}: nested too deeply") from None


def _provided(hint: Any) -> Secret | type[CallContext] | None:
    """What the engine fills into a parameter; None: that is up to the task."""
    if hint is CallContext or str(hint).rpartition(".")[2] == "CallContext":
        return CallContext
    marks = getattr(hint, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Secret)), None)


def _hint(function: Callable[..., Any], annotation: Any) -> Any:
    """What an annotation means; one that only type checkers can see is left as it is."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:
        return annotation


def _schema(hint: Any) -> dict[str, Any]:
    try:
        return msgspec.json.schema(hint)
    except Exception:  # no type of JSON's kind, or a text that nobody could resolve
        return ANYTHING


def _schemas(hints: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the definitions of records they refer to."""
    known = [hint if _schema(hint) != ANYTHING else Any for hint in hints.values()]
    schemas, definitions = msgspec.json.schema_components(known, ref_template="#/$defs/{name}")
    return dict(zip(hints, schemas, strict=True)), definitions

"""Forms: what a person is asked, as the part of JSON Schema that makes a form.

An object with fields, each a text, a number, a yes or no, a date, or one of several values. Nothing
in it needs more work to check than the answer has characters, since tasks of anybody write it; so
there are no patterns, no references, and no fields within fields.
"""

import difflib
import math
from collections.abc import Iterator
from typing import Any

from sequential.core.values import dumps
from sequential.errors import InvalidInputError

MOST_FIELDS = 50
MOST_CHOICES = 500
LARGEST = 32 * 1024  # bytes of JSON
RESERVED = ("approved", "by")  # what the buttons and the link say

_OF_FORM = {"$schema", "title", "description", "type", "properties", "required"}
_OF_FORM |= {"additionalProperties"}
_OF_FIELD = {"title", "description", "default", "examples"}
_OF_TYPE = {
    "string": {"enum", "format", "minLength", "maxLength"},
    "number": {"enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "boolean": set[str](),
}
_OF_TYPE["integer"] = _OF_TYPE["number"]
_FORMATS = ("date", "email", "textarea")
_TEXTS = ("title", "description")
_LENGTHS = ("minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def check_form(schema: Any) -> dict[str, Any]:
    """Return `schema` if it makes a form, else raise `InvalidInputError` with all problems."""
    if problems := list(_problems(schema)):
        raise InvalidInputError(f"the schema makes no form: {'; '.join(problems[:20])}")
    checked: dict[str, Any] = schema
    return checked


def _problems(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield 'write {"type": "object", "properties": {"<field>": {"type": "string"}}}'
        return
    try:
        size = len(dumps(schema))
    except (TypeError, ValueError, RecursionError):
        yield "it has to be JSON"
        return
    if size > LARGEST:
        yield f"it has {size} bytes, {LARGEST} are possible"
        return
    yield from _unknown("it", schema, _OF_FORM)
    yield from _texts("its", schema)
    if schema.get("type", "object") != "object":
        yield f'its type is "object", this is {_shown(schema["type"])}'
    fields = schema.get("properties", {})
    if not isinstance(fields, dict) or len(fields) > MOST_FIELDS:
        yield f"its properties are an object of at most {MOST_FIELDS} fields"
        return
    required = schema.get("required", [])
    known = (*fields, "approved")
    if not isinstance(required, list) or any(name not in known for name in required):
        yield "required is a list of names of its fields"
    if not isinstance(schema.get("additionalProperties", False), bool):
        yield "additionalProperties is true or false"
    for name, field in fields.items():
        yield from _of_field(name, field)


def _of_field(name: Any, field: Any) -> Iterator[str]:
    if not (isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()):
        yield f"{_shown(name)} cannot be the name of a field: use 1 to 100 printable characters"
        return
    if not isinstance(field, dict):
        yield f"the field {_shown(name)} is an object that says what it is"
        return
    if name == "approved" and field.get("type") == "boolean":
        return
    if name in RESERVED:
        yield f"the field {_shown(name)} is the answer's own: choose another name"
        return
    kind = field.get("type", "string" if "enum" in field else None)
    if kind not in _OF_TYPE:
        yield f"the field {_shown(name)} has the type {_shown(kind)}: use {', '.join(_OF_TYPE)}"
        return
    where = f"the field {_shown(name)}"
    yield from _unknown(where, field, {"type", *_OF_FIELD, *_OF_TYPE[kind]})
    yield from _texts(f"{where}:", field)
    yield from _bounds(where, field)
    yield from _choices(where, field)


def _bounds(where: str, field: dict[str, Any]) -> Iterator[str]:
    for key in _LENGTHS:
        if key in field and not (type(field[key]) is int and field[key] >= 0):
            yield f"{where}: {key} is a whole number, not below 0"
    for key in _BOUNDS:
        if key in field and not _is_number(field[key]):
            yield f"{where}: {key} is a number"
    if _is_number(step := field.get("multipleOf", 1)) and step <= 0:
        yield f"{where}: multipleOf is more than 0"
    if "format" in field and field["format"] not in _FORMATS:
        yield f"{where}: format is one of {', '.join(_FORMATS)}"


def _choices(where: str, field: dict[str, Any]) -> Iterator[str]:
    if "enum" not in field:
        return
    choices = field["enum"]
    is_fine = isinstance(choices, list) and 0 < len(choices) <= MOST_CHOICES
    if not is_fine or not all(isinstance(one, str) or _is_number(one) for one in choices):
        yield f"{where}: enum is a list of 1 to {MOST_CHOICES} texts or numbers"


def _texts(where: str, schema: dict[str, Any]) -> Iterator[str]:
    for key in _TEXTS:
        if not isinstance(schema.get(key, ""), str):
            yield f"{where} {key} is a text"


def _unknown(where: str, schema: dict[str, Any], known: set[str]) -> Iterator[str]:
    for key in schema:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(sorted(known))}"
            yield f"{where} has {_shown(key)}, which a form cannot have: {hint}"


def _is_number(value: Any) -> bool:
    is_finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return is_finite and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return ascii(text if len(text) <= 60 else text[:57] + "...")[1:-1]

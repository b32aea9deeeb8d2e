"""Forms in HTML from the part of JSON Schema that makes one (`core.form`), and what comes back.

A form's answers are texts; they become what the schema says, and are held to it by `jsonschema`.
What is wrong is told at the field, and what was written there stays.
"""

import html
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

PREFIX = "field."  # of the names that the form's fields have in HTML
_LONG = 200  # characters; a text that may be longer gets several lines
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?\Z")
_INPUTS = {"date": "date", "email": "email"}  # formats that browsers have an input for
_TOLD = {
    "minimum": "at least {0}",
    "maximum": "at most {0}",
    "exclusiveMinimum": "more than {0}",
    "exclusiveMaximum": "less than {0}",
    "multipleOf": "a multiple of {0}",
    "minLength": "at least {0} characters long",
    "maxLength": "at most {0} characters long",
    "enum": "one of those listed",
}
_FORMATS = {"date": "a date, such as 2026-12-31", "email": "an e-mail address"}
_TYPES = {
    "integer": "a whole number",
    "number": "a number, such as 12.5",
    "boolean": "yes or no",
    "string": "a text",
}


class Field(msgspec.Struct, frozen=True):
    """One thing that is asked: what it is called, and what it has to be."""

    name: str
    schema: Mapping[str, Any]
    is_required: bool

    @property
    def label(self) -> str:
        return self.schema.get("title") or self.name.replace("_", " ").capitalize()

    @property
    def type(self) -> str:
        return str(self.schema.get("type", "string"))

    @property
    def input_name(self) -> str:
        return PREFIX + self.name


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """The fields of a form, in the order of the schema."""
    required = schema.get("required", ())
    return [
        Field(name, field, name in required)
        for name, field in schema.get("properties", {}).items()
        if name != "approved"  # that is what the buttons are for
    ]


def read_form(
    schema: Mapping[str, Any], sent: Mapping[str, str], *, is_complete: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the fields of a form say, and by their names what is wrong with them."""
    data: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for field in fields_of(schema):
        text = sent.get(field.input_name, "")
        if field.type == "boolean":
            data[field.name] = field.input_name in sent
        elif text.strip():
            try:
                data[field.name] = _value(field, text)
            except ValueError:
                errors[field.name] = _has_to_be(_TYPES[field.type])
    told = problems(schema, data, is_complete=is_complete)
    return data, {**told, **errors}


def problems(
    schema: Mapping[str, Any], data: Mapping[str, Any], *, is_complete: bool
) -> dict[str, str]:
    """What is wrong with an answer, by field; of one that is not complete fields may be missing."""
    from jsonschema import (  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy
        Draft202012Validator,
        FormatChecker,
    )

    fields = fields_of(schema)
    strict = {
        "type": "object",
        "properties": {field.name: field.schema for field in fields},
        "required": [field.name for field in fields if field.is_required and is_complete],
        "additionalProperties": schema.get("additionalProperties", False),
    }
    validator = Draft202012Validator(strict, format_checker=FormatChecker(("date", "email")))
    errors: dict[str, str] = {}
    for error in validator.iter_errors(dict(data)):
        for name, message in _told(error, data, fields):
            errors.setdefault(name, message)
    return errors


def _told(error: Any, data: Mapping[str, Any], fields: list[Field]) -> Iterator[tuple[str, str]]:
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in data]
            yield from ((name, "Please fill this in.") for name in missing)
        case "additionalProperties":
            known = {field.name for field in fields}
            yield from ((name, "There is no such field.") for name in data if name not in known)
        case "type":
            yield str(error.path[0]), _has_to_be(_TYPES.get(error.validator_value, "different"))
        case "format":
            yield str(error.path[0]), _has_to_be(_FORMATS.get(error.validator_value, "different"))
        case kind:
            what = _TOLD.get(kind, "different").format(error.validator_value)
            yield str(error.path[0]), _has_to_be(what)


def _has_to_be(what: str) -> str:
    return f"This has to be {what}."


def _value(field: Field, text: str) -> Any:
    """What a text stands for; raises `ValueError` if it is not what the field is."""
    for choice in field.schema.get("enum", ()):
        if str(choice) == text:
            return choice
    written = text.strip()
    if field.type == "integer":
        return _matched(_WHOLE, written, int)
    if field.type == "number":
        whole = _WHOLE.match(written)
        return int(written) if whole else _matched(_NUMBER, written, float)
    return written if field.schema.get("format") in _INPUTS else text


def _matched(pattern: re.Pattern[str], text: str, kind: type[int | float]) -> int | float:
    if not pattern.match(text) or not math.isfinite(value := kind(text)):
        raise ValueError(text)
    return value


# --- HTML ----------------------------------------------------------------------------------------


def form_html(
    schema: Mapping[str, Any], sent: Mapping[str, str] | None, errors: Mapping[str, str]
) -> str:
    """The fields as HTML; `sent` is what was written into them before, None at first."""
    return "".join(_field_html(field, sent, errors.get(field.name)) for field in fields_of(schema))


def _field_html(field: Field, sent: Mapping[str, str] | None, error: str | None) -> str:
    number = html.escape(field.input_name)
    hints = []
    if text := field.schema.get("description"):
        hints.append(f'<small id="{number}.hint">{html.escape(text)}</small>')
    if error:
        hints.append(f'<strong class="error" id="{number}.error">{html.escape(error)}</strong>')
    label = html.escape(field.label) + ("" if field.is_required else " <i>optional</i>")
    control = _control(field, _shown(field, sent), _common(field, error))
    if field.type == "boolean":
        label = html.escape(field.label)
        return f'<p class="check"><label>{control}<span>{label}</span></label>{"".join(hints)}</p>'
    return f'<p><label for="{number}">{label}</label>{control}{"".join(hints)}</p>'


def _common(field: Field, error: str | None) -> str:
    """The attributes that every kind of control has."""
    name = html.escape(field.input_name)
    described = f"{name}.error" if error else f"{name}.hint" * bool(field.schema.get("description"))
    return (
        f'id="{name}" name="{name}"'
        + (' aria-invalid="true"' if error else "")
        + (f' aria-describedby="{described}"' if described else "")
        + (" required" if field.is_required and field.type != "boolean" else "")
    )


def _shown(field: Field, sent: Mapping[str, str] | None) -> str | None:
    """What stands in a control: what was sent, else the default; None for nothing."""
    if sent is not None:
        return sent.get(field.input_name)
    default = field.schema.get("default")
    if field.type == "boolean":
        return "yes" if default is True else None
    return None if default is None or isinstance(default, dict | list) else str(default)


def _control(field: Field, value: str | None, common: str) -> str:
    schema = field.schema
    text = html.escape(value or "")
    if "enum" in schema:
        return f"<select {common}>{''.join(_options(field, value))}</select>"
    if field.type == "boolean":
        return f'<input type="checkbox" {common} value="yes"{" checked" if value else ""}>'
    if field.type in ("integer", "number"):
        step = "1" if field.type == "integer" else "any"
        mode = "numeric" if field.type == "integer" else "decimal"
        limits = _limits(schema, {"minimum": "min", "maximum": "max"})
        extra = f'inputmode="{mode}" step="{step}"{limits}'
        return f'<input type="number" {common} {extra} value="{text}">'
    limits = _limits(schema, {"minLength": "minlength", "maxLength": "maxlength"})
    if schema.get("format") == "textarea" or schema.get("maxLength", 0) > _LONG:
        return f'<textarea {common} rows="5"{limits}>\n{text}</textarea>'
    kind = _INPUTS.get(schema.get("format", ""), "text")
    return f'<input type="{kind}" {common}{limits} value="{text}">'


def _options(field: Field, value: str | None) -> Iterator[str]:
    choices = [str(choice) for choice in field.schema["enum"]]
    if value not in choices or not field.is_required:
        yield '<option value="">Please choose</option>'
    for choice in choices:
        chosen = " selected" if choice == value else ""
        yield f'<option value="{html.escape(choice)}"{chosen}>{html.escape(choice)}</option>'


def _limits(schema: Mapping[str, Any], names: Mapping[str, str]) -> str:
    found = {names[key]: schema[key] for key in names if key in schema}
    return "".join(f' {name}="{html.escape(str(value))}"' for name, value in found.items())

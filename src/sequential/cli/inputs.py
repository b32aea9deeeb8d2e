"""Reading `--input` and `--data`: JSON on the command line, from a file, or from stdin."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sequential.cli.output import clean
from sequential.core.model import InputField
from sequential.errors import InvalidInputError

EXAMPLES: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "object": {},
    "array": [],
}


def example_of(fields: Iterable[InputField]) -> dict[str, Any]:
    """A value for each field of an input, for commands that can be copied."""
    return {field.name: EXAMPLES.get(field.type, "...") for field in fields}


def read_input(given: str | None) -> Any:
    """The value of `--input`; raises `InvalidInputError` that says where it is wrong."""
    return {} if given is None else read_json(given, "--input")


def read_json(given: str, option: str) -> Any:
    """The value of an option: JSON, or with `@` or `-` where to read it."""
    text, where = _text(given, option)
    try:
        return json.loads(text, parse_constant=_no_json)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        hint = """, quote it like '{"userId": "123"}'""" if given is text else ""
        raise InvalidInputError(
            f"{where} is not JSON: {error.msg} ({place}): {_around(text, error.pos)}{hint}"
        ) from error
    except RecursionError as error:
        raise InvalidInputError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise InvalidInputError(f"{where} is not JSON: {error}") from error


def _text(given: str, option: str) -> tuple[str, str]:
    if given != "-" and not given.startswith("@"):
        return given, option
    where = f"{option} from stdin" if given == "-" else f"{option} {clean(given)}"
    try:
        data = sys.stdin.buffer.read() if given == "-" else Path(given[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInputError(f"{where} cannot be read: {reason}") from error
    try:
        return data.decode("utf-8-sig"), where
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where} is not UTF-8 text (byte {error.start})") from error


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _around(text: str, position: int) -> str:
    """The place of a mistake, with what stands around it."""
    start = max(position - 20, 0)
    end = position + 20
    before, after = text[start:position], text[position:end]
    shown = f"{'…' if start else ''}{before}⟨here⟩{after}{'…' if end < len(text) else ''}"
    return clean(shown)

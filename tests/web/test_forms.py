"""Forms: what is read from them is what the schema says, or is told at its field."""

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.web.forms import form_html, problems, read_form


def read(field: dict[str, Any], text: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    sent = {} if text is None else {"field.it": text}
    schema = {"properties": {"it": field}, "required": ["it"]}
    return read_form(schema, sent, is_complete=True)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ({"type": "string"}, " as it is\n", " as it is\n"),
        ({"type": "string", "format": "date"}, " 2026-12-31 ", "2026-12-31"),
        ({"type": "integer"}, " -12 ", -12),
        ({"type": "number"}, "12", 12),
        ({"type": "number"}, "1.5e3", 1500.0),
        ({"type": "number"}, ".5", 0.5),
        ({"type": "number", "enum": [1, 2.5]}, "2.5", 2.5),
        ({"enum": ["a", "b"]}, "b", "b"),
        ({"type": "boolean"}, "yes", True),
        ({"type": "boolean"}, None, False),
    ],
)
def test_texts_become_what_the_schema_says(
    field: dict[str, Any], text: str | None, value: Any
) -> None:
    assert read(field, text) == ({"it": value}, {})


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ({"type": "string"}, None, "Please fill this in."),
        ({"type": "string"}, "  ", "Please fill this in."),
        ({"type": "string", "minLength": 3}, "ab", "This has to be at least 3 characters long."),
        ({"type": "string", "maxLength": 1}, "ab", "This has to be at most 1 characters long."),
        ({"type": "string", "format": "date"}, "31.12.", "This has to be a date, such as"),
        ({"type": "string", "format": "email"}, "Ada", "This has to be an e-mail address."),
        ({"type": "integer"}, "1.5", "This has to be a whole number."),
        ({"type": "integer"}, "9" * 31, "This has to be a whole number."),
        ({"type": "number"}, "1,5", "This has to be a number, such as 12.5."),
        ({"type": "number"}, "nan", "This has to be a number"),
        ({"type": "number"}, "1e999", "This has to be a number"),
        ({"type": "number", "exclusiveMinimum": 1}, "1", "This has to be more than 1."),
        ({"type": "integer", "multipleOf": 5}, "7", "This has to be a multiple of 5."),
        ({"enum": ["a"]}, "b", "This has to be one of those listed."),
    ],
)
def test_what_is_wrong_is_told(field: dict[str, Any], text: str | None, told: str) -> None:
    _, errors = read(field, text)
    assert errors["it"].startswith(told)


def test_fields_that_are_not_in_the_schema_are_no_answers() -> None:
    schema = {"properties": {"it": {"type": "string"}}}
    sent = {"field.it": "1", "field.more": "2", "it": "3"}
    assert read_form(schema, sent, is_complete=True) == ({"it": "1"}, {})
    assert problems(schema, {"more": 1}, is_complete=True) == {"more": "There is no such field."}
    loose = {**schema, "additionalProperties": True}
    assert problems(loose, {"more": 1}, is_complete=True) == {}


class Reading(HTMLParser):
    """What a browser would send if nobody changed a thing, and the elements there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sent: dict[str, str] = {}
        self.tags: set[str] = set()
        self._area = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "input" and found.get("type") != "checkbox":
            self.sent[found["name"] or ""] = found["value"] or ""
        if tag == "textarea":
            self._area = found["name"] or ""
            self.sent[self._area] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.sent[self._area] = self.sent[self._area].removeprefix("\n")
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.sent[self._area] += data


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)


@given(texts, texts, st.lists(texts, min_size=1, max_size=3, unique=True))
def test_no_text_gets_out_of_its_place(name: str, text: str, choices: list[str]) -> None:
    schema = {
        "properties": {
            "line": {"type": "string", "title": name, "description": text},
            "area": {"type": "string", "format": "textarea"},
            "one": {"enum": choices, "title": text},
            "yes": {"type": "boolean", "title": text},
        }
    }
    sent = {"field.line": text, "field.area": text, "field.one": name}
    page = Reading(form_html(schema, sent, {"line": text}))
    assert page.sent == {"field.line": text, "field.area": text}
    known = {"p", "label", "i", "input", "textarea", "select", "option", "small", "strong", "span"}
    assert page.tags <= known

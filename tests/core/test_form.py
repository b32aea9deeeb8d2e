"""Forms: which schemas make one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core.form import check_form
from sequential.errors import InvalidInputError


def field(**schema: Any) -> dict[str, Any]:
    return {"properties": {"it": schema}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "title": "Well?", "required": [], "additionalProperties": True},
        field(type="string", minLength=1, maxLength=5, format="email", default="x"),
        field(type="integer", minimum=0, exclusiveMaximum=9, multipleOf=3),
        field(type="boolean", default=True),
        field(enum=["a", "b"]),
        field(type="number", enum=[1, 2.5]),
        {"properties": {"approved": {"type": "boolean"}}, "required": ["approved"]},
    ],
)
def test_these_make_a_form(schema: dict[str, Any]) -> None:
    assert check_form(schema) is schema


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ([], "write {"),
        ({"type": "array"}, "its type is"),
        ({"properties": []}, "at most 50 fields"),
        ({"properties": {str(n): {"type": "string"} for n in range(51)}}, "at most 50 fields"),
        ({"requierd": []}, "did you mean required?"),
        ({"required": ["nobody"]}, "required is a list"),
        ({"title": 1}, "title is a text"),
        (field(type="string", pattern="(a+)+$"), "'pattern', which a form cannot have"),
        (field(type="object"), "has the type 'object'"),
        ({"properties": {"it": {"$ref": "#"}}}, "has the type None"),
        ({"properties": {"it": "text"}}, "is an object that says what it is"),
        ({"properties": {"by": {"type": "string"}}}, "is the answer's own"),
        ({"properties": {"a\nb": {"type": "string"}}}, "cannot be the name of a field"),
        (field(type="string", maxLength=-1), "maxLength is a whole number"),
        (field(type="number", minimum="1"), "minimum is a number"),
        (field(type="number", multipleOf=0), "multipleOf is more than 0"),
        (field(type="string", format="uri"), "format is one of"),
        (field(enum=[]), "enum is a list"),
        (field(enum=[{}]), "enum is a list"),
        ({"description": "x" * 40_000}, "32768 are possible"),
    ],
)
def test_these_do_not(schema: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match="the schema makes no form") as refused:
        check_form(schema)
    assert told in str(refused.value)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "enum", "required", "title", "minimum", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(trees)
def test_whatever_it_is_it_is_taken_or_refused_in_one_line(tree: Any) -> None:
    refused = ""
    try:
        check_form(tree)
    except InvalidInputError as error:
        refused = str(error)
    assert "\n" not in refused

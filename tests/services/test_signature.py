from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from sequential.services.base import CallContext, Secret
from sequential.services.signature import TypedSignature

if TYPE_CHECKING:
    from fractions import Fraction  # not there when the annotation is looked at

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")
MOMENT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class Address(msgspec.Struct):
    city: str
    zip: str = ""


@dataclass
class Customer:
    name: str
    addresses: list[Address]
    born: date | None = None


class Tree(msgspec.Struct):
    below: "Tree | None" = None


class Options(TypedDict, total=False):
    limit: int


def takes(annotation: Any, value: Any) -> Any:
    """What a function gets whose parameter is annotated like this."""

    def function(it: Any) -> None:
        raise AssertionError("not to be called")

    function.__annotations__["it"] = annotation
    return TypedSignature(function).bind([value], {}).arguments["it"]


@pytest.mark.parametrize(
    ("annotation", "value", "got"),
    [
        (int, 5, 5),
        (int, 10**30, 10**30),
        (float, 5, 5.0),
        (str | None, None, None),
        (list[int], (1, 2), [1, 2]),
        (tuple[str, int], ["a", 1], ("a", 1)),
        (set[str], ["a", "a"], {"a"}),
        (bytes, b"abcd", b"abcd"),
        (datetime, MOMENT, MOMENT),
        (datetime, "2026-01-02T03:04:00Z", MOMENT),
        (date, date(2026, 1, 2), date(2026, 1, 2)),
        (Decimal, "1.10", Decimal("1.10")),
        (Literal["a", "b"], "a", "a"),
        (Address, {"city": "Bonn"}, Address("Bonn")),
        (
            Customer,
            {"name": "Ada", "addresses": [{"city": "Bonn"}]},
            Customer("Ada", [Address("Bonn")]),
        ),
        (Options, {"limit": 3}, {"limit": 3}),
        (Any, {"a": [1]}, {"a": [1]}),
        (object, 5, 5),
        (Iterable[str], 5, 5),  # of no kind that JSON has: for people only
        (ValueError, "no error", "no error"),
    ],
)
def test_what_fits(annotation: Any, value: Any, got: Any) -> None:
    assert takes(annotation, value) == got
    assert type(takes(annotation, value)) is type(got)


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (str, 5, "it: expected `str`, got `int`"),
        (int, True, "it: expected `int`, got `bool`"),
        (int, "5", "it: expected `int`, got `str`"),
        (int | None, "x", "it: expected `int | null`, got `str`"),
        (bytes, "abcd", "it: expected `bytes`, got `str`"),  # text is not taken for base64
        (list[int], [1, 2, "3"], "it[2]: expected `int`, got `str`"),
        (dict[str, int], {1: 2}, "it: a key: expected `str`, got `int`"),
        (Address, {}, "it: object missing required field `city`"),
        (Customer, {"name": "A", "addresses": [{"city": 5}]}, "it.addresses[0].city: expected"),
        (Literal["a", "b"], "c", "it: invalid enum value 'c'"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "it: expected `int` >= 1"),
    ],
)
def test_what_does_not_fit(annotation: Any, value: Any, says: str) -> None:
    with pytest.raises(TypeError) as error:
        takes(annotation, value)
    assert str(error.value).startswith(says)


def test_values_that_are_nested_very_deeply() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"below": deep}

    assert takes(dict[str, Any], deep).keys() == {"below"}
    with pytest.raises(TypeError, match="it: nested too deeply"):
        takes(Tree, deep)


def test_many_arguments_and_options() -> None:
    def function(first: int, *more: int, **options: str) -> None: ...

    signature = TypedSignature(function)
    assert signature.bind([1, 2, 3], {"a": "b"}).args == (1, 2, 3)
    with pytest.raises(TypeError, match=r"more\[1\]: expected `int`, got `str`"):
        signature.bind([1, 2, "3"], {})
    with pytest.raises(TypeError, match="a: expected `str`, got `int`"):
        signature.bind([1], {"a": 1})


def test_defaults_are_not_held_to_the_annotation() -> None:
    def function(name: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert TypedSignature(function).bind([], {}).args == (None,)


async def test_what_the_engine_fills_in() -> None:
    class Given:
        async def get(self, name: str) -> str:
            return f"<{name}>"

        def redacted(self, text: str) -> str:
            return text

    def function(
        context: CallContext, id: str, token: Annotated[str, Secret("crm/token")], limit: int = 3
    ) -> None: ...

    signature = TypedSignature(function)
    context = msgspec.structs.replace(CONTEXT, secrets=Given())
    bound = await signature.completed(signature.bind(["1"], {}), context)
    assert bound.args == (context, "1", "<crm/token>", 3)
    assert str(signature) == "(id: str, limit: int = 3)"
    assert signature.secrets == ("crm/token",)
    assert list(signature.parameters()["properties"]) == ["id", "limit"]


def test_parameters_as_json_schema() -> None:
    def function(  # type: ignore[no-untyped-def]
        customer: Customer,
        other: "Fraction",
        anything,
        home: Address | None = None,
        limit: Annotated[int, msgspec.Meta(ge=1, description="at most")] = 10,
    ) -> None: ...

    schema = TypedSignature(function).parameters()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["customer", "other", "anything"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["customer"] == {"$ref": "#/$defs/Customer"}
    assert (properties["other"], properties["anything"]) == ({}, {})
    assert properties["home"]["default"] is None
    assert properties["limit"] == {
        "type": "integer",
        "minimum": 1,
        "description": "at most",
        "default": 10,
    }
    good = {"customer": {"name": "Ada", "addresses": []}, "other": 1, "anything": None}
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError, match="'name' is a required property"):
        jsonschema.validate({**good, "customer": {}}, schema)


def test_a_schema_of_options_is_open() -> None:
    def function(*args: int, **options: str) -> None: ...

    assert TypedSignature(function).parameters() == {"type": "object", "properties": {}}


def test_results() -> None:
    def untyped(): ...  # type: ignore[no-untyped-def]
    def typed() -> dict[str, list[int]]: ...  # type: ignore[empty-body]
    def records() -> list[Customer]: ...  # type: ignore[empty-body]
    def own() -> ValueError: ...  # type: ignore[empty-body]

    assert TypedSignature(untyped).result() == {}
    assert TypedSignature(own).result() == {}
    items = {"type": "array", "items": {"type": "integer"}}
    assert TypedSignature(typed).result() == {"type": "object", "additionalProperties": items}
    assert "Customer" in TypedSignature(records).result()["$defs"]


def test_records_become_objects_with_the_values_that_tasks_know() -> None:
    def records() -> list[Customer]: ...  # type: ignore[empty-body]
    def plain() -> dict[str, Any]: ...  # type: ignore[empty-body]

    ada = Customer("Ada", [Address("Bonn")], date(1815, 12, 10))
    assert TypedSignature(records).value_of([ada]) == [
        {
            "name": "Ada",
            "addresses": [{"city": "Bonn", "zip": ""}],
            "born": date(1815, 12, 10),
        }
    ]
    value = {"a": {1, 2}}
    assert TypedSignature(plain).value_of(value) is value

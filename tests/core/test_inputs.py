"""A task's input is checked before anything starts, and completed from defaults."""

from decimal import Decimal
from typing import Any

import pytest

from sequential.core.inputs import TYPES, check_input
from sequential.core.model import InputField, TaskConfig
from sequential.errors import InvalidInputError

HUGE = 10**400


def check(fields: list[InputField], given: Any, **defaults: Any) -> dict[str, Any]:
    return check_input(TaskConfig("my-task", inputs=tuple(fields)), given, defaults)


def problem(fields: list[InputField], given: Any, **defaults: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        check(fields, given, **defaults)
    return str(caught.value)


GOOD: dict[str, list[Any]] = {
    "string": ["", "a", "ü"],
    "integer": [0, -5, HUGE],
    "number": [0, -5, 1.5, HUGE],
    "boolean": [True, False],
    "object": [{}, {"a": 1}],
    "array": [[], [1], (1, 2)],
    "any": ["a", 1, 1.5, True, {}, [], b"x", Decimal(1)],
}
BAD: dict[str, list[tuple[Any, str]]] = {
    "string": [(1, "integer"), (b"a", "bytes"), (None, "null"), (["a"], "array")],
    "integer": [("5", "string"), (1.0, "number"), (True, "boolean"), (None, "null")],
    "number": [
        ("1.5", "string"),
        (True, "boolean"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal(1), "Decimal"),
    ],
    "boolean": [(0, "integer"), ("true", "string"), (None, "null")],
    "object": [([], "array"), ("{}", "string")],
    "array": [({}, "object"), ("[]", "string"), ({1}, "set")],
    "any": [],
}


def test_every_type_is_tried() -> None:
    assert set(TYPES) == set(GOOD) == set(BAD)


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in GOOD.items() for v in values])
def test_a_value_that_fits(kind: str, value: Any) -> None:
    assert check([InputField("a", kind)], {"a": value}) == {"a": value}


@pytest.mark.parametrize(
    ("kind", "value", "named"), [(k, *pair) for k, pairs in BAD.items() for pair in pairs]
)
def test_a_value_that_does_not_fit(kind: str, value: Any, named: str) -> None:
    message = problem([InputField("a", kind)], {"a": value})
    assert message == f'the input does not fit my-task: "a" must be {kind}, this is {named}'


def test_what_is_given_goes_before_the_projects_default_and_that_before_the_fields() -> None:
    fields = [InputField(name, default="field") for name in "abc"]
    assert check(fields, {"a": "given"}, a="project", b="project") == {
        "a": "given",
        "b": "project",
        "c": "field",
    }


def test_a_required_field_without_any_value_is_missing() -> None:
    assert problem([InputField("a", "integer")], {}).endswith('"a" (integer) is missing')


def test_a_required_field_with_a_default_may_be_left_out() -> None:
    assert check([InputField("a", default="x")], {}) == {"a": "x"}
    assert check([InputField("a", "boolean", default=False)], {}) == {"a": False}


def test_an_optional_field_may_be_left_out_or_null() -> None:
    field = InputField("a", required=False)
    assert check([field], {}) == {"a": None}
    assert check([field], {"a": None}) == {"a": None}
    assert problem([field], {"a": 1}).endswith("must be string, this is integer")


def test_a_default_of_the_project_is_checked_and_named() -> None:
    message = problem([InputField("a")], {}, a=5)
    assert message.endswith('"a" must be string, this is integer in the project\'s defaults')


def test_defaults_of_other_tasks_do_not_get_in() -> None:
    assert check([InputField("a")], {"a": "x"}, b="y") == {"a": "x"}


def test_an_unknown_field_is_refused_with_the_near_name() -> None:
    fields = [InputField("userId"), InputField("email", required=False)]
    message = problem(fields, {"userID": "1", "userId": "1"})
    assert '"userID" is not a field of this task (did you mean "userId"?)' in message
    message = problem(fields, {"zzz": 1, "userId": "1"})
    assert '"zzz" is not a field of this task (it has userId, email)' in message


def test_everything_wrong_is_listed_at_once() -> None:
    fields = [InputField("a"), InputField("b", "integer"), InputField("c", required=False)]
    message = problem(fields, {"b": "1", "d": 1, 5: 1})
    for part in ('"a" (string) is missing', '"b" must be integer', '"d" is not', '"5" is not'):
        assert part in message
    assert message.count(";") == 3


def test_a_task_without_declared_fields_takes_any_object() -> None:
    assert check([], {"x": 1}) == {"x": 1}
    assert check([], {}, userId="john") == {}


@pytest.mark.parametrize(
    ("given", "named"), [([], "array"), ("a", "string"), (None, "null"), (5, "integer")]
)
def test_an_input_that_is_no_object_is_refused_with_an_example(given: Any, named: str) -> None:
    message = problem([], given)
    assert message.endswith(f'as in {{"userId": "123"}}; this is {named}')


def test_the_given_input_is_not_changed() -> None:
    given: dict[str, Any] = {}
    complete = check([InputField("a", default="x")], given)
    assert given == {}
    assert complete == {"a": "x"}

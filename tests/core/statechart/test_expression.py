"""Expressions: what they can say, what they refuse, and where they stop."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequential.core.statechart.expression import Expression, ExpressionError, parse
from sequential.core.statechart.problems import Problems
from sequential.core.statechart.template import Template


class Scope:
    def __init__(self, context: Any = None, event: Any = None, input: Any = None) -> None:
        self.context, self.event, self.input = context, event, input


SCOPE = Scope(
    {"total": 80, "names": ["ann", "bob"], "a b": 1, "flag": False, "nested": {"x": [1, 2]}},
    {"type": "PAY", "output": {"price": 30, "tags": []}},
    {"limit": 100},
)


def value(source: str, scope: Scope = SCOPE) -> Any:
    return Expression(source).evaluate(scope)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("context.total + event.output.price > 100", True),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 + 7 % 2", 4),
        ("-context.total", -80),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("1 < 2 < 3", True),
        ("1 < 2 > 3", False),
        ("event.type == 'PAY' and input.limit >= 100", True),
        ("0 or 'else'", "else"),
        ("1 and []", []),
        ("not context.flag", True),
        ("'yes' if context.total else 'no'", "yes"),
        ("'ann' in context.names and 'x' not in context.names", True),
        ("'total' in context", True),
        ("'x' in null", False),
        ("'x' not in null", True),
        ("event.nothing is null", True),
        ("context.flag is false and context.total is not false", True),
        ("context['a b']", 1),
        ("context.names[0]", "ann"),
        ("context.names[-1]", "bob"),
        ("context.nested.x[1]", 2),
        ("[true, false, null, True, None]", [True, False, None, True, None]),
        ("{'a': context.total, 'b': [1]}", {"a": 80, "b": [1]}),
        ("len(context.names) + sum([1, 2]) + min(3, 4) + max([5, 6]) + abs(-1)", 15),
        ("sorted([2, 1]) == [1, 2] and any([0, 1]) and not all([0, 1])", True),
        ("round(2.567, 2) + round(2.4)", 4.57),
        ("str(1) + str('x')", "1x"),
        ("int('7') + float('0.5')", 7.5),
        ("bool('')", False),
        ("get(context, 'gone', 'default')", "default"),
        ("get(context.names, 1)", "bob"),
        ("  1\n", 1),
    ],
)
def test_what_expressions_can_say(source: str, expected: Any) -> None:
    assert value(source) == expected


@pytest.mark.parametrize(
    "source",
    ["event.output.user.name", "null.x", "context.names.x", "context[0]", "context.names[9]",
     "context.names['x']", "context.total.real", "event[null]", "context.names[true]"],
)  # fmt: skip
def test_what_is_not_there_is_null_and_never_an_attribute(source: str) -> None:
    assert value(source) is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("__import__('os')", "only calls to abs, all, any, "),
        ("context.keys()", "only calls to"),
        ("(lambda: 1)()", "only calls to"),
        ("str(1, 2, encoding='x')", "only calls to"),
        ("len", "is a function, and has to be called"),
        ("lambda: 1", "Lambda is not allowed"),
        ("[x for x in context]", "ListComp is not allowed"),
        ("(x := 1)", "NamedExpr is not allowed"),
        ("f'{context}'", "JoinedStr is not allowed"),
        ("2 ** 9", "Pow is not allowed"),
        ("1 << 2", "LShift is not allowed"),
        ("~1", "Invert is not allowed"),
        ("context[0:1]", "Slice is not allowed"),
        ("(1, 2)", "Tuple is not allowed"),
        ("{1}", "Set is not allowed"),
        ("[*context]", "Starred is not allowed"),
        ("{**context}", '"**" is not allowed'),
        ("await x", "Await is not allowed"),
        ("os", 'unknown name "os" (use context, event, input)'),
        ("b'x'", "only numbers, texts, true"),
        ("1j", "only numbers, texts, true"),
        ("...", "only numbers, texts, true"),
        (str(2**63), "the number is too large"),
        ("1e999", "not a finite number"),
        ("1 +", "invalid syntax"),
        ("x = 1", "invalid syntax"),
        ("", "invalid syntax"),
        ("'", "unterminated string"),
        ("\0", "null bytes"),
        ("(" * 300, "too many nested parentheses"),
        ("-" * 60 + "1", "is nested too deeply"),
        ("1" * 1001, "at most 1000 characters"),
        (17, "at most 1000 characters"),
        (["1"], "at most 1000 characters"),
        ({"$expr": "1"}, "at most 1000 characters"),
    ],
)
def test_what_is_refused_when_it_is_read(source: Any, why: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        Expression(source)

    assert why in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("1 + null", "a number is needed, not null"),
        ("'a' + 1", "a number is needed, not a text"),
        ("1 < null", "not supported between"),
        ("'x' * 3", "a number is needed, not a text"),
        ("'%999999999d' % 1", "a number is needed, not a text"),
        ("1 / 0", "division by zero"),
        ("len(1)", "has no len()"),
        ("int('x')", "invalid literal"),
        ("sum('ab')", "a number is needed"),
        ("{1: 2}", "the keys of an object must be texts"),
        ("1 in 2", "not iterable"),
        (f"{2**62} * 4", "the number is too large"),
        ("1e308 * 10", "not a finite number"),
        ("float('nan')", "not a finite number"),
        ("int(1e300)", "the number is too large"),
        ("round(1e300)", "the number is too large"),
        ("context.big + context.big", "longer than 1000000 characters"),
        ("[context.big, context.big]", "more than 1000000 characters"),
        ("[context.many, context.many]", "more than 100000 items"),
        ("{'a': context.many, 'b': context.many}", "more than 100000 items"),
        ("context.many + context.many", "more than 100000 items"),
        ("str([context.big])", "longer than 1000000 characters"),
    ],
)
def test_what_ends_with_an_error_at_once(source: str, why: str) -> None:
    scope = Scope({"big": "x" * 1_000_000, "many": [0] * 60_000})

    with pytest.raises(ExpressionError) as refusal:
        value(source, scope)

    assert why in str(refusal.value)
    assert repr(source) in str(refusal.value)


def test_rounding_is_bounded() -> None:
    assert value("round(1, -1000000000)") == 0
    assert value("round(1.5, 1000000000)") == 1.5


def test_what_is_means_the_same_after_a_restore() -> None:
    long = "x" * 50

    # Two texts that are equal but not one object; and true, which is no number.
    assert value("context.a is event.a", Scope({"a": long}, {"a": "".join([*long])})) is True
    assert value("1 is true") is False


def test_large_values_may_be_read_and_passed_on() -> None:
    rows = [{"id": n} for n in range(200_000)]

    assert value("event.output", Scope(event={"output": rows})) is rows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
sources = st.recursive(
    st.sampled_from(["context", "event.a", "input['b']", "1", "0.5", "'t'", "null", "true", "[]"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(
        ["+", "-", "*", "/", "//", "%", "<", "==", "in", "is", "and", "or"]), inner)
    | st.builds("{}({})".format, st.sampled_from(
        ["len", "str", "sum", "sorted", "abs", "int", "not ", "-", "round"]), inner)
    | st.builds("[{}, {}]".format, inner, inner)
    | st.builds("({})[{}]".format, inner, inner),
    max_leaves=8,
)  # fmt: skip


@given(sources, json_values, json_values)
@settings(deadline=None)
def test_any_expression_gives_json_or_says_why_not(source: str, context: Any, event: Any) -> None:
    try:
        found = value(source, Scope(context, event, {"b": 1}))
    except ExpressionError:
        return
    assert isinstance(found, bool | int | float | str | list | dict | None)
    assert isinstance(parse(source), ast.expr)


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_read_or_refused(source: str) -> None:
    try:
        value(source)
    except ExpressionError as error:
        assert str(error)  # noqa: PT017


def template(spec: Any) -> tuple[Template, list[str]]:
    problems = Problems()
    return Template(spec, "$.x", problems), [str(one) for one in problems.of("error")]


def test_templates_are_json_with_expressions_in_it() -> None:
    spec = {"b": {"$expr": "context.total"}, "a": [1, {"$expr": "event.type"}], "c": {"d": None}}
    made, wrong = template(spec)

    assert wrong == []
    assert list(made.render(SCOPE).items()) == [("b", 80), ("a", [1, "PAY"]), ("c", {"d": None})]
    assert not made.is_constant
    assert template([1, {"a": []}])[0].is_constant


def test_templates_tell_where_an_expression_is_wrong() -> None:
    made, wrong = template({"a": [{"$expr": "1 +"}], "b": {"$expr": "1", "x": 2}})

    assert wrong == [
        "$.x.a[0]: '1 +': invalid syntax",
        '$.x.b: "$expr" must be the only key of its object',
    ]
    assert made.is_constant


def test_templates_are_bounded() -> None:
    made, _ = template({"x": {"$expr": "context"}, "y": {"$expr": "context"}})

    with pytest.raises(ExpressionError, match="more than 100000 items"):
        made.render(Scope([0] * 60_000))

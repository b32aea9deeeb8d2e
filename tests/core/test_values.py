"""What may cross the border of a task: it comes back as it was, or is refused by name."""

import contextlib
import enum
import inspect
import json
import math
import subprocess
import sys
import zoneinfo
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core import values
from sequential.errors import ValueNotSupportedError

ZONES = st.none() | st.integers(-80_000, 80_000).map(lambda s: timezone(timedelta(seconds=s)))
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["$bytes", "$call", "$tuple", "$dict", "$", "$unknown", "\0"]
)
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary()
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=12,
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=3)
        | st.builds(lambda tag, tree: {tag: tree}, st.sampled_from([*values._RESTORE]), inner)
    ),
    max_leaves=8,
)


def stored(value: Any) -> Any:
    """The value after it was written to a store and read again."""
    return values.from_json(values.loads(values.dumps(values.to_json(value))))


def exact(value: Any) -> Any:
    """Something that is equal only for values of the same types, too: 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return ("dict", [(exact(key), exact(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [exact(item) for item in value])
    if isinstance(value, set | frozenset):
        return (type(value).__name__, sorted(repr(exact(item)) for item in value))
    if isinstance(value, datetime | time):
        return (type(value).__name__, value.isoformat())
    return (type(value).__name__, repr(value))


@given(VALUES)
def test_every_value_comes_back(value: Any) -> None:
    assert exact(stored(value)) == exact(value)


@given(VALUES)
def test_any_json_library_can_keep_it(value: Any) -> None:
    tree = values.to_json(value)
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert values.loads(json.dumps(tree)) == tree
    assert exact(values.from_json(tree)) == exact(value)


@given(st.dictionaries(st.text(st.characters(codec="ascii")).filter(str.isalnum), VALUES))
def test_plain_json_stays_as_it_is(value: dict[str, Any]) -> None:
    assert list(values.to_json(value)) == list(value)
    plain = {"a": [1, "b", None, True, 1.5, {"c": {}}]}
    assert values.to_json(plain) == plain


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        (b"a", {"$bytes": "YQ=="}),
        (datetime(2026, 1, 2, 3, 4, 5, 6), {"$datetime": "2026-01-02T03:04:05.000006"}),
        (datetime(2026, 1, 2, tzinfo=UTC), {"$datetime": "2026-01-02T00:00:00+00:00"}),
        (date(2026, 1, 2), {"$date": "2026-01-02"}),
        (time(3, 4, 5), {"$time": "03:04:05"}),
        (timedelta(days=-1, seconds=2), {"$timedelta": [-1, 2, 0]}),
        (Decimal("1.10"), {"$decimal": "1.10"}),
        (Decimal("sNaN"), {"$decimal": "sNaN"}),
        ((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        (frozenset("ba"), {"$frozenset": ["a", "b"]}),
        (math.nan, {"$float": "nan"}),
        (math.inf, {"$float": "inf"}),
        (-math.inf, {"$float": "-inf"}),
        ({1: "a"}, {"$dict": [[1, "a"]]}),
        ({"$bytes": "YQ=="}, {"$dict": [["$bytes", "YQ=="]]}),
        ({"$a": 1, "b": 2}, {"$dict": [["$a", 1], ["b", 2]]}),
        (10**30, 10**30),
        (-0.0, -0.0),
    ],
)
def test_the_form_stays_the_same_in_later_versions(value: Any, tree: Any) -> None:
    """Pinned: what an older version has stored must be read by every later one."""
    assert values.to_json(value) == tree
    assert exact(stored(value)) == exact(value)


def test_the_sign_of_zero_is_kept() -> None:
    assert math.copysign(1, stored(-0.0)) == -1


class Point(NamedTuple):
    x: int
    y: int


def test_a_time_zone_becomes_its_offset() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    assert stored(moment) == moment
    assert stored(moment).utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (enum.IntEnum("Level", "LOW").LOW, 1),  # type: ignore[attr-defined]
        (enum.StrEnum("Colour", "RED").RED, "red"),  # type: ignore[attr-defined]
        (enum.Enum("Old", "RED", type=str).RED, "1"),  # type: ignore[attr-defined]
        (type("Name", (str,), {"__str__": lambda self: self})("x"), "x"),
        (type("Number", (int,), {"__int__": lambda _: 5})(7), 7),
        (type("Real", (float,), {"__float__": lambda _: 5.0})(7.5), 7.5),
        (type("Data", (bytes,), {"__bytes__": lambda _: b"no"})(b"yes"), b"yes"),
        (type("Items", (list,), {})([1]), [1]),
    ],
)
def test_a_subclass_of_a_known_type_loses_its_subclass(value: Any, plain: Any) -> None:
    assert exact(stored(value)) == exact(plain)


WITH_SETS = """
from sequential.core import values
print(values.dumps(values.to_json([
    {"one", "two", "three", b"four", 5, None, True, ("six", 7.5)},
    frozenset({"a", "b", "c", frozenset({"d", "e", "f"})}),
])).decode())
"""


def test_the_order_of_a_set_does_not_depend_on_the_process() -> None:
    """A fingerprint is made of it; strings hash differently in every process."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WITH_SETS], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("1", "2")
    ]
    one, other = (process.communicate(timeout=30)[0] for process in started)
    assert one == other != b""


class Person:
    pass


class Apple:
    type_name = "orange"


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (Person(), "result is a Person, which cannot cross the border of a task: use JSON types"),
        (Apple(), "result is an orange,"),
        (object(), "result is an object,"),
        (lambda: None, "result is a function,"),
        ((n for n in "a"), "result is a generator,"),
        (1j, "result is a complex,"),
        (bytearray(b"a"), "result is a bytearray,"),
        (Person, "result is a type,"),
        (ValueError("x"), "result is a ValueError,"),
        (enum.Enum("Bare", "A").A, "result is a Bare,"),  # type: ignore[attr-defined]
        (Mock(), "result is a Mock,"),
        ({"rows": [0, {"owner": Person()}]}, "result.rows[1].owner is a Person,"),
        ([(1, {Person()})], "result[0][1][0] is a Person,"),
        ({1: Person()}, "result[1] is a Person,"),
        ({Person(): 1}, "a key of result is a Person,"),
        ({"a": {(1, object()): 1}}, "a key of result.a[1] is an object,"),
        ("a\ud800", "result holds half of a surrogate pair at position 1,"),
        ({"a\ud800": 1}, "result holds half of a surrogate pair at position 1,"),
        ({1: ["\udfff"]}, "result[1][0] holds half of a surrogate pair at position 0,"),
        pytest.param(10**4300, "result is a number of more than 4300 digits,", id="large"),
        pytest.param([-(10**4300)], "result[0] is a number of more than 4300 digits,", id="small"),
    ],
)
def test_what_cannot_cross_is_refused_with_the_path_to_it(value: Any, part: str) -> None:
    with pytest.raises(ValueNotSupportedError) as caught:
        values.to_json(value, "result")
    assert str(caught.value).startswith(part)


def nested(levels: int, wrap: Callable[[Any], Any], inner: Any = None) -> Any:
    for _ in range(levels):
        inner = wrap(inner)
    return inner


WRAPS: dict[str, Callable[[Any], Any]] = {
    "lists": lambda inner: [inner],
    "objects": lambda inner: {"a": inner},
    "dicts": lambda inner: {1: inner},
    "tuples": lambda inner: (inner,),
    "frozensets": lambda inner: frozenset([inner]),
    "subclasses": lambda inner: Counter(a=inner),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_the_deepest_value_comes_back_and_a_deeper_one_is_refused(
    wrap: Callable[[Any], Any],
) -> None:
    deepest = nested(values.DEEPEST, wrap)
    assert stored(deepest) == deepest
    with pytest.raises(ValueNotSupportedError, match="nested deeper than 200 levels"):
        values.to_json(nested(values.DEEPEST + 2, wrap, 1.5))


def test_a_value_that_holds_itself_is_refused() -> None:
    circle: dict[Any, Any] = {}
    circle["self"] = circle
    items: list[Any] = []
    items.append((items,))
    numbered: dict[Any, Any] = {}
    numbered[1] = numbered
    for value in (circle, items, numbered):
        with pytest.raises(ValueNotSupportedError, match="nested deeper"):
            values.to_json(value)


def test_a_stack_that_is_deep_already_makes_no_other_error() -> None:
    deepest = nested(values.DEEPEST, lambda inner: {1: inner})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        with pytest.raises(ValueNotSupportedError, match="result is nested too deeply"):
            values.to_json(deepest, "result")
    finally:
        sys.setrecursionlimit(limit)


@given(TREES)
def test_any_stored_tree_is_a_value_or_damaged(tree: Any) -> None:
    for read in (values.from_json, values.arguments_from_json):
        with contextlib.suppress(ValueNotSupportedError):
            read(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"$datetime": 5},
        {"$datetime": "yesterday"},
        {"$date": None},
        {"$time": "25:00"},
        {"$timedelta": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"$timedelta": ["a"]},
        {"$timedelta": [10**20]},
        {"$timedelta": "123"},
        {"$decimal": 1.1},
        {"$decimal": "one"},
        {"$float": "many"},
        pytest.param({"$float": 10**400}, id="no text"),
        {"$bytes": "?"},
        {"$bytes": "ä"},
        {"$bytes": ["YQ=="]},
        {"$tuple": 5},
        {"$tuple": "ab"},
        {"$set": [[]]},
        {"$set": [{}]},
        {"$set": {"a": 1}},
        {"$frozenset": [{"$set": []}]},
        {"$dict": [[1]]},
        {"$dict": [[[], 1]]},
        {"$dict": [5]},
        {"$dict": {"a": "b"}},
        [{"a": {"$tuple": [{"$date": "x"}]}}],
    ],
)
def test_a_damaged_tree_is_refused(tree: Any) -> None:
    with pytest.raises(ValueNotSupportedError, match=r"a stored \$\w+ value is damaged: ."):
        values.from_json(tree)


@pytest.mark.parametrize(
    "tree",
    [{"$unknown": 1}, {"$": 1}, {"$date": "2026-01-01", "b": 1}, {"$call": [[1], {}]}, {}, []],
)
def test_what_only_looks_like_a_tag_is_data(tree: Any) -> None:
    assert values.from_json(tree) == tree


def test_json_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match="the JSON is nested too deeply"):
        values.loads("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueNotSupportedError, match="a stored value is nested too deeply"):
        values.from_json(nested(2_000, lambda inner: [inner]))


@pytest.mark.parametrize("text", ["", "{", "nul", "NaN", "[1,]", "'a'", b"\xff", '"\\ud800"'])
def test_text_that_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"truncated|malformed|invalid|utf-8|surrogate"):
        values.loads(text)


@given(st.lists(VALUES, max_size=3), st.dictionaries(TEXT, VALUES, max_size=3))
def test_arguments_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    tree = values.loads(values.dumps(values.arguments_to_json(args, kwargs, "tool")))
    given_args, given_kwargs = values.arguments_from_json(tree)
    assert exact((given_args, given_kwargs)) == exact((args, kwargs))


def test_the_form_of_arguments() -> None:
    assert values.arguments_to_json([], {"a": (1,)}, "x") == {"a": {"$tuple": [1]}}
    assert values.arguments_to_json([1], {"a": 2}, "x") == {"$call": [[1], {"a": 2}]}
    assert values.arguments_to_json([], {"$call": 1}, "x") == {"$dict": [["$call", 1]]}


def test_an_argument_that_cannot_cross_is_named() -> None:
    with pytest.raises(ValueNotSupportedError, match=r"mail\.send\[1\]\.to is a Person"):
        values.arguments_to_json([0, {"to": Person()}], {}, "mail.send")
    with pytest.raises(ValueNotSupportedError, match=r"mail\.send\.to is a Person"):
        values.arguments_to_json([], {"to": Person()}, "mail.send")


@pytest.mark.parametrize(
    "tree",
    [
        5,
        [1],
        None,
        {"$call": 5},
        {"$call": []},
        {"$call": [[1]]},
        {"$call": [5, {}]},
        {"$call": [[], 6]},
        {"$call": [[], {}, {}]},
        {"$tuple": [1, 2]},
        {"$dict": [[1, 2]]},
    ],
)
def test_damaged_arguments_are_refused(tree: Any) -> None:
    with pytest.raises(ValueNotSupportedError, match="the stored arguments of a call are damaged"):
        values.arguments_from_json(tree)

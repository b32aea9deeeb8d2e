from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.web.chains import (
    MOST_STEPS,
    ChainError,
    ModuleRefusedError,
    Step,
    Wanted,
    refuse_modules,
    service_named,
    wanted,
)

ARGUMENT = {"customer": "my_customer"}
LISTED = Wanted("admin.domains.list", (ARGUMENT,), is_chain=True)


def test_ours() -> None:
    assert wanted({"method": "a.b", "args": [1], "kwargs": {"x": 2}}) == Wanted(
        "a.b", (1,), {"x": 2}
    )
    assert wanted({"method": "a", "args": {"x": 2}}) == Wanted("a", (), {"x": 2})
    assert wanted({"method": "a", "args": None, "kwargs": None}) == Wanted("a")
    both = {"method": "a", "chain": [{"property": "b"}]}
    assert wanted(both) == Wanted("a")


@pytest.mark.parametrize(
    "chain",
    [
        [{"property": "admin.domains.list", "args": [ARGUMENT]}],
        [{"property": "admin.domains.list", "args": ARGUMENT}],  # as the original's client wrote
        [
            {"property": "admin"},
            {"property": "domains"},
            {"property": "list", "args": [ARGUMENT]},
        ],
        [
            {"type": "get", "property": "admin"},
            {"type": "get", "property": "domains", "args": []},
            {"type": "call", "property": "list", "args": [ARGUMENT]},
        ],
        [{"property": "admin.domains"}, {"type": "call", "property": "list", "args": [ARGUMENT]}],
    ],
)
def test_the_three_dialects_of_the_original_are_one_call(chain: list[Any]) -> None:
    assert wanted({"chain": chain}) == LISTED


def test_the_dialect_of_the_originals_keystore() -> None:
    body = {"action": "getKey", "namespace": "global", "key": "GAPI_KEY"}
    assert wanted(body) == Wanted("getKey", (), {"namespace": "global", "key": "GAPI_KEY"})
    with pytest.raises(ChainError):
        wanted({"action": "__class__"})


def test_a_chain_without_arguments_is_a_call_without_any() -> None:
    lasts: list[dict[str, Any]] = [{}, {"args": []}, {"type": "call"}, {"type": "get"}]
    for last in lasts:
        assert wanted({"chain": [{"property": "echo", **last}]}) == Wanted("echo", is_chain=True)


def test_calls_in_the_middle_are_given_to_the_service_as_they_are() -> None:
    chain = [
        {"property": "from", "args": ["users"]},
        {"type": "get", "property": "x"},
        {"type": "call", "property": "select", "args": ["*"]},
    ]
    steps = (Step("from", ("users",)), Step("x"), Step("select", ("*",)))
    assert wanted({"chain": chain}) == Wanted("chain", steps=steps, is_chain=True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "send an object"),
        ([], "send an object"),
        ("method", "send an object"),
        ({}, 'say what to call: {"method": "<name>"}'),
        ({"methd": "x"}, "'methd' is not known here"),
        ({"method": 5}, "'int' is no name of a method"),
        ({"method": ""}, "'' is no name of a method"),
        ({"method": "a..b"}, "is no name of a method"),
        ({"method": "a b"}, "is no name of a method"),
        ({"method": "a\n"}, "is no name of a method"),
        ({"method": "ä"}, "is no name of a method"),
        ({"method": "_private"}, "'_private' is no name of a method"),
        ({"method": "a._b"}, "is no name of a method"),
        ({"method": "__class__"}, "'__class__' is no name of a method"),
        ({"method": "users.__init__.__globals__"}, "is no name of a method"),
        ({"method": "../x"}, "is no name of a method"),
        ({"method": "a" * 201}, "is no name of a method"),
        ({"method": "a", "args": "b"}, "args has to be an array"),
        ({"method": "a", "kwargs": [1]}, "kwargs has to be an object"),
        ({"chain": {}}, "chain has to be an array with at least one step"),
        ({"chain": []}, "chain has to be an array with at least one step"),
        ({"chain": ["a"]}, 'chain[0] has to be an object with a "property"'),
        ({"chain": [{"property": "a"}, {}]}, "chain[1] has to be an object"),
        ({"chain": [{"property": ["a"]}]}, "chain[0] has to be an object"),
        ({"chain": [{"property": "__class__"}]}, "'__class__' is no name of a method"),
        ({"chain": [{"property": "a", "type": "new"}]}, 'chain[0].type is "get" or "call"'),
        ({"chain": [{"property": "a"}] * (MOST_STEPS + 1)}, "65 steps, 64 are allowed"),
        ({"chain": [{"property": "a" * 150}] * 2}, "is no name of a method"),
    ],
)
def test_what_nobody_can_be_asked(body: Any, says: str) -> None:
    with pytest.raises(ChainError) as error:
        wanted(body)
    assert says in str(error.value)
    assert len(str(error.value)) < 300


def test_modules_are_for_operators_to_name() -> None:
    for config in (
        {"module": "os"},
        {"module": "googleapis", "factory": "google.gmail"},
        {"factory": "system"},
        {"module": ["os"]},
    ):
        with pytest.raises(ModuleRefusedError, match="cannot name a module or a factory"):
            refuse_modules({"config": config})
        with pytest.raises(ModuleRefusedError):
            service_named({"config": config})
    harmless: list[Any] = [{}, {"config": {}}, {"config": {"args": [1]}}, {"config": "x"}, 5]
    for body in harmless:
        refuse_modules(body)


def test_which_service_is_meant() -> None:
    assert service_named({"service": "crm"}) == "crm"
    assert service_named({"config": {"service": "crm"}}) == "crm"
    assert service_named({"config": {"module": "service/crm"}}) == "crm"
    unclear: list[Any] = [{}, [], {"service": 5}]
    for body in unclear:
        with pytest.raises(ChainError, match="say which service"):
            service_named(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)
STEPS = st.lists(
    st.dictionaries(st.sampled_from(["property", "args", "type", "x"]), JSON), max_size=5
)


@given(JSON | st.fixed_dictionaries({"chain": STEPS}) | st.fixed_dictionaries({"method": JSON}))
def test_whatever_comes_in_is_a_call_or_refused(body: Any) -> None:
    try:
        call = wanted(body)
    except ChainError:
        return
    assert all(part and not part.startswith("_") for part in call.method.split("."))

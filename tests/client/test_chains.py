"""Chains of names and calls, and what of them goes over the wire."""

import pytest

from sequential.client.chains import LONGEST, Chain
from sequential.errors import ConfigError, ValueNotSupportedError


def test_names_and_one_call_are_a_method() -> None:
    chain = Chain().named("a").named("b").called((1, (2,)), {"c": 3})
    assert str(chain) == "a.b(...)"
    assert chain.as_method() == {
        "method": "a.b",
        "args": [1, {"$tuple": [2]}],
        "kwargs": {"c": 3},
    }
    assert Chain().named("a").called((), {}).as_method()["method"] == "a"


def test_any_chain_is_steps() -> None:
    chain = Chain().named("a").called((), {}).named("b").named("c").called((1,), {"d": (2,)})
    assert chain.as_steps() == {
        "chain": [
            {"type": "call", "property": "a", "args": []},
            {"type": "get", "property": "b"},
            {"type": "call", "property": "c", "args": [1, {"d": (2,)}]},  # an array in JSON
        ]
    }
    with pytest.raises(ConfigError, match=r"a\(\.\.\.\)\.b\.c\(\.\.\.\): calls in between"):
        chain.as_method()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("from_", "from"), ("import_", "import"), ("users_", "users_"), ("is_", "is"), ("_", "_")],
)
def test_words_of_python_are_written_with_a_line_behind(written: str, meant: str) -> None:
    assert Chain().named(written).steps == (meant,)


def test_a_chain_is_of_names_and_not_too_long() -> None:
    with pytest.raises(ConfigError, match="only a name can be called"):
        Chain().called((), {})
    with pytest.raises(ConfigError, match="only a name can be called"):
        Chain().named("a").called((), {}).called((), {})
    chain = Chain(("a",) * LONGEST)
    with pytest.raises(ConfigError, match="more than 64 steps"):
        chain.named("a")


def test_recording_changes_no_chain() -> None:
    users = Chain().named("users")
    assert users.named("list").steps == ("users", "list")
    assert users.steps == ("users",)
    assert not users.is_called


def test_values_that_cannot_be_sent() -> None:
    chain = Chain().named("a").called((object(),), {})
    with pytest.raises(ValueNotSupportedError, match=r"args\[0\] is an object"):
        chain.as_method()
    with pytest.raises(ValueNotSupportedError, match=r"a\(\.\.\.\) in a chain"):
        chain.as_steps()

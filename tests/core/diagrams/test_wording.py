"""How a drawing says what leads from state to state."""

from typing import Any

import pytest

from sequential.core.diagrams.arrows import arrows_of
from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.text_size import text_width
from sequential.core.diagrams.wording import cut, duration, remarks
from support.drawings import Graph, chart


def labels(state: Graph, **more: Graph) -> dict[str, list[str]]:
    """The labels of the arrows from a state `a`, by where they lead."""
    others: Graph = {"b": {"type": "final"}, "c": {"type": "final"}}
    drawn = chart({"initial": "a", "states": {"a": state, **others, **more}})
    return {
        arrow.target.name: arrow.labels
        for arrow in arrows_of(drawn, Marks())
        if arrow.source.name == "a"
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"on": {"GO": "b", "job.*": "b"}}, {"b": ["GO", "job.*"]}),
        ({"onDone": "b", "onError": "c"}, {"b": ["done"], "c": ["error"]}),
        ({"onSuccess": "b", "onFail": "c"}, {"b": ["success"], "c": ["failed"]}),
        ({"onSuccess": "b", "onDone": "c"}, {"b": ["success"], "c": ["done"]}),
        ({"onSuccess": "b", "onError": "c"}, {"b": ["success"], "c": ["error"]}),
        (
            {"onDone": [{"target": "b", "guard": {"$expr": "event.output.n > 1"}}, "c"]},
            {"b": ["done [event.output.n > 1]"], "c": ["done [else]"]},
        ),
        (
            {"onFail": {"target": "b", "guard": {"$expr": "input.x"}}, "onDone": "c"},
            {"b": ["failed [input.x]"], "c": ["done"]},
        ),
        (
            {"always": [{"target": "b", "guard": {"$expr": "context.n > 1"}}, "c"]},
            {"b": ["[context.n > 1]"], "c": ["[else]"]},
        ),
        ({"always": "b"}, {"b": []}),
        ({"after": {"86400000": "b", "90000": "b", "SOON": "c"}}, {
            "b": ["after 1 d", "after 1.5 min"], "c": ["after SOON"]}),
        (
            {"invoke": [{"src": "pay", "onDone": "b"}, {"src": "pick", "onError": "c"}]},
            {"b": ["done pay"], "c": ["error pick"]},
        ),
        ({"initial": "x", "states": {"x": {"type": "final"}}, "onDone": "b"}, {"b": ["done"]}),
        ({"on": {"X": {"target": "b", "guard": {"type": "not", "params": {
            "guard": {"$expr": "input.x"}}}}}}, {"b": ["X [not input.x]"]}),
    ],
)  # fmt: skip
def test_labels(state: Graph, expected: Any) -> None:
    assert labels(state) == expected


def test_what_a_state_does_without_being_left() -> None:
    state: Graph = {
        "invoke": {"src": "charge"},
        "on": {"NOTE": {"actions": ["log", "emit"]}, "NO": {}, "GO": "b"},
    }
    drawn = chart({"initial": "a", "states": {"a": state, "b": {}}})
    assert remarks(drawn.states[1]) == ["runs charge", "NOTE: log, emit", "NO: nothing"]


def test_keeping_a_result_is_nothing_to_tell() -> None:
    drawn = chart({"initial": "a", "states": {"a": {"onDone": "b"}, "b": {}}})
    assert [remarks(state) for state in drawn.states] == [[], [], []]


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (0.5, "0.5 ms"), (20, "20 ms"), (1_000, "1 s"), (1_500, "1.5 s"), (60_000, "1 min"),
        (90_000, "1.5 min"), (100_000, "100 s"), (5_400_000, "1.5 h"), (604_800_000, "7 d"),
    ],
)  # fmt: skip
def test_times_are_said_as_people_say_them(milliseconds: float, expected: str) -> None:
    assert duration(milliseconds) == expected


def test_long_texts_are_cut_and_put_on_one_line() -> None:
    assert cut("a\n  b") == "a b"
    assert cut("x" * 100) == "x" * 43 + "…"


def test_wide_characters_need_more_room() -> None:
    assert text_width("illi", 10) < text_width("abcd", 10) < text_width("MWMW", 10)
    assert text_width("abcd", 10) < text_width("日本語字", 10)
    assert text_width("e\u0301", 10) == text_width("e", 10)

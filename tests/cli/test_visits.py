"""What the notes of a graph's run tell: visits of states, transitions, events in words."""

from typing import Any

import pytest

from sequential.cli.visits import STEP, Handler, event_words, story
from sequential.core.model import CallStatus, StackRun, Status, TaskRun


def note(number: int, event: str, left: list[str], entered: list[str], *taken: Any) -> StackRun:
    """The note of a macrostep that happened `number` seconds after 1970 began."""
    step = {"do": "step", "event": event, "at": number * 1000, "left": left, "entered": entered}
    ways = [{"source": s, "event": e, "targets": t} for s, e, t in taken]
    given = {**step, "taken": ways, "value": None}
    return StackRun(f"r:{number}", "r", STEP, CallStatus.COMPLETED, input=given, sequence=number)


def run(status: Status = Status.SUSPENDED, ended_at: str | None = None) -> TaskRun:
    return TaskRun("r", "job", status, {}, ended_at=ended_at)


START = note(0, "xstate.init", [], ["m", "m.a"])


def at(seconds: int) -> str:
    return f"1970-01-01T00:00:{seconds:02}.000Z"


def test_a_visit_lasts_from_entering_to_leaving() -> None:
    told = story(run(), [START, note(5, "GO", ["m.a"], ["m.b"], ("m.a", "GO", ["m.b"]))], ["BACK"])
    assert told.visits == [("a", at(0), at(5), "xstate.init"), ("b", at(5), None, "GO")]
    assert told.taken == [(at(5), "GO", "a", ["b"])]
    assert (told.active, told.accepts, told.root) == (["b"], ["BACK"], "m")


def test_states_that_a_step_only_passes_are_visits_of_no_time() -> None:
    passing = note(5, "GO", ["m.a", "m.b"], ["m.b", "m.c"])
    assert story(run(), [START, passing], []).visits[1:] == [
        ("b", at(5), at(5), "GO"),
        ("c", at(5), None, "GO"),
    ]


def test_a_state_that_is_entered_again_is_visited_twice() -> None:
    again = note(5, "AGAIN", ["m.a"], ["m.a"])
    assert story(run(), [START, again], []).visits == [
        ("a", at(0), at(5), "xstate.init"),
        ("a", at(5), None, "AGAIN"),
    ]


def test_visits_end_with_the_run() -> None:
    told = story(run(Status.FAILED, at(9)), [START], [])
    assert told.visits == [("a", at(0), at(9), "xstate.init")]
    assert told.active == []


def test_a_transition_without_targets_is_told_as_such() -> None:
    told = story(run(), [START, note(1, "NOTE", [], [], ("m.a", "NOTE", None))], [])
    assert told.taken == [(at(1), "NOTE", "a", None)]


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"handler": "fetch_all", "name": "job"}, "a.fetchAll"),
        ({"handler": "fetchAll", "name": "job"}, "a.fetchAll"),
        ({"handler": "job", "name": "job"}, "a.fetchAll: job"),
        ({"name": "other"}, "a.fetchAll: task:other"),
    ],
)
def test_a_handler_is_called_like_its_state(given: dict[str, str], label: str) -> None:
    call = StackRun("r:1", "r", "tasks.run", CallStatus.PENDING, input=given)
    assert Handler("a.fetchAll", call, None, ()).label == label


def test_a_run_that_has_not_begun_was_in_no_state() -> None:
    assert story(run(Status.PENDING), [], ["GO"]).visits == []


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("xstate.init", "start"),
        ("xstate.done.actor.fetch", "fetch done"),
        ("xstate.error.actor.fetch", "fetch failed"),
        ("xstate.done.state.m.a.b", "a.b done"),
        ("xstate.after.90000.m.a", "after 1 min 30 s"),
        ("xstate.after.soon.m.a", "after soon"),
        ("", "always"),
        ("GO", "GO"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ],
)
def test_events_in_words(event: str, words: str) -> None:
    assert event_words(event, "m") == words

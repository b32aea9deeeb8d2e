"""Records in words."""

from typing import Any

import pytest

from sequential.cli import live, output, render, words
from sequential.core import times
from sequential.core.model import (
    CallStatus,
    Failure,
    Frame,
    RetryPolicy,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.runner.progress import Progress, Step

NOW = "2026-11-21T12:00:00.000Z"
RUN = TaskRun(
    id="019a2b3c-4d5e-7000-8000-000000000001",
    task_identifier="one",
    status=Status.SUSPENDED,
    input={},
    created_at=times.after(NOW, -3 * 3600),
    updated_at=NOW,
    filename="tasks/one/code.py",
    config=TaskConfig(name="one", retry=RetryPolicy(retries=3)),
)
CALL = StackRun(
    id=f"{RUN.id}:0",
    task_run_id=RUN.id,
    operation="http.fetch",
    status=CallStatus.IN_PROGRESS,
    input={"url": "https://api.stripe.com/v1/charges", "method": "POST"},
    created_at=times.after(NOW, -3 * 3600),
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0001, "<1 ms"),
        (0.0034, "3 ms"),
        (0.0996, "0.10 s"),
        (0.214, "0.21 s"),
        (0.996, "1 s"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
        (86400, "1 day"),
        (90000, "1 day 1 h"),
        (40 * 86400 + 3600, "40 days"),
        (-5, "0 ms"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (5_000_000, "5.0 MB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.size(count) == text


def test_a_run_that_waits_for_a_call() -> None:
    told = words.sentence(RUN, [CALL], NOW, is_driven=True)
    assert told == "Waiting 3 h for http.fetch POST api.stripe.com/v1/charges."
    alone = words.sentence(RUN, [CALL], NOW, is_driven=False)
    assert alone.endswith("No process drives it at the moment.")


def test_a_run_that_waits_for_another_attempt() -> None:
    call = evolve(
        CALL,
        status=CallStatus.PENDING,
        attempts=1,
        due_at=times.after(NOW, 20),
        error=Failure("TryAgain", "HTTP 503"),
    )
    told = words.sentence(RUN, [call], NOW, is_driven=True)
    assert ", attempt 2 of 4 after HTTP 503, next try at " in told
    assert told.endswith("(in 20 s).")
    own = evolve(call, input={**CALL.input, "retries": 8})
    assert "attempt 2 of 9" in words.sentence(RUN, [own], NOW, is_driven=True)


EVENT = evolve(CALL, operation="events.wait", input={"name": "approval"})
CHILD = evolve(CALL, operation="tasks.run", input={"name": "kid", "input": {"n": 1}})


def test_a_run_that_waits_for_an_event() -> None:
    assert words.sentence(RUN, [EVENT], NOW, is_driven=False) == (
        "Waiting 3 h for the event approval."
    )
    limited = evolve(EVENT, due_at=times.after(NOW, 60))
    run = evolve(RUN, wake_at=limited.due_at)
    told = words.sentence(run, [limited], NOW, is_driven=True)
    assert told.startswith("Waiting 3 h for the event approval, until ")
    assert told.endswith("(in 1 min).")
    assert words.sentence(run, [limited], NOW, is_driven=False).endswith("drives it at the moment.")


def test_a_run_that_waits_for_a_child_run() -> None:
    told = words.sentence(RUN, [CHILD], NOW, is_driven=True)
    assert told == "Waiting 3 h for the task kid."
    assert words.call_arguments(CHILD) == 'input={"n": 1}'
    done = evolve(CHILD, status=CallStatus.COMPLETED, updated_at=NOW, duration=0.001)
    assert words.call_time(done) == 3 * 3600


def test_awaited_events_are_named_once_and_as_a_shell_takes_them() -> None:
    names = ["a b", "a b", "it's", "x\n\x1b"]
    calls = [evolve(EVENT, input={"name": name}) for name in names]
    settled = evolve(EVENT, status=CallStatus.COMPLETED, input={"name": "over"})
    found = words.awaited_events([*calls, settled, CALL, evolve(EVENT, input={"name": 5})])
    assert found == ["a b", "it's", "x\n\x1b"]
    shown = [words.event_name(name) for name in found]
    assert shown == ["'a b'", "'it'\"'\"'s'", "'x\\n\\x1b'"]
    assert len(words.event_name("x" * 5000)) == 60


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "waits for an answer"),
        ({"where": Frame("code.py", 7)}, "waits at line 7 for an answer"),
        ({"wake_at": times.after(NOW, -1)}, "suspended"),
        (
            {
                "wake_at": times.after(NOW, 3600),  # a child looks after its parent now and then
                "where": Frame("code.py", 7, source="x = await wait_for_event('approval')"),
            },
            "waits at line 7 for an answer",
        ),
        (
            {
                "wake_at": times.after(NOW, 60),
                "where": Frame("code.py", 7, source="return await run_task('kid')"),
            },
            "waits at line 7 for a child run",
        ),
        ({"wake_at": times.after(NOW, -1), "expires_at": times.after(NOW, 60)}, "suspended"),
        ({"status": Status.PENDING}, "not started"),
        ({"status": Status.PENDING, "priority": -2}, "not started, priority -2"),
        ({"status": Status.PAUSED, "where": Frame("code.py", 7)}, "paused at line 7"),
        ({"status": Status.RUNNING}, "running"),
    ],
)
def test_where_a_run_stands_in_a_few_words(changes: dict[str, Any], text: str) -> None:
    assert words.waits(evolve(RUN, **changes), NOW) == text


def test_a_run_that_expires_says_when() -> None:
    at = times.after(NOW, 60)
    run = evolve(RUN, wake_at=at, expires_at=at)
    assert words.waits(run, NOW) == f"waits for an answer until {words.moment(at, NOW)}"
    delayed = evolve(RUN, status=Status.PENDING, wake_at=at)
    assert words.waits(delayed, NOW) == (f"not started, begins {words.moment(at, NOW)} (in 1 min)")


def test_a_run_that_sleeps() -> None:
    call = evolve(
        CALL,
        operation="clock.sleep",
        status=CallStatus.PENDING,
        input={"$call": [[7200], {}]},
        due_at=times.after(NOW, 3600),
    )
    told = words.sentence(RUN, [call], NOW, is_driven=True)
    assert told.startswith("Sleeping until ")
    assert "(in 1 h)" in told
    assert words.call_name(call) == "sleep 2 h"
    assert words.call_name(evolve(call, input={"seconds": 7200})) == "sleep 2 h"


@pytest.mark.parametrize(
    ("status", "start"),
    [
        (Status.PENDING, "Not started yet."),
        (Status.RUNNING, "Under way for 3 h"),
        (Status.PAUSED, "Paused by an operator."),
        (Status.COMPLETED, "Completed in 3 h, 0 calls."),
        (Status.CANCELLED, "Cancelled after 3 h"),
    ],
)
def test_a_run_without_open_calls(status: Status, start: str) -> None:
    run = evolve(RUN, status=status, ended_at=NOW if status.is_final else None)
    assert words.sentence(run, [], NOW, is_driven=True).startswith(start)


def test_a_run_that_failed() -> None:
    error = Failure("OSError", "no\nroute", traceback=(Frame("tasks/one/code.py", 12),))
    run = evolve(RUN, status=Status.FAILED, error=error, ended_at=NOW)
    told = words.sentence(run, [], NOW, is_driven=False)
    assert told == "Failed after 3 h at line 12 of tasks/one/code.py: OSError: no\\nroute"


def test_a_run_whose_journal_does_not_fit() -> None:
    """The comparison of the calls has lines of its own, further down."""
    report = "call 1 differs: the journal does not fit this source\n  expected  a\n  actual    b"
    error = Failure("RuntimeError", report, code="non_determinism")
    run = evolve(RUN, status=Status.FAILED, error=error, ended_at=NOW)
    told = words.sentence(run, [], NOW, is_driven=False)
    assert told.endswith("RuntimeError: call 1 differs: the journal does not fit this source")
    assert render.traceback(error) == f"RuntimeError: {report}"


@pytest.mark.parametrize(
    "tree",
    [None, 5, "x", [], {"url": 5}, {"url": None, "headers": 5}, {"$call": [[], {}]}],
)
def test_any_arguments_can_be_named(tree: Any) -> None:
    for operation in ("http.fetch", "clock.sleep", "crm.find", "events.wait", "tasks.run"):
        call = evolve(CALL, operation=operation, input=tree)
        assert words.call_name(call)
        words.call_arguments(call)
        words.attempt(RUN, call, 2)


@pytest.mark.parametrize("result", [None, 5, {"status": 200}, {"status": 1, "content": {}}, []])
def test_any_result_can_be_shown(result: Any) -> None:
    for operation in ("http.fetch", "clock.sleep", "crm.find"):
        words.call_result(
            evolve(CALL, operation=operation, status=CallStatus.COMPLETED, result=result)
        )


def test_errors_of_calls_do_not_repeat_the_request() -> None:
    url = CALL.input["url"]
    refused = evolve(CALL, error=Failure("OSError", f"POST {url}: it hung up: bye"))
    assert words.call_error(refused) == "OSError: it hung up: bye"
    other = evolve(CALL, error=Failure("OSError", "it hung up"))
    assert words.call_error(other) == "OSError: it hung up"


def test_short_ids_tell_runs_apart() -> None:
    other = evolve(RUN, id="019a2b3c-4d5e-7000-8000-000000000002")
    third = evolve(RUN, id="019a2b3c-4d5f-7000-8000-000000000002")
    assert words.short_ids([RUN, third])[RUN.id] == "019a2b3c-4d5e"
    ids = words.short_ids([RUN, other])
    assert len(set(ids.values())) == 2
    assert RUN.id.startswith(ids[RUN.id])


def test_compact_does_not_write_out_what_is_cut() -> None:
    tree = [{"a" * 10_000: ["b" * 10_000_000] * 100}] * 100_000
    assert len(words.compact(tree, 60)) == 60


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b\x7f\u202e", "\\x9b\\x7f\\u202e"),
        ("grüße 日本 🙂", "grüße 日本 🙂"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert output.clean(text) == shown


def test_cut_counts_columns_of_the_terminal() -> None:
    assert render.cut("日本語", 6) == "日本語"
    assert render.cut("日本語", 5) == "日本…"
    assert render.cut("abcdef", 3) == "ab…"


def test_progress_of_several_calls() -> None:
    shown = live.Live(verbose=False)
    for sequence in range(5):
        call = evolve(CALL, id=f"{RUN.id}:{sequence}", sequence=sequence)
        shown.observe(Progress(Step.CALL_STARTED, RUN, call))
    state = shown._state()
    assert state.startswith("5 calls, 0.0 s: POST api.stripe.com/v1/charges, ")
    assert state.endswith(" and 2 more")
    for sequence in range(5):
        call = evolve(CALL, id=f"{RUN.id}:{sequence}", sequence=sequence)
        done = evolve(call, status=CallStatus.COMPLETED)
        shown.observe(Progress(Step.CALL_SETTLED, RUN, done))
    assert shown._state().startswith("computing, ")
    assert shown.calls == 5


def test_progress_of_a_child_run_is_shown_beside_that_of_its_parent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = live.Live(verbose=False, program="sequential")
    child = evolve(RUN, id=RUN.id.replace("1", "2"), task_identifier="kid", parent_run_id=RUN.id)
    own = evolve(CALL, id=f"{child.id}:0", task_run_id=child.id)
    waiting = evolve(EVENT, id=f"{child.id}:1", task_run_id=child.id, sequence=1)
    shown.observe(Progress(Step.CALL_WAITING, RUN, CHILD))
    assert shown._state().startswith("running task kid, ")
    shown.observe(Progress(Step.CALL_STARTED, child, own))
    assert shown._state().startswith("call 1: POST api.stripe.com/v1/charges, ")
    shown.observe(Progress(Step.CALL_SETTLED, child, own))
    for _ in range(2):
        shown.observe(Progress(Step.CALL_WAITING, child, waiting))
    assert shown._state().startswith("waiting for the event approval, ")
    assert capsys.readouterr().err == (
        f"Waiting for the event approval. Answer: sequential answer {child.id} approval "
        "--data JSON\n"
    )
    shown.observe(Progress(Step.ENDED, child))
    assert shown._state().startswith("running task kid, ")
    assert shown.calls == 1  # its own

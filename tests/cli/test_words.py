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


@pytest.mark.parametrize(
    "tree",
    [None, 5, "x", [], {"url": 5}, {"url": None, "headers": 5}, {"$call": [[], {}]}],
)
def test_any_arguments_can_be_named(tree: Any) -> None:
    for operation in ("http.fetch", "clock.sleep", "crm.find"):
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

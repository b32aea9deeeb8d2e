"""What a retry takes back, and what it keeps."""

from typing import Any

import pytest

from sequential.core.model import CallStatus, Failure, StackRun, Status, TaskConfig, TaskRun
from sequential.core.rewind import position, rewind
from sequential.errors import InvalidTransitionError

NOW = "2026-03-01T12:00:00.000Z"
RUN = "0195a000-0000-7000-8000-000000000000"


def a_run(**changes: Any) -> TaskRun:
    fields: dict[str, Any] = {
        "status": Status.FAILED,
        "turn": 3,
        "failed_turn": 3,
        "error": Failure("OSError", "gone"),
        "ended_at": NOW,
        "config": TaskConfig(name="job", timeout=60.0),
    }
    return TaskRun(id=RUN, task_identifier="job", input={}, **{**fields, **changes})


def a_call(sequence: int, status: str = "completed", **changes: Any) -> StackRun:
    fields: dict[str, Any] = {
        "operation": "tool.echo",
        "status": CallStatus(status),
        "sequence": sequence,
        "requested_turn": 1,
        "attempts": 2,
    }
    return StackRun(id=f"{RUN}:{sequence}", task_run_id=RUN, **{**fields, **changes})


def test_the_turn_that_failed_is_taken_back() -> None:
    failed = a_call(0, "failed", delivered_turn=3, delivered_order=0, error=Failure("OSError", "x"))
    fine = a_call(1, delivered_turn=3, delivered_order=1, result="kept")
    asked_then = a_call(2, "cancelled", requested_turn=3)

    assert position(a_run()) == 2
    amendment = rewind(a_run(), [failed, fine, asked_then], NOW)

    assert amendment.dropped == (2,)
    again, kept = amendment.updated
    assert (again.status, again.error, again.attempts) == (CallStatus.PENDING, None, 0)
    assert (kept.status, kept.result, kept.delivered_turn) == (CallStatus.COMPLETED, "kept", None)
    run = amendment.run
    assert (run.status, run.turn, run.failed_turn, run.error) == (Status.SUSPENDED, 2, None, None)
    assert (run.wake_at, run.ended_at) == (NOW, None)


def test_it_gets_its_time_again() -> None:
    assert rewind(a_run(), [], NOW).run.deadline == "2026-03-01T12:01:00.000Z"


@pytest.mark.parametrize(("status", "made_again"), [(200, False), (404, True), (503, True)])
def test_an_answer_that_made_the_task_fail_is_asked_for_again(
    status: int, made_again: bool
) -> None:
    call = a_call(0, operation="http.fetch", result={"status": status}, delivered_turn=3)
    (updated,) = rewind(a_run(), [call], NOW).updated
    assert (updated.status is CallStatus.PENDING) == made_again


def test_when_the_engine_gave_up_the_last_turn_stays() -> None:
    run = a_run(failed_turn=None, error=Failure("TimeoutError", "too long", code="timeout"))
    open_call = a_call(4, "cancelled", requested_turn=3)
    settled = a_call(5, requested_turn=3, result=1)

    assert position(run) == 3
    amendment = rewind(run, [open_call, settled], NOW)

    assert amendment.run.turn == 3
    assert amendment.dropped == ()
    (again,) = amendment.updated
    assert (again.sequence, again.status) == (4, CallStatus.PENDING)


def test_a_run_that_was_cancelled_goes_on() -> None:
    run = a_run(status=Status.CANCELLED, failed_turn=None, error=None)
    assert rewind(run, [], NOW).run.status is Status.SUSPENDED


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.RUNNING, Status.PAUSED])
def test_nothing_else_can_be_retried(status: Status) -> None:
    with pytest.raises(InvalidTransitionError):
        rewind(a_run(status=status), [], NOW)

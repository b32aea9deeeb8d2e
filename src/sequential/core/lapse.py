"""Runs that took too long: what is written down as the reason."""

from sequential.core.model import Failure, TaskRun


def timed_out(run: TaskRun) -> Failure:
    """It did not end before its deadline."""
    place = f", while waiting {_spot(run)}" if run.where else ""
    timeout = f"{run.config.timeout:g}" if run.config.timeout else "?"
    return _failure(run, f"the run took longer than its timeout of {timeout} s{place}", "timeout")


def expired(run: TaskRun) -> Failure:
    """It has waited for an answer from outside for longer than its task allows."""
    place = f" {_spot(run)}" if run.where else ""
    message = (
        f"expired: no answer came within the task's ttl of {run.config.ttl:g} s, while "
        f"waiting{place}"
    )
    return _failure(run, message, "expired")


def _failure(run: TaskRun, message: str, code: str) -> Failure:
    traceback = (run.where,) if run.where else ()
    return Failure(type="TimeoutError", message=message, code=code, traceback=traceback)


def _spot(run: TaskRun) -> str:
    """Where a run waits, for a message."""
    assert run.where
    return f"at line {run.where.line}" if run.config.graph is None else f"in {run.where.function}"

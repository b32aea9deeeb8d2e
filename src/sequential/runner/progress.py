"""What an observer of the runner is told, in the order in which it happens."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from sequential.core.model import StackRun, TaskRun


class Step(StrEnum):
    """What happened to a run that is being driven."""

    STARTED = "started"  # claimed by this process
    CALL_WAITING = "call_waiting"  # it is not due yet: performed at `call.due_at`
    CALL_STARTED = "call_started"  # handed to its service
    CALL_RETRYING = "call_retrying"  # the attempt failed; the next one is at `call.due_at`
    CALL_SETTLED = "call_settled"  # completed or failed
    PRINTED = "printed"  # the task printed `text`
    REPLAYED = "replayed"  # `text` says how many turns were replayed from the journal
    RUNTIME_DIED = "runtime_died"  # the sandbox process ended; the turn is taken again
    PARKED = "parked"  # waits in storage until `run.wake_at`
    ENDED = "ended"


class Progress(msgspec.Struct, frozen=True):
    """One thing that happened. `run` is as it was last committed."""

    step: Step
    run: TaskRun
    call: StackRun | None = None
    text: str = ""


Observer = Callable[[Progress], None]


def nobody(progress: Progress) -> None:
    """The observer that does not look."""

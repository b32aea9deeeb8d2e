"""What SQL functions refuse, and the errors that callers know."""

from sequential.core.model import Status, TaskRun
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    LeaseLostError,
    RunBusyError,
    RunChangedError,
    RunExistsError,
    RunNotFoundError,
    SequentialError,
    StorageError,
    TaskLimitError,
    TaskNotFoundError,
)
from sequential.storage import documents
from sequential.storage.sql_arguments import unescape


class Refused(Exception):  # noqa: N818 - it never reaches a user
    """A function has raised: `code` is that of the error, `detail` what is to be known about it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = unescape(detail)[:200]


def explained(refused: Refused, subject: str) -> SequentialError:
    """The error for a refusal; `subject` is the id of the run or the name of the task."""
    subject, detail = subject[:80], refused.detail
    match refused.code:
        case "run_not_found":
            return RunNotFoundError(f"there is no run {subject}")
        case "run_exists":
            return RunExistsError(f"run {subject} exists already")
        case "run_leased":
            return RunBusyError(
                f"run {subject} is being driven: its worker has it until {detail}, and longer if "
                "it goes on; wait for it, or stop that process first"
            )
        case "run_busy":
            return RunBusyError(
                f"run {detail} is being driven: wait until it is done; if its worker has died, "
                "`sequential-ecosystem resume` it first"
            )
        case "task_limit":
            return TaskLimitError(
                f"as many runs of {detail} are being driven as its `concurrency` allows: try again "
                "later"
            )
        case "invalid_transition":
            return _invalid_claim(subject, detail)
        case "lease_lost":
            return LeaseLostError()
        case "run_changed":
            return RunChangedError()
        case "document_changed":
            collection, _, key = subject.partition("/")
            return documents.changed(collection, key, int(detail))
        case "task_not_found":
            return TaskNotFoundError(f"there is no task {subject}")
        case "no_such_call":
            return StorageError(f"run {subject} has no such call: nothing was changed")
        case _:
            return StorageError(f"the database refused: {refused.code} {detail}".rstrip())


def _invalid_claim(run_id: str, status: str) -> SequentialError:
    """The error for claiming a run that has this status, from the table of all transitions."""
    try:
        apply(TaskRun(run_id, "", Status(status), None), Happening(Event.CLAIM), "")
    except (SequentialError, ValueError) as error:
        return error if isinstance(error, SequentialError) else StorageError(str(error))
    return StorageError(f"run {run_id} is {status}: it cannot be claimed")

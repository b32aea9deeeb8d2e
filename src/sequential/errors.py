"""Every exception of the package.

The docstring of a class is its default message and names the fix. `code` is stable, for machines;
`fault` says who can mend it: the `caller` (wrong use), the `task` (its code) or the `engine`
(storage, host, this package). `http_status` is what a server answers with.
"""

import inspect
from typing import ClassVar, Literal

Fault = Literal["caller", "task", "engine"]


class SequentialError(Exception):
    """Something went wrong in sequential-ecosystem."""

    code: ClassVar[str] = "error"
    fault: ClassVar[Fault] = "engine"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class InvalidNameError(SequentialError):
    """The name cannot be used: start with a letter, go on with letters, digits, "-" or "_"."""

    code = "invalid_name"
    fault = "caller"
    http_status = 400


class InvalidInputError(SequentialError):
    """The input does not fit the task: see its fields with `sequential-ecosystem describe`."""

    code = "invalid_input"
    fault = "caller"
    http_status = 400


class InvalidTaskError(SequentialError):
    """The task cannot be started: check it with `sequential-ecosystem run <task> --dry-run`."""

    code = "invalid_task"
    fault = "caller"
    http_status = 400


class TaskNotFoundError(SequentialError):
    """There is no such task: `sequential-ecosystem list` shows what there is."""

    code = "task_not_found"
    fault = "caller"
    http_status = 404


class TaskExistsError(SequentialError):
    """A task of this name exists already: choose another name, or delete it first."""

    code = "task_exists"
    fault = "caller"
    http_status = 409


class ScheduleNotFoundError(SequentialError):
    """There is no such schedule: `sequential-ecosystem schedules list` shows what there is."""

    code = "schedule_not_found"
    fault = "caller"
    http_status = 404


class WebhookNotFoundError(SequentialError):
    """There is no such webhook: `sequential-ecosystem webhooks list` shows what there is."""

    code = "webhook_not_found"
    fault = "caller"
    http_status = 404


class WebhookRefusedError(SequentialError):
    """The delivery was not signed with the secret of this webhook, or too long ago."""

    code = "webhook_refused"
    fault = "caller"
    http_status = 403


class InvalidLinkError(SequentialError):
    """The link was not made here, or was changed: ask for a new one."""

    code = "invalid_link"
    fault = "caller"
    http_status = 403


class LinkExpiredError(SequentialError):
    """The link has expired: ask for a new one."""

    code = "link_expired"
    fault = "caller"
    http_status = 410


class RunNotFoundError(SequentialError):
    """There is no such run: `sequential-ecosystem history <task>` shows what there is."""

    code = "run_not_found"
    fault = "caller"
    http_status = 404


class AmbiguousRunError(SequentialError):
    """Several runs begin like this: give more of the id."""

    code = "ambiguous_run"
    fault = "caller"
    http_status = 409


class RunExistsError(SequentialError):
    """A run of this id exists already."""

    code = "run_exists"
    fault = "caller"
    http_status = 409


class RunNotCompletedError(SequentialError):
    """The run has no result: it failed, was cancelled, or goes on."""

    code = "run_not_completed"
    fault = "task"
    http_status = 409


class RunBusyError(SequentialError):
    """Another process drives this run: wait for it, or stop that process first."""

    code = "run_busy"
    fault = "caller"
    http_status = 409


class TaskLimitError(RunBusyError):
    """As many runs of this task are being driven as its `concurrency` allows: try again later."""

    code = "task_limit"


class RunChangedError(SequentialError):
    """Somebody else has changed this run meanwhile: look at it again."""

    code = "run_changed"
    fault = "caller"
    http_status = 409


class DocumentChangedError(SequentialError):
    """Somebody else has changed this document meanwhile: read it again, then decide anew."""

    code = "document_changed"
    fault = "caller"
    http_status = 409


class TokenNotFoundError(SequentialError):
    """There is no such token: `sequential-ecosystem tokens list` shows what there is."""

    code = "token_not_found"
    fault = "caller"
    http_status = 404


class InvalidTransitionError(SequentialError):
    """The run's status does not allow this."""

    code = "invalid_transition"
    fault = "caller"
    http_status = 409


class ConfigError(SequentialError):
    """A setting is wrong: see them with `sequential-ecosystem config show`."""

    code = "config_error"
    fault = "caller"


class UnknownAdapterError(ConfigError):
    """There is no storage adapter of this name."""

    code = "unknown_adapter"


class SecretNotFoundError(SequentialError):
    """There is no such secret: set it with `sequential-ecosystem keys set <name>`."""

    code = "secret_not_found"
    fault = "caller"
    http_status = 404


class KeystoreError(SequentialError):
    """The keystore was written with another SEQUENTIAL_SECRET: set that one, or the keys again."""

    code = "keystore_error"
    fault = "caller"


class ServiceLoadError(SequentialError):
    """A service file could not be loaded: correct the file under services/."""

    code = "service_load_error"
    fault = "caller"


class ValueNotSupportedError(SequentialError):
    """A value cannot cross the border of a task: use JSON types, bytes, dates, Decimal or sets."""

    code = "value_not_supported"
    fault = "task"
    http_status = 400


class NonDeterminismError(SequentialError):
    """The journal no longer fits the task's source: the replay asked for another call."""

    code = "non_determinism"
    fault = "task"
    http_status = 409


class StorageError(SequentialError):
    """The store could not be read or written."""

    code = "storage_error"
    http_status = 503


class StorageUnreachableError(StorageError):
    """The store cannot be reached: start its server, or correct its address."""

    code = "storage_unreachable"


class StorageFullError(StorageError):
    """The disk is full: make room, then go on with `sequential-ecosystem resume`."""

    code = "storage_full"


class StorageReadOnlyError(StorageError):
    """The store cannot be written: give this user write permission on the tasks folder."""

    code = "storage_read_only"


class DamagedRunError(StorageError):
    """A file of this run is damaged; nothing was changed."""

    code = "damaged_run"


class LeaseLostError(StorageError):
    """Another worker has taken this run over; this worker's last turn was not written."""

    code = "lease_lost"
    http_status = 409


class RuntimeDiedError(SequentialError):
    """The sandbox process of a run ended unexpectedly."""

    code = "runtime_died"

"""The records: what a store keeps and what the layers hand to each other.

Field names are those of the original's tables. `input` and `result` hold JSON trees as written by
`core.values.to_json`, so a store needs to know JSON only; times are text (`core.times`).
"""

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from sequential.core import values
from sequential.core.schedule import Schedule
from sequential.core.webhook import Webhook

Record = TypeVar("Record", bound=msgspec.Struct)


class Status(StrEnum):
    """Where a run stands. The moves between them are in `core.transitions`."""

    PENDING = "pending"  # created, nobody has driven it yet
    RUNNING = "running"  # a worker holds its lease and drives it
    SUSPENDED = "suspended"  # waits in storage, costing no memory
    PAUSED = "paused"  # an operator stopped it
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """No worker will ever look at this run again, unless an operator retries it."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class CallStatus(StrEnum):
    """Where a call stands."""

    PENDING = "pending"  # waits for its due time
    IN_PROGRESS = "in_progress"  # handed to its service; performed again after a crash
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_settled(self) -> bool:
        return self in (CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.CANCELLED)


class Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a task's source. Lines and columns count from 1."""

    file: str
    line: int
    column: int = 0
    function: str = ""
    source: str = ""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a call or a run failed: an exception as data.

    `type` names the exception as the task sees it; `code` is stable, for machines: `task_error`,
    `timeout`, `limit`, `runtime_died`, `non_determinism`, `value_not_supported`, ...
    """

    type: str
    message: str
    code: str = "task_error"
    traceback: tuple[Frame, ...] = ()

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class InputField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of a task's input. `type` is one of `core.inputs.TYPES`."""

    name: str
    type: str = "string"
    description: str = ""
    required: bool = True
    default: Any = None


class RetryPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often and when a call that failed is tried again: times in seconds."""

    retries: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.1


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sandboxed run may use. Waiting for calls counts against nothing."""

    memory_mb: int = 256  # memory of the program, MiB
    turn_seconds: float = 5.0  # computing between two calls
    cpu_seconds: float = 300.0  # computing of the whole run
    recursion: int = 500
    output_kb: int = 1024  # printed text of one turn, KiB
    result_kb: int = 16384  # the run's result or one call's arguments, KiB


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an operator lets tasks of others do, whatever their own policy says; None is no limit.

    `hosts`, `services`, `secrets` are written as in `Allow`, `tasks` are names of tasks that may be
    run. Of `hosts`, "*" stands for all that are public, of `services` for all that a task need not
    name, of `tasks` for all. `limits` are the most a run may use, `timeout` seconds the longest it
    may take from creation to end.
    """

    hosts: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    limits: Limits | None = None
    timeout: float | None = None

    def permits_service(self, name: str, *, named_only: bool = False) -> bool:
        """Whether a service may be used; one that is `named_only` has to be named."""
        if self.services is None or name in self.services:
            return True
        return "*" in self.services and not named_only

    def permits_task(self, name: str) -> bool:
        return self.tasks is None or name in self.tasks or "*" in self.tasks


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a task may reach; None means everything that is public, a list means only this.

    `hosts` are host names, `*.example.com`, or addresses, each with an optional `:port`. A host
    named in full may also be a private one. `services` are names of services. `secrets` are names
    of secrets, or `google/*` for all whose names begin like that. What an operator has set for the
    one who sent the task or began the run is `within`, which holds as well.
    """

    hosts: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    within: tuple[Bounds, ...] = ()

    def permits_secret(self, name: str) -> bool:
        """Whether the task may use the secret of this name."""
        lists = (self.secrets, *(bounds.secrets for bounds in self.within))
        return all(_is_listed(name, names) for names in lists)


def _is_listed(name: str, names: tuple[str, ...] | None) -> bool:
    """Whether a list of secrets, as in `Allow`, has this one."""
    return names is None or any(
        name.startswith(one[:-1]) if one.endswith("/*") else name == one for one in names
    )


class TaskConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a task's `config.json`.

    `timeout` is seconds from creation to end, `ttl` seconds that a run may wait for an answer from
    outside before it fails as expired, `concurrency` how many of the task's runs may be driven at
    the same time by all workers of a store. `graph` is the text of the task's `graph.json`, in
    which the order of keys has a meaning, and `handler` the state of it that a run handles; both
    are no part of the file. `schedules` begin runs by themselves, `webhooks` when others ask.
    """

    name: str
    description: str = ""
    runtime: str = "sandbox"
    inputs: tuple[InputField, ...] = ()
    retry: RetryPolicy | None = None
    timeout: float | None = None
    allow: Allow = Allow()
    limits: Limits = Limits()
    ttl: float | None = None
    concurrency: int | None = None
    schedules: tuple[Schedule, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    graph: str | None = None
    handler: str | None = None


class TaskFunction(msgspec.Struct, frozen=True):
    """A task as it is stored: its program and its policy."""

    identifier: str
    code: str
    config: TaskConfig
    version: int = 1
    created_at: str = ""
    updated_at: str = ""
    filename: str = "code.py"


class RunEvent(msgspec.Struct, frozen=True):
    """An answer from outside that the program has not taken yet: it waits for one of this name."""

    id: str
    name: str
    at: str
    data: Any = None  # a JSON tree


class TaskRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """One execution of a task. It carries its own code and policy from the moment it is created."""

    id: str
    task_identifier: str
    status: Status
    input: Any
    result: Any = None
    error: Failure | None = None
    created_at: str = ""
    updated_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    turn: int = 0  # number of the last committed turn: the position in the journal
    where: Frame | None = None  # the expression the program waits at
    wake_at: str | None = None  # when a worker should look next; None: only an answer wakes it
    deadline: str | None = None
    crashes: int = 0  # how often the runtime died under this run
    lease_token: str | None = None
    lease_until: str | None = None
    priority: int = 0  # of the runs that are due, those with more are driven first
    parent_run_id: str | None = None  # the run whose `run_task` made this one
    expires_at: str | None = None  # it fails if no answer from outside has come by then
    failed_turn: int | None = None  # the turn in which the program's own error ended it
    answers: int = 0  # how often something came from outside; written by `amend` only
    events: tuple[RunEvent, ...] = ()  # what has come and was not taken; see `Commit.taken`
    filename: str = "code.py"
    config: TaskConfig = TaskConfig(name="")
    code: str = ""

    @property
    def value(self) -> Any:
        """The result as the Python value the task returned."""
        return values.from_json(self.result)


class StackRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a run: what was asked for, how it went, and when the program got the answer."""

    id: str
    task_run_id: str
    operation: str  # "<service>.<method>"
    status: CallStatus
    input: Any = None
    result: Any = None
    error: Failure | None = None
    parent_stack_run_id: str | None = None
    created_at: str = ""
    updated_at: str = ""
    sequence: int = 0  # the first call of a run is 0
    fingerprint: str = ""  # of operation and input: identity beyond the number
    attempts: int = 0  # how often it was handed to its service and came back
    due_at: str | None = None  # not to be performed earlier: sleeping, or waiting for a retry
    duration: float | None = None  # seconds of the last attempt
    size: int | None = None  # bytes of the result's JSON
    where: Frame | None = None  # the expression that asked for it
    requested_turn: int = 0
    delivered_turn: int | None = None
    delivered_order: int | None = None  # None: the program gave up the call in that turn
    delivered_at: str | None = None  # the clock the program was shown in that turn

    @property
    def service(self) -> str:
        return self.operation.partition(".")[0]

    @property
    def method(self) -> str:
        return self.operation.partition(".")[2]


class Call(msgspec.Struct, frozen=True):
    """A request of a program. `sequence` counts the calls of a run from 0.

    `arguments` is a JSON tree made by `core.values.arguments_to_json`. `identity`, a tree too, is
    what has to be the same in a replay, if that is less than all the arguments.
    """

    sequence: int
    service: str
    method: str
    arguments: Any
    where: Frame | None = None
    identity: Any = None

    @property
    def operation(self) -> str:
        return f"{self.service}.{self.method}"


class Outcome(msgspec.Struct, frozen=True):
    """A call's value, a JSON tree made by `core.values`, or its error."""

    value: Any = None
    error: Failure | None = None


class Waiting(msgspec.Struct, frozen=True):
    """The program waits. Only outcomes of these calls can be delivered now."""

    calls: tuple[int, ...]


class Finished(msgspec.Struct, frozen=True):
    """The program returned. `value` is a JSON tree made by `core.values`."""

    value: Any


class Raised(msgspec.Struct, frozen=True):
    """The program ended with an error that it did not catch, or ran into a limit."""

    error: Failure


class Turn(msgspec.Struct, frozen=True):
    """What one advance of a program brought."""

    state: Waiting | Finished | Raised
    calls: tuple[Call, ...] = ()
    log: str = ""  # what the program printed
    dropped: tuple[int, ...] = ()  # calls whose outcome it does not want any more
    notes: tuple[int, ...] = ()  # new calls that nobody performs: they are for the journal


class Snapshot(msgspec.Struct, frozen=True):
    """A program's state after a turn, sealed (`core.snapshot`). A cache: it may be lost."""

    task_run_id: str
    turn: int
    data: bytes


class LogLine(msgspec.Struct, frozen=True):
    """What a run printed in one turn."""

    at: str
    text: str


class Document(msgspec.Struct, frozen=True):
    """A small record of the server: a token, a schedule, an entry of the audit log."""

    collection: str
    key: str
    value: Any  # a JSON tree
    version: int  # from 1, one more with every put


class Commit(msgspec.Struct, frozen=True):
    """Everything one step writes: all of it or nothing, and only while `token` holds the lease.

    `run` is the whole new record. `requested` are new calls, `updated` calls whose status or
    outcome changed (whole records, delivered ones included). `taken` are ids of events that the
    program has been given by this step. What comes from outside is not the step's to overwrite:
    see `core.journal.committed`.
    """

    run: TaskRun
    token: str
    requested: tuple[StackRun, ...] = ()
    updated: tuple[StackRun, ...] = ()
    log: str = ""
    snapshot: Snapshot | None = None
    taken: tuple[str, ...] = ()


class Amendment(msgspec.Struct, frozen=True):
    """A change of a run from outside, by an operator or by an answer: all of it or nothing.

    `updated` are calls that changed (whole records), `dropped` the numbers of calls to be removed.
    """

    run: TaskRun
    updated: tuple[StackRun, ...] = ()
    dropped: tuple[int, ...] = ()


def evolve(record: Record, **changes: Any) -> Record:
    """A copy of a record with some fields changed."""
    return msgspec.structs.replace(record, **changes)

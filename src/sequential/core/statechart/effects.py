"""What a macrostep asks the engine to do, in order; to be committed with the snapshot."""

from typing import Any

import msgspec

from sequential.core.model import RetryPolicy


class InvokeEffect(msgspec.Struct, frozen=True, tag="invoke", tag_field="do", omit_defaults=True):
    """Run a handler, or a child task, and deliver its outcome with `key`.

    `handler` is the function in the code; `task` the child task of a `task:<name>`. `timeout` is
    in milliseconds.
    """

    key: str
    id: str
    src: str
    state: str
    input: Any
    handler: str | None = None
    task: str | None = None
    retry: RetryPolicy | None = None
    timeout: float | None = None


class CancelEffect(msgspec.Struct, frozen=True, tag="cancel", tag_field="do"):
    """Stop a handler whose state was left: its outcome is not wanted any more."""

    key: str
    id: str


class TimerEffect(msgspec.Struct, frozen=True, tag="timer", tag_field="do"):
    """Call `Machine.fire` with `key` at `due`, milliseconds since 1970 by the engine's clock."""

    key: str
    id: str
    due: float
    event: dict[str, Any]


class UntimerEffect(msgspec.Struct, frozen=True, tag="untimer", tag_field="do"):
    """Forget a timer."""

    key: str


class LogEffect(msgspec.Struct, frozen=True, tag="log", tag_field="do"):
    """Write to the log of the run."""

    params: Any


class EmitEffect(msgspec.Struct, frozen=True, tag="emit", tag_field="do"):
    """Publish in the stream of events of the run."""

    params: Any


class ActionEffect(msgspec.Struct, frozen=True, tag="action", tag_field="do"):
    """A named action was met; only in graphs that are read without code."""

    type: str
    params: Any


class TakenTransition(msgspec.Struct, frozen=True):
    """A transition that was taken: ids of its source and targets, and the event it waits for.

    The event is empty for `always`; the targets are None when only actions run.
    """

    source: str
    event: str
    targets: tuple[str, ...] | None


class StepEffect(msgspec.Struct, frozen=True, tag="step", tag_field="do"):
    """What happened in the macrostep, for people: the first effect of each that did anything.

    `left` and `entered` are ids of states in the order in which it happened, `value` is that of
    the snapshot. `at` is the time, milliseconds since 1970. Of a very long macrostep only the
    beginning is kept.
    """

    event: str
    at: float
    taken: tuple[TakenTransition, ...]
    left: tuple[str, ...]
    entered: tuple[str, ...]
    value: Any


Effect = (
    InvokeEffect
    | CancelEffect
    | TimerEffect
    | UntimerEffect
    | LogEffect
    | EmitEffect
    | ActionEffect
    | StepEffect
)

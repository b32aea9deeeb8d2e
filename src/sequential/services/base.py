"""What a service is: a named set of methods that the engine calls for a task."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sequential.core.model import Allow, Failure, Outcome, RetryPolicy


class Secrets(Protocol):
    """The secrets of the keystore that a call may use. They are got at the moment of the call.

    What a call got is taken out of its value and its error again before they are written down.
    """

    async def get(self, name: str) -> str:
        """The value of a secret.

        Raises `CallError` when there is none of this name or the task may not use it, `TryAgain`
        when the store cannot be read at the moment; let them pass.
        """
        ...

    def redacted(self, text: str) -> str:
        """`text` without the secrets that this call got; for what a service logs."""
        ...


class NoSecrets:
    """An empty keystore."""

    async def get(self, name: str) -> str:
        raise CallError("LookupError", f"there is no secret {name!r}", code="secret_not_found")

    def redacted(self, text: str) -> str:
        return text


class Secret(msgspec.Struct, frozen=True):
    """Marks a parameter of a local service's function that is filled in from the keystore.

    As in `def find(id: str, token: Annotated[str, Secret("crm/token")])`. Tasks do not see it.
    """

    name: str


class CallContext(msgspec.Struct, frozen=True):
    """What a service may know about the call it performs.

    `idempotency_key` is the same for every attempt of the call, also after a crash: send it along,
    or keep it with what was done, and doing the call twice does no harm. `created_at` is when the
    task asked for it. `retried` says that it had failed, or was given up, and is the first attempt
    since the run was retried. `secrets` resolves names of secrets.
    """

    run_id: str
    task: str
    sequence: int
    attempt: int  # from 1
    idempotency_key: str
    allow: Allow = Allow()
    retry: RetryPolicy = RetryPolicy()
    created_at: str = ""
    retried: bool = False
    secrets: Secrets = NoSecrets()


class Service(Protocol):
    """Performs calls. One instance serves all runs of a process, many calls at a time.

    It may have two methods more. `describe() -> services.describe.ServiceDescription` says what its
    methods take and give. `accepts(method: str) -> bool` is for a service with more methods than
    it can list, such as one elsewhere: `methods()` then has the most important ones, and tasks may
    call all that it accepts. And two marks: `named_only = True` says that a task has to name it in
    its `allow.services`, `of_a_run = True` that it means nothing outside of a run.
    """

    name: str

    def methods(self) -> Sequence[str]:
        """The dotted names of its methods, as in `users.messages.list`."""
        ...

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """Seconds to wait, durably, before the call is performed; 0 for nearly all."""
        ...

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Perform one call and return its value.

        Raise `CallError` for an error the task shall see, `TryAgain` when another attempt may do
        better, `NotYet` when the answer comes from outside and is not there. Any other exception
        reaches the task as `RuntimeError`.
        """
        ...

    async def close(self) -> None:
        """Give back connections and the like."""
        ...


class CallError(Exception):
    """A call failed; the task sees an exception of this type, one that the sandbox knows."""

    def __init__(self, type: str, message: str, code: str = "call_failed") -> None:
        super().__init__(message)
        self.failure = Failure(type=type, message=message, code=code)


class TryAgain(Exception):  # noqa: N818 - it is advice, not an error
    """An attempt that did not work out; another one may.

    `outcome` is what the task gets if no attempt is left, `retry_after` the seconds the other side
    asked to wait, `retries` how many more attempts this call allows when it differs from the task.
    """

    def __init__(
        self, outcome: Outcome, *, retry_after: float | None = None, retries: int | None = None
    ) -> None:
        super().__init__(str(outcome.error or "the answer asks for another attempt"))
        self.outcome = outcome
        self.retry_after = retry_after
        self.retries = retries


class NotYet(Exception):  # noqa: N818 - nothing is wrong
    """The call goes on elsewhere: it is performed again when something comes from outside.

    `look_again` is after how many seconds at the latest; None: only then. It is for `events` and
    `tasks`, whose news the engine hears of.
    """

    def __init__(self, look_again: float | None = None) -> None:
        super().__init__("the answer is not there yet")
        self.look_again = look_again


def unknown_method(service: Service, method: str) -> CallError:
    """The error for a method that a service does not have, with the ones it has."""
    names = sorted(service.methods())
    close = difflib.get_close_matches(method, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return CallError(
        "RuntimeError",
        f"the service {service.name!r} has no method {method!r}; {hint}It has: {listed}",
        code="unknown_method",
    )

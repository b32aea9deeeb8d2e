"""The service "keystore": the project's secrets for tasks that look after them.

    await services.keystore.setKey(key="token", value=token, namespace="crm")

A secret of a namespace is called `<namespace>/<key>`; those of the namespace "global" have no
prefix. Only tasks whose `allow.services` names this service may use it, and only for secrets that
their `allow.secrets` lists. An operator, by hand or over HTTP, may use it for all of them.

What a task sends and is sent is written into its journal, values of secrets included. So a task
that only *uses* a secret names it, in a header of `fetch` or by a service, and needs none of this;
and `getKey` is refused unless the operator has said that secrets may be shown.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from sequential.core.model import Failure, Outcome
from sequential.core.names import check_secret_name
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    SecretNotFoundError,
    SequentialError,
    StorageError,
)
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.local import LocalService

GLOBAL = "global"
_POSITIONAL = {"getKey": 1, "hasKey": 1, "deleteKey": 1, "setKey": 2}  # without a namespace
REVEAL = "KEYSTORE_REVEAL"


class Keys(Protocol):
    """The keystore of the process."""

    async def get(self, name: str) -> str:
        """A value; `SecretNotFoundError` if there is none."""
        ...

    async def set(self, name: str, value: str) -> None:
        """Keep a value, in place of another of this name."""
        ...

    async def delete(self, *names: str) -> None:
        """Remove values; `SecretNotFoundError` if one is not there."""
        ...

    async def list(self) -> list[str]:
        """All names, sorted."""
        ...


class ServerTime(msgspec.Struct, frozen=True):
    """The time of this machine: as ISO 8601 in UTC, and in milliseconds since 1970."""

    timestamp: str
    epoch: int


class KeystoreService(LocalService):
    """The secrets that a task may have, by namespace. `reveal` permits `getKey`."""

    def __init__(self, keys: Keys | None, *, reveal: bool = False) -> None:
        super().__init__("keystore", _DESCRIPTION)
        self._given = keys
        self._reveal = reveal
        self.add(self._get, "getKey", retry="safe")
        self.add(self._set, "setKey", retry="idempotent")
        self.add(self._delete, "deleteKey", retry="idempotent")
        self.add(self._has, "hasKey", retry="safe")
        self.add(self._list, "listKeys", retry="safe")
        self.add(self._namespaces, "listNamespaces", retry="safe")
        self.add(self._time, "getServerTime", retry="safe")

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Perform one call.

        With one argument too many the first is the namespace, as in `getKey("global", "token")`
        of the original.
        """
        too_many = len(args) == 1 + _POSITIONAL.get(method, len(args))
        if too_many and "namespace" not in kwargs:
            args, kwargs = args[1:], {**kwargs, "namespace": args[0]}
        return await super().call(method, args, kwargs, context)

    async def _get(self, context: CallContext, key: str, namespace: str = GLOBAL) -> str:
        """The value of a secret. It is written into the journal of the run that asks for it."""
        name = _permitted(context, namespace, key)
        if not self._reveal:
            raise CallError(
                "PermissionError",
                f"keystore.getKey would show the secret {name!r} and put it into journals: name it "
                f"in a header of fetch or use it in a service, or the operator sets {REVEAL}=true",
                code="refused",
            )
        with _told(name):
            return await self._keys.get(name)

    async def _set(
        self, context: CallContext, key: str, value: str, namespace: str = GLOBAL
    ) -> bool:
        """Keep a secret, in place of another of this name. Its value is in the journal of the run.

        Returns True.
        """
        name = _permitted(context, namespace, key)
        with _told(name):
            await self._keys.set(name, value)
        return True

    async def _delete(self, context: CallContext, key: str, namespace: str = GLOBAL) -> bool:
        """Remove a secret. Returns whether it was there."""
        name = _permitted(context, namespace, key)
        with _told(name):
            if is_there := name in await self._keys.list():
                await self._keys.delete(name)
        return is_there

    async def _has(self, context: CallContext, key: str, namespace: str = GLOBAL) -> bool:
        """Whether there is a secret of this name."""
        name = _permitted(context, namespace, key)
        with _told(name):
            return name in await self._keys.list()

    async def _list(self, context: CallContext, namespace: str = GLOBAL) -> list[str]:
        """The keys of a namespace that the task may use, sorted."""
        names = await self._names(context)
        return [key for space, key in map(_parts, names) if space == namespace]

    async def _namespaces(self, context: CallContext) -> list[str]:
        """The namespaces with keys that the task may use, sorted; "global" is one of them."""
        return sorted({GLOBAL, *(_parts(name)[0] for name in await self._names(context))})

    async def _time(self) -> ServerTime:
        """The time of the machine."""
        moment = datetime.now(UTC)
        text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return ServerTime(text, int(moment.timestamp() * 1000))

    async def _names(self, context: CallContext) -> list[str]:
        _check_listed(context)
        with _told(GLOBAL):
            names = await self._keys.list()
        # One that was called "global/..." by other means would be taken for one without a prefix.
        hidden = f"{GLOBAL}/"
        return [n for n in names if context.allow.permits_secret(n) and not n.startswith(hidden)]

    @property
    def _keys(self) -> Keys:
        if self._given is None:
            raise CallError("RuntimeError", "keystore: this process has no keystore")
        return self._given


def service(keys: Keys | None = None, reveal: bool | None = None) -> KeystoreService:
    """The service over the keystore of a process; `KEYSTORE_REVEAL=true` permits `getKey`."""
    if reveal is None:
        reveal = os.environ.get(REVEAL, "").lower() in ("1", "true", "yes", "on")
    return KeystoreService(keys, reveal=reveal)


_DESCRIPTION = """\
The project's secrets, for tasks whose allow.secrets lists them.

What is sent and received here is written into the run's journal."""


def _permitted(context: CallContext, namespace: str, key: str) -> str:
    """The name of a secret that the task may use."""
    _check_listed(context)
    name = key if namespace == GLOBAL else f"{namespace}/{key}"
    try:
        check_secret_name(name)
    except InvalidNameError as error:
        raise CallError("ValueError", f"keystore: {error}", code="invalid_call") from None
    if "/" in key:  # one name for one secret
        told = f"keystore: {key!r} is no key: what stands before the last / is its namespace"
        raise CallError("ValueError", told, code="invalid_call")
    if not context.allow.permits_secret(name):
        listed = ", ".join(context.allow.secrets or ()) or "no secret"
        raise CallError(
            "PermissionError",
            f"the secret {name!r} is not in the task's allow.secrets ({listed})",
            code="refused",
        )
    return name


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """What goes wrong in the keystore, as the task is told of it."""
    try:
        yield
    except SecretNotFoundError as error:  # without the names of others
        cure = f"set it with `sequential-ecosystem keys set {name}`"
        raise CallError("LookupError", f"there is no secret {name!r}: {cure}", error.code) from None
    except InvalidInputError as error:
        raise CallError("ValueError", str(error), code="invalid_call") from None
    except StorageError as error:
        failure = Failure("OSError", f"the keystore cannot be reached: {error}", "keystore_error")
        raise TryAgain(Outcome(error=failure)) from error
    except SequentialError as error:
        raise CallError("RuntimeError", str(error), code=error.code) from error


def _check_listed(context: CallContext) -> None:
    if context.allow.secrets is None and context.task:  # without one it is an operator's call
        raise CallError(
            "PermissionError",
            "keystore: only a task that names its secrets in allow.secrets may look after them",
            code="refused",
        )


def _parts(name: str) -> tuple[str, str]:
    """Namespace and key of a name."""
    namespace, _, key = name.rpartition("/")
    return namespace or GLOBAL, key

"""Services written in Python by whoever hosts the tasks: a file per service, or a package.

A file `services/crm.py` of a project is the service "crm", and each of its public functions a
method: `await services.crm.find_customer(email=...)` calls `find_customer`. A function may be
`async`; one that is not runs in a thread. A parameter annotated `CallContext` is filled in and not
seen by the task, and so is `token: Annotated[str, Secret("crm/token")]`, from the keystore. Methods
with dots in their names are declared:

    service = LocalService("gmail")

    @service.method("users.messages.list")
    def list_messages(user: str, q: str = "") -> list[dict]: ...

This is trusted code: it runs in the worker's process, with all of its rights.
"""

import asyncio
import inspect
import logging
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any, TypeVar

from sequential.core.names import check_service_name
from sequential.services.base import CallContext, CallError, Secret, TryAgain, unknown_method

THREADS = 32  # calls of one service that may run at a time, if its functions are not `async`

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class LocalService:
    """A service made of Python functions."""

    def __init__(self, name: str) -> None:
        self.name = check_service_name(name)
        self._methods: dict[str, _Method] = {}
        self._threads: ThreadPoolExecutor | None = None

    def method(self, name: str | None = None) -> Callable[[_Function], _Function]:
        """Decorate a function: it becomes the method `name`, which may hold dots.

        Without a name it is called like the function. `ValueError` for a name that is taken or
        that is no dotted Python name.
        """

        def add(function: _Function) -> _Function:
            self.add(function, name or function.__name__)
            return function

        return add

    def add(self, function: Callable[..., Any], name: str) -> None:
        """Make a function the method `name`."""
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} cannot name a method: use Python names with dots between")
        if name in self._methods:
            raise ValueError(f"the service {self.name!r} has two methods {name!r}")
        self._methods[name] = _Method(function, f"{self.name}.{name}")

    @classmethod
    def of_module(cls, name: str, module: ModuleType) -> "LocalService":
        """A service of the public functions that are defined in a module, not imported into it."""
        service = cls(name)
        for key, value in vars(module).items():
            public = inspect.isfunction(value) and not key.startswith("_")
            if public and value.__module__ == module.__name__:
                service.add(value, key)
        return service

    def methods(self) -> Sequence[str]:
        return tuple(self._methods)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Call the function. What it raises reaches the task as `RuntimeError`.

        A function that raises `CallError` chooses the error itself, `TryAgain` asks for another
        attempt.
        """
        found = self._methods.get(method)
        if found is None:
            raise unknown_method(self, method)
        bound = found.bind(args, kwargs, await found.provided(context))
        if found.is_async:
            try:
                return await found.function(*bound.args, **bound.kwargs)
            except (Exception, SystemExit) as error:
                raise _as_call_error(found.name, error, context) from error
        if self._threads is None:
            # Its own threads: a slow service shall not hold up DNS and files, which use the loop's.
            self._threads = ThreadPoolExecutor(THREADS, f"service-{self.name}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, copy_context().run, _perform, found, bound, context
        )

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


class _Method:
    """A function and how it may be called."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        self._provided = _provided_parameters(function, self._signature)
        self._public = self._signature.replace(
            parameters=[
                p for p in self._signature.parameters.values() if p.name not in self._provided
            ]
        )

    async def provided(self, context: CallContext) -> dict[str, Any]:
        """The arguments that the engine fills in: the context of the call, and secrets."""
        return {
            name: await context.secrets.get(what.name) if isinstance(what, Secret) else context
            for name, what in self._provided.items()
        }

    def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], provided: Mapping[str, Any]
    ) -> inspect.BoundArguments:
        """All arguments of one call; `CallError` when those of the task do not fit."""
        try:
            bound = self._public.bind(*args, **kwargs)
        except TypeError as error:
            parameters = self._public.replace(return_annotation=inspect.Signature.empty)
            raise CallError(
                "TypeError", f"{self.name}{parameters}: {error}", code="invalid_call"
            ) from None
        bound.apply_defaults()
        if not provided:
            return bound
        arguments = {**bound.arguments, **provided}
        ordered = {name: arguments[name] for name in self._signature.parameters}
        return inspect.BoundArguments(self._signature, ordered)


def _perform(method: _Method, bound: inspect.BoundArguments, context: CallContext) -> Any:
    try:
        return method.function(*bound.args, **bound.kwargs)
    except (Exception, SystemExit) as error:
        raise _as_call_error(method.name, error, context) from error


def _as_call_error(name: str, error: BaseException, context: CallContext) -> Exception:
    if isinstance(error, CallError | TryAgain):
        return error
    if _log.isEnabledFor(logging.INFO):
        told = context.secrets.redacted("".join(traceback.format_exception(error)))
        _log.info("the service method %s failed: %s", name, told)
    return CallError("RuntimeError", f"{type(error).__name__}: {error}".removesuffix(": "))


def _provided_parameters(
    function: Callable[..., Any], signature: inspect.Signature
) -> dict[str, Secret | type[CallContext]]:
    """The parameters that the engine fills in, and with what."""
    found: dict[str, Secret | type[CallContext]] = {}
    for name, parameter in signature.parameters.items():
        hint = _hint(function, parameter.annotation)
        if hint is CallContext or str(hint).rpartition(".")[2] == "CallContext":
            found[name] = CallContext
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Secret):
                found[name] = mark
    return found


def _hint(function: Callable[..., Any], annotation: Any) -> Any:
    """What an annotation means; one that only type checkers can see is left as it is."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:
        return annotation

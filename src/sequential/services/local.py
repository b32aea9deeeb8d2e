"""Services written in Python by whoever hosts the tasks: a file per service, or a package.

A file `services/crm.py` of a project is the service "crm", and each of its public functions a
method: `await services.crm.find_customer(email=...)` calls `find_customer`. A function may be
`async`; one that is not runs in a thread. A parameter annotated `CallContext` is filled in and not
seen by the task, and so is `token: Annotated[str, Secret("crm/token")]`, from the keystore. The
annotations are held: arguments of another type are a `TypeError` in the task. Methods with dots in
their names, and those with more to be said about them, are declared:

    service = LocalService("gmail")

    @service.method("users.messages.list", timeout=30, retry="safe")
    def list_messages(user: str, q: str = "") -> list[dict[str, str]]: ...

This is trusted code: it runs in the worker's process, with all of its rights.
"""

import asyncio
import inspect
import logging
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any, TypeVar, get_args

from sequential.core.model import Failure, Outcome
from sequential.core.names import check_service_name
from sequential.services.base import CallContext, CallError, TryAgain, unknown_method
from sequential.services.describe import MethodDescription, Retry, ServiceDescription
from sequential.services.signature import TypedSignature, invalid_call

THREADS = 32  # calls of one service that may run at a time, if its functions are not `async`
# What went wrong on the way to somebody else, so that another attempt may do better.
_ON_THE_WAY = (ConnectionError, TimeoutError, socket.gaierror)

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class LocalService:
    """A service made of Python functions. `description` is what people are told of it."""

    def __init__(self, name: str, description: str = "") -> None:
        self.name = check_service_name(name)
        self.description = description
        self._methods: dict[str, _Method] = {}
        self._threads: ThreadPoolExecutor | None = None

    def method(
        self,
        name: str | None = None,
        *,
        timeout: float | None = None,
        retry: Retry = "unsafe",
        description: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """Decorate a function: it becomes the method `name`, which may hold dots.

        Without a name it is called like the function. After `timeout` seconds an attempt is given
        up, with a `TimeoutError` in the task; a function that runs in a thread goes on there, and
        nobody takes what it returns. `retry` says what it does to be called twice: "safe" (nothing)
        and "idempotent" (the same as once) have the engine try again after a `ConnectionError` or
        a `TimeoutError`; "unsafe" only if the function raises `TryAgain`. `description` stands for
        the docstring. `ValueError` for a name that is taken or that is no dotted Python name.
        """

        def add(function: _Function) -> _Function:
            self.add(
                function,
                name or function.__name__,
                timeout=timeout,
                retry=retry,
                description=description,
            )
            return function

        return add

    def add(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        timeout: float | None = None,
        retry: Retry = "unsafe",
        description: str | None = None,
    ) -> None:
        """Make a function the method `name`; all else as for `method`."""
        # Tasks call a service with a dash by `call_host_tool`, which takes any name of a method.
        plain = name.replace("-", "_") if "-" in self.name else name
        if not all(part.isidentifier() for part in plain.split(".")):
            raise ValueError(f"{name!r} cannot name a method: use Python names with dots between")
        if name in self._methods:
            raise ValueError(f"the service {self.name!r} has two methods {name!r}")
        if retry not in get_args(Retry):
            raise ValueError(f"{name}: retry is one of {', '.join(get_args(Retry))}, not {retry!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"{name}: timeout must be more than 0 seconds, this is {timeout!r}")
        self._methods[name] = _Method(
            function, f"{self.name}.{name}", timeout, retry, description or _told_by(function)
        )

    @classmethod
    def of_module(cls, name: str, module: ModuleType) -> "LocalService":
        """A service of the public functions that are defined in a module, not imported into it."""
        service = cls(name, inspect.getdoc(module) or "")
        for key, value in vars(module).items():
            public = inspect.isfunction(value) and not key.startswith("_")
            if public and value.__module__ == module.__name__:
                service.add(value, key)
        return service

    def methods(self) -> Sequence[str]:
        return tuple(self._methods)

    def describe(self) -> ServiceDescription:
        """Its methods with their types, as JSON Schema, and what their docstrings say."""
        methods = [method.describe(name) for name, method in self._methods.items()]
        return ServiceDescription(self.name, self.description, tuple(methods))

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Call the function. What it raises reaches the task as `RuntimeError`.

        A function that raises `CallError` chooses the error itself, `TryAgain` asks for another
        attempt. Arguments that do not fit its annotations are a `CallError` of type `TypeError`.
        """
        found = self._methods.get(method)
        if found is None:
            raise unknown_method(self, method)
        bound = await found.bind(args, kwargs, context)
        try:
            async with asyncio.timeout(found.timeout) as limit:
                return found.value_of(await self._perform(found, bound, context))
        except TimeoutError:
            assert limit.expired()  # those of the function are `CallError` by now
            raise found.timed_out() from None

    async def _perform(
        self, method: "_Method", bound: inspect.BoundArguments, context: CallContext
    ) -> Any:
        if method.is_async:
            try:
                return await method.function(*bound.args, **bound.kwargs)
            except (Exception, SystemExit) as error:
                raise method.as_call_error(error, context) from error
        if self._threads is None:
            # Its own threads: a slow service shall not hold up DNS and files, which use the loop's.
            self._threads = ThreadPoolExecutor(THREADS, f"service-{self.name}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, copy_context().run, method.perform, bound, context
        )

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


class _Method:
    """A function and how it may be called."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        timeout: float | None,
        retry: Retry,
        description: str,
    ) -> None:
        self.function = function
        self.timeout = timeout
        self.is_async = inspect.iscoroutinefunction(function)
        self._name = name
        self._retry = retry
        self._description = description
        self._signature = TypedSignature(function)

    def describe(self, name: str) -> MethodDescription:
        signature = self._signature
        return MethodDescription(
            name,
            self._description,
            signature.parameters(),
            signature.result(),
            self._retry,
            self.timeout,
            signature.secrets,
        )

    async def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> inspect.BoundArguments:
        """All arguments of one call; `CallError` when those of the task do not fit."""
        try:
            given = self._signature.bind(args, kwargs)
        except TypeError as error:
            raise invalid_call(self._name, self._signature, error) from None
        return await self._signature.completed(given, context)

    def value_of(self, returned: Any) -> Any:
        return self._signature.value_of(returned)

    def perform(self, bound: inspect.BoundArguments, context: CallContext) -> Any:
        """Call a function that is not `async`, in a thread."""
        try:
            return self.function(*bound.args, **bound.kwargs)
        except (Exception, SystemExit) as error:
            raise self.as_call_error(error, context) from error

    def as_call_error(self, error: BaseException, context: CallContext) -> Exception:
        """What the engine is told of an error of the function."""
        if isinstance(error, CallError | TryAgain):
            return error
        if _log.isEnabledFor(logging.INFO):
            told = context.secrets.redacted("".join(traceback.format_exception(error)))
            _log.info("the service method %s failed: %s", self._name, told)
        failure = Failure(
            "RuntimeError", f"{type(error).__name__}: {error}".removesuffix(": "), "call_failed"
        )
        return self._failed(failure, may_pass=isinstance(error, _ON_THE_WAY))

    def timed_out(self) -> Exception:
        """An attempt was given up."""
        told = f"{self._name}: no answer within {self.timeout:g} s"
        return self._failed(Failure("TimeoutError", told, "timeout"), may_pass=True)

    def _failed(self, failure: Failure, *, may_pass: bool) -> Exception:
        if may_pass and self._retry != "unsafe":
            return TryAgain(Outcome(error=failure))
        return CallError(failure.type, failure.message, failure.code)


def _told_by(function: Callable[..., Any]) -> str:
    """The docstring of a function; built-in types and the like have one that is not about us."""
    return (inspect.getdoc(function) or "") if inspect.isroutine(function) else ""

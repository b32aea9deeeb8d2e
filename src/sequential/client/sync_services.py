"""Services that run on a server, for programs that are not asynchronous.

gapi = sync_service_proxy("gapi", base_url="https://host", token=token)
print(gapi.admin.domains.list(customer="my_customer"))
"""

import threading
import weakref
from typing import Any, Self

from sequential.client.chains import Chain
from sequential.client.connection import DEADLINE, TIMEOUT
from sequential.client.services import Dialect, RemoteService
from sequential.core.model import RetryPolicy
from sequential.runner.loop_thread import LoopThread


class _Caller:
    """Performs chains in a thread of its own, which begins with the first of them."""

    def __init__(self, service: RemoteService) -> None:
        self.service = service
        self._loop = LoopThread(service.connection.close, "SyncServiceProxy")
        self._lock = threading.Lock()
        weakref.finalize(self, self._loop.abandon).atexit = False

    def perform(self, chain: Chain) -> Any:
        with self._lock:
            if not self.service.connection.is_open:
                self._loop.start()
                self._loop.call(self.service.connection.open())
        return self._loop.call(self.service.perform(chain))

    def close(self) -> None:
        with self._lock:
            if self.service.connection.is_open:
                self._loop.close()


class SyncServiceProxy:
    """A service on a server. Names after it are recorded, and a call of the last one is sent.

    Such a call gives the result. Where there may be calls in between (`dialect="chain"`), empty
    brackets behind the last one send it: `db.from_("x").select("*")()`. It may be used from
    several threads, and with `with`, which closes its connections at the end.
    """

    __slots__ = ("_caller", "_chain")

    def __init__(self, caller: _Caller, chain: Chain = Chain()) -> None:  # noqa: B008
        self._caller = caller
        self._chain = chain

    def __getattr__(self, name: str) -> "SyncServiceProxy":
        if name.startswith("_"):  # what Python itself looks for is no method of a service
            raise AttributeError(f"methods of services do not begin with _: {name}")
        return SyncServiceProxy(self._caller, self._chain.named(name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._chain.is_called and not args and not kwargs:
            return self._caller.perform(self._chain)
        chain = self._chain.called(args, kwargs)
        if self._caller.service.takes_chains:
            return SyncServiceProxy(self._caller, chain)
        return self._caller.perform(chain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._caller.close()

    def __repr__(self) -> str:
        dot = "." if self._chain.steps else ""
        service = self._caller.service
        return f"<{service.name}{dot}{self._chain} on {service.connection.base_url}>"


def sync_service_proxy(
    name: str,
    *,
    base_url: str | None = None,
    token: str | None = None,
    dialect: Dialect = "method",
    endpoint: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: float = TIMEOUT,
    deadline: float | None = DEADLINE,
) -> SyncServiceProxy:
    """`service_proxy` for programs that are not asynchronous: calls give their results."""
    service = RemoteService(
        name,
        base_url,
        token,
        dialect=dialect,
        endpoint=endpoint,
        retry=retry,
        timeout=timeout,
        deadline=deadline,
    )
    return SyncServiceProxy(_Caller(service))

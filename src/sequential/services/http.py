"""The service "http": `fetch`, as a task calls it.

An HTTP status is data. What fails below HTTP is an exception of the task: `OSError`,
`TimeoutError`, or `PermissionError` for a host the task may not reach.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sequential.core.model import Failure, Outcome
from sequential.services.address_guard import TASKS_OWN, Policy, RefusedError, parse_rule
from sequential.services.base import CallContext, CallError, Secrets, TryAgain, unknown_method
from sequential.services.http_request import REDIRECTS, Request, redirected, request_from
from sequential.services.http_response import TRY_AGAIN, Answer, retry_after
from sequential.services.http_secrets import refuse_elsewhere, with_secrets
from sequential.services.http_settings import HttpSettings, Resolve

if TYPE_CHECKING:
    from sequential.services.http_pool import Pool

__all__ = ["HttpService", "HttpSettings", "Resolve"]

OPERATORS = "what the operator permits: server.sent.hosts, and the hosts of a token with limits"
LARGE = 1024 * 1024  # bytes; larger bodies are decoded beside the event loop


class HttpService:
    """Performs HTTP requests of tasks over one shared pool of connections.

    `resolve` replaces the machine's DNS. The pool is opened by the first call and belongs to that
    call's event loop until `close`.
    """

    name = "http"

    def __init__(
        self, settings: HttpSettings | None = None, *, resolve: Resolve | None = None
    ) -> None:
        self._settings = settings or HttpSettings()
        self._resolve = resolve
        self._open: Pool | None = None
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def methods(self) -> Sequence[str]:
        return ("fetch",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Perform `fetch(url, method=, headers=, params=, json=, data=, timeout=, retries=, ...)`.

        Returns `{"status", "headers", "url", "encoding", "text" or "content"}`. Asks for another
        attempt (`TryAgain`) only where repeating the request does no harm. `{{secret:name}}` in the
        value of a header is filled in here.
        """
        if method != "fetch":
            raise unknown_method(self, method)
        try:
            request = request_from(
                args,
                kwargs,
                timeout=self._settings.timeout,
                idempotency_key=context.idempotency_key,
            )
            refuse_elsewhere(args, kwargs)
            request = await with_secrets(request, context.secrets)
            policy = self._policy(context)
        except (TypeError, ValueError) as error:
            kind = "TypeError" if isinstance(error, TypeError) else "ValueError"
            raise CallError(kind, str(error), code="invalid_call") from None
        async with self._place(request.target.host):
            answer = await self._fetch(request, policy, context.secrets)
        if len(answer.body) > LARGE:
            value = await asyncio.to_thread(answer.value)
        else:
            value = answer.value()
        if answer.status in TRY_AGAIN and request.repeatable:
            wait = retry_after(answer.headers, datetime.now(UTC))
            raise TryAgain(Outcome(value=value), retry_after=wait, retries=request.retries)
        return value

    async def close(self) -> None:
        pool, self._open = self._open, None
        if pool is not None:
            await pool.close()

    def _place(self, host: str) -> contextlib.AbstractAsyncContextManager[None]:
        """A place among the requests to a host; waiting for one is not the host's fault."""
        if (most := self._settings.per_host) is None:
            return contextlib.nullcontext()
        places = self._places.get(host)
        if places is None:
            self._places[host] = places = asyncio.Semaphore(most)
        return places

    async def _fetch(self, request: Request, policy: Policy, secrets: Secrets) -> Answer:
        from sequential.services.http_pool import NetworkError  # noqa: PLC0415 - see _pool

        try:
            async with asyncio.timeout(request.timeout):
                return await self._follow(request, policy, secrets)
        except RefusedError as error:
            raise CallError("PermissionError", f"{request}: {error}", code="refused") from None
        except TimeoutError:
            failure = Failure(
                "TimeoutError", f"{request}: no answer within {request.timeout:g} s", code="timeout"
            )
            raise _failed(request, failure, lasting=False) from None
        except NetworkError as error:
            failure = Failure(error.type, f"{request}: {error}", code=error.code)
            raise _failed(request, failure, lasting=error.lasting) from error

    async def _follow(self, request: Request, policy: Policy, secrets: Secrets) -> Answer:
        from sequential.services.http_pool import NetworkError  # noqa: PLC0415 - see _pool

        for hop in range(self._settings.max_redirects + 1):
            target = request.target
            try:
                clearance = policy.clear(target.host, target.port)
                answer = await self._pool().send(request, clearance)
            except RefusedError as error:
                if hop == 0:
                    raise
                raise RefusedError(f"it redirects to {target}, but {error}") from None
            location = answer.header("location")
            if not (request.follow_redirects and answer.status in REDIRECTS and location):
                return answer
            try:
                request = redirected(request, answer.status, location)
            except ValueError as error:
                # Such a message shows the beginning of an address, perhaps half of a secret.
                hidden = secrets.redacted(location) != location
                reason = "its address repeats a secret" if hidden else str(error)
                raise NetworkError(f"a redirect leads nowhere: {reason}", lasting=True) from None
        raise NetworkError(f"more than {self._settings.max_redirects} redirects", lasting=True)

    def _pool(self) -> "Pool":
        # aiohttp takes 0.2 s to import, which only those shall pay who fetch.
        from sequential.services.http_pool import Pool  # noqa: PLC0415

        if self._open is None:
            self._open = Pool(self._settings, self._resolve)
        return self._open

    def _policy(self, context: CallContext) -> Policy:
        allow = context.allow
        within = [bounds.hosts for bounds in allow.within if bounds.hosts is not None]
        outer = tuple(self._policy_of(hosts, OPERATORS) for hosts in within)
        return self._policy_of(allow.hosts, TASKS_OWN, outer)

    def _policy_of(
        self, hosts: Sequence[str] | None, whose: str, within: tuple[Policy, ...] = ()
    ) -> Policy:
        loopback = self._settings.allow_loopback
        return Policy(
            rules=None if hosts is None else tuple(parse_rule(host) for host in hosts),
            allow_private=self._settings.allow_private,
            allow_loopback=loopback is True or (loopback == "own" and whose == TASKS_OWN),
            whose=whose,
            within=within,
        )


def _failed(request: Request, failure: Failure, *, lasting: bool) -> Exception:
    if lasting or not request.repeatable:
        return CallError(failure.type, failure.message, code=failure.code)
    return TryAgain(Outcome(error=failure), retries=request.retries)

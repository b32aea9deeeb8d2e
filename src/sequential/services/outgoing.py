"""HTTP requests that services make of their own, and how what fails reaches the task.

They go over the same kind of connections as `fetch`. Where they lead is a matter of the operator,
who chooses the service and its settings, so any address is permitted here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sequential.core.model import Failure, Outcome
from sequential.services.address_guard import Clearance
from sequential.services.base import CallError, Secrets, TryAgain
from sequential.services.http_request import REDIRECTS, Request, parse_url, redirected
from sequential.services.http_response import TRY_AGAIN, Answer, retry_after
from sequential.services.http_settings import HttpSettings

if TYPE_CHECKING:
    from sequential.services.http_pool import Pool

LONGEST_MESSAGE = 500  # characters of another side's error that a task is shown
_NOT_SENT = frozenset({"unknown_host", "unreachable", "connect_timeout"})


class Outgoing:
    """Connections for the requests of one service, opened by the first one. Times in seconds."""

    def __init__(self, timeout: float = 60.0) -> None:
        self._settings = HttpSettings(timeout=timeout, allow_private=True)
        self._open: Pool | None = None

    async def send(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        repeatable: bool,
    ) -> Answer:
        """The answer, whatever its status. `operation` begins the messages of errors.

        Without a usable answer `TryAgain` is raised where doing it twice does no harm
        (`repeatable`) or nothing was sent, else `CallError`.
        """
        from sequential.services.http_pool import NetworkError  # noqa: PLC0415 - see _pool

        target, _ = parse_url(url)
        request = Request(method, target, tuple(headers.items()), body=body)
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._follow(request)
        except TimeoutError:
            raise too_slow(operation, self._settings.timeout, again=repeatable) from None
        except NetworkError as error:
            again = (repeatable or error.code in _NOT_SENT) and not error.lasting
            raise unreachable(operation, str(error), again=again) from error

    async def close(self) -> None:
        """Give back the connections."""
        pool, self._open = self._open, None
        if pool is not None:
            await pool.close()

    async def _follow(self, request: Request) -> Answer:
        for _ in range(self._settings.max_redirects):
            answer = await self._pool().send(request, Clearance(request.target.host, None))
            location = answer.header("location")
            if answer.status not in REDIRECTS or not location:
                break
            request = redirected(request, answer.status, location)
        return answer

    def _pool(self) -> "Pool":
        # aiohttp takes 0.2 s to import, which only those shall pay who need it.
        from sequential.services.http_pool import Pool  # noqa: PLC0415

        if self._open is None:
            self._open = Pool(self._settings)
        return self._open


def refused(
    operation: str,
    status: int,
    told: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    again: bool | None = None,
    repeatable: bool,
) -> Exception:
    """The error for an answer that is no success.

    Another attempt is asked for after 429, with which nothing was done, and after the other
    statuses that mean "later" if doing it twice does no harm. `again` says it, where the answer
    tells more than its status.
    """
    if again is None:
        again = status == 429 or (repeatable and status in TRY_AGAIN)
    text = f"{operation}: HTTP {status}: {shortened(told)}".removesuffix(": ")
    failure = Failure("RuntimeError", text, "call_failed")
    wait = retry_after(headers, datetime.now(UTC))
    return _error(failure, again=again, retry_after=wait)


def too_slow(operation: str, seconds: float, *, again: bool) -> Exception:
    """The error for an answer that did not come in time."""
    told = f"{operation}: no answer within {seconds:g} s"
    return _error(Failure("TimeoutError", told, "timeout"), again=again)


def unreachable(operation: str, told: str, *, again: bool) -> Exception:
    """The error for a connection that failed."""
    return _error(Failure("OSError", f"{operation}: {shortened(told)}", "network"), again=again)


def nonsense(operation: str, told: str) -> CallError:
    """The error for an answer that is none, such as a web page in place of JSON."""
    return CallError("RuntimeError", f"{operation}: {shortened(told)}")


async def secret_if_any(secrets: Secrets, name: str) -> str | None:
    """The value of a secret; None if there is none, or if the task may not use it."""
    try:
        return (await secrets.get(name)).strip()
    except CallError as error:
        if error.failure.code in ("secret_not_found", "refused"):
            return None
        raise


async def address_if_any(secrets: Secrets, name: str) -> str | None:
    """The same for what is no secret, such as an address: answers may hold it.

    A URL with a password in it is one.
    """
    get_plain: Callable[[str], Awaitable[str]] = getattr(secrets, "get_plain", secrets.get)
    try:
        address = (await get_plain(name)).strip()
    except CallError as error:
        if error.failure.code in ("secret_not_found", "refused"):
            return None
        raise
    if "://" in address and "@" in address:
        await secrets.get(name)  # from now on it is taken out
    return address


def shortened(text: str) -> str:
    """Another side's words in one line, and not too many of them."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_MESSAGE else words[:LONGEST_MESSAGE] + "..."


def _error(failure: Failure, *, again: bool, retry_after: float | None = None) -> Exception:
    if again:
        return TryAgain(Outcome(error=failure), retry_after=retry_after)
    return CallError(failure.type, failure.message, failure.code)

"""Requests to one server: with its token, tried again where that may help, answered in JSON.

The one module of the client that knows aiohttp. Redirects are not followed, cookies are not kept,
and no proxy of the environment is used: what the address says is where the token goes.
"""

import asyncio
import copy
import math
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from sequential.client.errors import AnswerTimeoutError, BadAnswerError, NoAnswerError
from sequential.client.retry_after import retry_after
from sequential.core.model import RetryPolicy
from sequential.core.retry import next_delay
from sequential.errors import ConfigError, SequentialError

T = TypeVar("T")

TIMEOUT = 60.0  # seconds for one attempt
DEADLINE = 300.0  # seconds for all attempts together
LARGEST = 64 << 20  # bytes of an answer: the largest result of a task is 16 MiB
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")


class Answer(NamedTuple):
    """A successful answer. `attempts` is how often it was asked for."""

    status: int
    body: bytes
    attempts: int = 1
    is_tagged: bool = False  # whether its values are trees of `core.values`

    def read(self, kind: type[T]) -> T:
        """What it holds, a record or JSON; raises `BadAnswerError` if it holds something else."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.ValidationError as error:
            raise BadAnswerError(
                f"the server's answer is not what this version understands ({error}): "
                "use the same version here and there"
            ) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadAnswerError(f"the server's answer is no valid JSON: {error}") from error


class Trouble(Exception):  # noqa: N818 - an error with what is known about its end
    """An attempt failed in a way that another one may not."""

    def __init__(self, error: SequentialError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class Connection:
    """Connections to a server, kept open between requests. Belongs to one event loop.

    `timeout` is seconds for one attempt, `deadline` for all attempts of a request with the pauses
    between them, None without end. All paths are below `prefix`. `error_of` makes the exception for
    a status that is no success, and what came with it: JSON, or the end of a sentence about it.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None,
        error_of: Callable[[int, Any], SequentialError],
        *,
        prefix: str = "",
        retry: RetryPolicy | None = None,
        timeout: float = TIMEOUT,
        deadline: float | None = DEADLINE,
        largest: int = LARGEST,
    ) -> None:
        if timeout <= 0 or (deadline is not None and deadline <= 0):
            raise ConfigError("`timeout` and `deadline` of a client are seconds, more than 0")
        if token is not None and not _TOKEN.match(token):
            raise ConfigError("the token cannot be one: it is empty, or has spaces in it")
        self.base_url = _checked_url(base_url) + prefix
        self.retry = retry or RetryPolicy()
        self.timeout = timeout
        self.deadline = deadline
        self._token = token
        self._error_of = error_of
        self._largest = largest
        self._session: aiohttp.ClientSession | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be made."""
        return self._session is not None

    async def open(self) -> None:
        """Begin; a connection is made when the first request is."""
        bearer = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # who waits for many runs is not held up
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "sequential-ecosystem", "Accept-Encoding": "identity", **bearer},
            trust_env=False,
        )
        # Else aiohttp makes PUT and DELETE again by itself, and nobody knows that they were made.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public way

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator["Connection"]:
        """A connection for a block: itself if it is open, else one of the same kind."""
        if self.is_open:
            yield self
            return
        own = copy.copy(self)
        await own.open()
        try:
            yield own
        finally:
            await own.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        longer: float = 0.0,
        patience: float | None = 0.0,
        done_if: type[SequentialError] | None = None,
    ) -> Answer:
        """The answer to a request, made again where that may help; raises what went wrong at last.

        All attempts carry the same `Idempotency-Key`: `key`, "" for none, or one made for them. The
        server may take `longer` seconds than usual. Attempts within the seconds of `patience`, None
        without end, do not count. When a repetition is refused with `done_if`, an attempt before
        has done the work though its answer was lost: then the answer is empty.
        """
        name = secrets.token_hex(16) if key is None else key
        given = {"Accept": "application/json", **(headers or {})}
        if name and method != "GET":
            given["Idempotency-Key"] = name
        options: dict[str, Any] = {"headers": given}
        if query:
            options["params"] = {k: str(v) for k, v in query.items() if v is not None}
        if body is not None:
            options["data"] = msgspec.json.encode(body)
            given["Content-Type"] = "application/json"
        now = asyncio.get_running_loop().time
        begun = now()
        end = math.inf if self.deadline is None else begun + self.deadline + longer
        attempts = 0
        while True:
            attempts += 1
            seconds = min(self.timeout + longer, end - now())
            try:
                answer = await self._attempt(method, path, seconds, options)
                return answer._replace(attempts=attempts)
            except Trouble as trouble:
                is_free = patience is None or now() - begun < patience
                retries = attempts if is_free else self.retry.retries
                after = trouble.after
                pause = next_delay(self.retry, attempts, name, retry_after=after, retries=retries)
                if pause is None or now() + pause >= end:
                    raise trouble.error from trouble.__cause__
            except SequentialError as error:
                if done_if is None or attempts == 1 or not isinstance(error, done_if):
                    raise
                return Answer(204, b"", attempts)
            await asyncio.sleep(pause)

    async def _attempt(
        self, method: str, path: str, seconds: float, options: Mapping[str, Any]
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._asked(method, path, options, timeout) as response:
            body = await self._whole(response)
            if response.status < 300:
                if body and response.content_type != "application/json":
                    raise self._unexpected(path, response)
                tagged = response.headers.get("Sequential-Values") == "tagged"
                return Answer(response.status, body, is_tagged=tagged)
            raise self._refusal(response, body)

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer as they come.

        Raises `Trouble` where another attempt may help: also when the answer breaks off, and after
        so many seconds of `silence`.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout, sock_read=silence)
        async with self._asked("GET", path, {"headers": headers}, timeout) as response:
            if response.status >= 300:
                raise self._refusal(response, await self._whole(response))
            if response.content_type != headers["Accept"]:
                raise self._unexpected(path, response)
            yield response.content.iter_any()

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, options: Mapping[str, Any], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise ConfigError("this client is not open: use `async with Client(...) as client:`")
        try:
            async with self._session.request(
                method,
                self.base_url + path,
                allow_redirects=False,
                timeout=timeout,
                **options,
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one of them
            if isinstance(error, SequentialError):
                raise
            self._explain(error, f"{method} {self.base_url}{path}", timeout.total)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > self._largest:
                raise BadAnswerError(
                    f"the server's answer has more than {self._largest} bytes: ask for less"
                )
        return b"".join(pieces)

    def _unexpected(self, path: str, response: aiohttp.ClientResponse) -> BadAnswerError:
        return BadAnswerError(
            f"{self.base_url}{path} answered with {response.content_type} instead of what was "
            "asked for: look whether this is the address of the server"
        )

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> Exception:
        """The exception for an answer that is no success."""
        status = response.status
        if status < 400:
            to = urlsplit(response.headers.get("Location", ""))
            place = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else to.path
            return BadAnswerError(
                f"{self.base_url} answered {status}, a redirect to {place or 'nowhere'}, which is "
                "not followed: give the client the address that answers itself"
            )
        try:
            told = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            kind = response.content_type
            told = f" with {kind} instead of JSON: look at what stands before the server"
            if kind == "text/plain":
                told = ": " + " ".join(body[:200].decode(errors="replace").split())
        error = self._error_of(status, told)
        if status not in TRY_AGAIN:
            return error
        return Trouble(error, retry_after(response.headers, datetime.now(UTC)))

    def _explain(self, error: Exception, asked: str, seconds: float | None) -> NoReturn:
        """Raise the exception for an answer that did not come."""
        if isinstance(error, TimeoutError):
            within = f" within {seconds:.3g} s" if seconds is not None else ""
            raise Trouble(AnswerTimeoutError(f"{asked}: no answer{within}")) from error
        if isinstance(error, aiohttp.InvalidURL):
            raise ConfigError(f"{self.base_url} is not an address of a server") from error
        if isinstance(error, aiohttp.ClientSSLError):
            raise NoAnswerError(f"{asked}: no secure connection: {_reason(error)}") from error
        if isinstance(error, aiohttp.ClientConnectorError):
            trouble = f"cannot connect to {self.base_url}: {_reason(error)}: is the server running?"
            raise Trouble(NoAnswerError(trouble)) from error
        if isinstance(error, aiohttp.ClientResponseError):
            raise BadAnswerError(f"{asked}: the answer is not valid HTTP") from error
        trouble = f"{asked}: the connection broke before the answer was complete"
        raise Trouble(NoAnswerError(trouble)) from error


def _checked_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError if it is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"{_without_password(text)!r} is not the address of a server: "
            "give it as http://127.0.0.1:3000 or https://host"
        )
    if "@" in parts.netloc:
        raise ConfigError("leave user and password out of the address: give a token instead")
    return text.rstrip("/")


def _without_password(text: str) -> str:
    return text.rpartition("@")[2] if "@" in text else text


def _reason(error: BaseException) -> str:
    """The system's own words."""
    certificate = getattr(error, "certificate_error", None)
    cause = certificate or getattr(error, "os_error", error)
    return getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or str(cause)

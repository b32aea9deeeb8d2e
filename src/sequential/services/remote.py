"""Services that another process offers over HTTP: `sequential-ecosystem services start` there.

A call is one POST. It carries the same `Idempotency-Key` for every attempt, and values beyond JSON
as `core.values` writes them. It is tried again when the other side says that this may help (429
and 5xx), when it was not reached at all, and, of a method that is declared `safe` or `idempotent`
there, when the answer got lost.
"""

import asyncio
import builtins
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sequential.core import values
from sequential.core.model import Failure, Outcome
from sequential.errors import ConfigError, ValueNotSupportedError
from sequential.services.base import CallContext, CallError, Service, TryAgain
from sequential.services.describe import ServiceDescription
from sequential.services.http_response import retry_after
from sequential.services.remote_settings import RemoteAddress, RemoteSettings, checked_base

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 32 * 1024 * 1024  # bytes
LONGEST_MESSAGE = 500  # characters of an answer that is quoted in an error
TAGGED = {"Sequential-Values": "tagged"}
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
# The names under which the original offered its own services.
WRAPPED = {
    "database": "wrappedsupabase",
    "supabase": "wrappedsupabase",
    "keystore": "wrappedkeystore",
    "openai": "wrappedopenai",
    "websearch": "wrappedwebsearch",
    "gapi": "wrappedgapi",
}
_METHOD = re.compile(r"[A-Za-z][\w-]*(\.[A-Za-z][\w-]*)*\Z")


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: float | None  # seconds it asks to wait
    is_tagged: bool  # whether values beyond JSON are written as `core.values` does


class RemoteService:
    """A service at an address. All methods are asked for there; it knows best which it has.

    `path` is where calls go on that server. With `chain` a call is also written as the original's
    servers read it.
    """

    def __init__(
        self,
        name: str,
        address: RemoteAddress,
        *,
        token: str = "",
        path: str | None = None,
        chain: bool = False,
    ) -> None:
        self.name = name
        self._base = checked_base(address.url)
        self._url = f"{self._base}{path or f'/services/{name}'}"
        self._address = address
        self._token = token
        self._chain = chain
        self._open: aiohttp.ClientSession | None = None
        self._told: ServiceDescription | None = None
        self._asked = False
        self._asking = asyncio.Lock()

    def methods(self) -> Sequence[str]:
        return [method.name for method in self._told.methods] if self._told else ()

    def accepts(self, method: str) -> bool:
        """Any name a method can have: the other side says whether there is one."""
        return bool(_METHOD.match(method))

    def describe(self) -> ServiceDescription:
        """What is known about it: all that the other side says, once it was called."""
        known = self._told or ServiceDescription(self.name, f"The service at {self._base}.")
        return msgspec.structs.replace(known, is_open=True)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Have the other side perform it. Its error is the error of this call."""
        headers = {**TAGGED, "Idempotency-Key": context.idempotency_key}
        secret = self._address.secret
        token = self._token if secret is None else await context.secrets.get(secret)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        await self._ask_what_it_is(headers)
        answer = await self._post(method, self._body(method, args, kwargs), headers)
        if answer.status == 200:
            return self._value(method, answer)
        failure = self._failure(method, answer)
        if answer.status in TRY_AGAIN:
            raise TryAgain(Outcome(error=failure), retry_after=answer.retry_after)
        raise CallError(failure.type, failure.message, failure.code)

    async def close(self) -> None:
        session, self._open = self._open, None
        if session is not None:
            await session.close()

    def _body(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        where = f"{self.name}.{method}"
        body: dict[str, Any] = {
            "method": method,
            "args": values.to_json([*args], where),
            "kwargs": values.to_json(dict(kwargs), where),
        }
        if self._chain:
            given = [*body["args"], *([body["kwargs"]] if kwargs else [])]
            body["chain"] = [{"property": method, "args": given}]
        return msgspec.json.encode(body)

    async def _post(self, method: str, body: bytes, headers: Mapping[str, str]) -> "_Answer":
        import aiohttp  # noqa: PLC0415 - takes 0.2 s, which only those shall pay who call

        try:
            return await self._send("POST", self._url, headers, body, self._address.timeout)
        except aiohttp.ClientConnectorError as error:
            told = f"{self._shown} cannot be reached: {error.strerror or error}"
            raise TryAgain(Outcome(error=Failure("OSError", told, "network"))) from None
        except TimeoutError:
            told = f"{self._shown}: no answer within {self._address.timeout:g} s"
            raise self._lost(method, Failure("TimeoutError", told, "timeout")) from None
        except (aiohttp.ClientError, OSError) as error:
            told = f"{self._shown}: {type(error).__name__}: {error}".removesuffix(": ")
            raise self._lost(method, Failure("OSError", told, "network")) from None

    async def _send(
        self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> "_Answer":
        import aiohttp  # noqa: PLC0415 - see above

        if self._open is None:
            self._open = aiohttp.ClientSession()  # takes no proxy from the environment
        sent = {**headers, "Content-Type": "application/json", "Accept": "application/json"}
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self._open.request(
            verb, url, data=body, headers=sent, allow_redirects=False, timeout=limit
        ) as answer:
            content = bytearray()
            async for part in answer.content.iter_any():
                content += part
                if len(content) > LARGEST_ANSWER:
                    told = f"{self._shown}: the answer is larger than {LARGEST_ANSWER >> 20} MiB"
                    raise CallError("RuntimeError", told)
            after = retry_after([*answer.headers.items()], datetime.now(UTC))
            is_tagged = answer.headers.get("Sequential-Values") == "tagged"
            return _Answer(answer.status, bytes(content), after, is_tagged)

    @property
    def _shown(self) -> str:
        return f"the service {self.name!r} at {self._base}"

    def _lost(self, method: str, failure: Failure) -> Exception:
        """Nobody knows whether the call was performed."""
        known = self._told.find(method) if self._told else None
        if known is not None and known.retry != "unsafe":
            return TryAgain(Outcome(error=failure))
        return CallError(failure.type, failure.message, failure.code)

    def _value(self, method: str, answer: "_Answer") -> Any:
        try:
            told = msgspec.json.decode(answer.body)
            tree = told["result"] if "result" in told else told["data"]
            return values.from_json(tree) if answer.is_tagged else tree
        except (ValueError, KeyError, TypeError, RecursionError, ValueNotSupportedError) as error:
            told = f"{self._shown} answered {method} with something else than a result: "
            raise CallError("RuntimeError", told + _quoted(answer.body)) from error

    def _failure(self, method: str, answer: "_Answer") -> Failure:
        try:
            told = msgspec.json.decode(answer.body)["error"]
            if isinstance(told, str):
                told = {"message": told}
            return Failure(
                _exception(told.get("name")),
                str(told["message"]),
                str(told.get("code") or "call_failed"),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            reason = f"answered {method} with HTTP {answer.status}: {_quoted(answer.body)}"
            return Failure("RuntimeError", f"{self._shown} {reason}", "call_failed")

    async def _ask_what_it_is(self, headers: Mapping[str, str]) -> None:
        """Learn once which of its methods may be called again; servers of others do not tell."""
        import aiohttp  # noqa: PLC0415 - see above

        async with self._asking:
            if self._asked or self._chain:
                return
            self._asked = True
            own = {name: v for name, v in headers.items() if name == "Authorization"}
            try:
                answer = await self._send("GET", self._url, own, None, 10.0)
                if answer.status == 200:
                    self._told = msgspec.json.decode(answer.body, type=ServiceDescription)
            except (aiohttp.ClientError, OSError, ValueError, RecursionError):
                self._asked = False  # the call itself meets the same trouble and tells it


def remote_services(remote: RemoteSettings) -> list[Service]:
    """The services whose addresses the settings name."""
    return [_made(name, address, token=remote.token) for name, address in remote.services.items()]


def service_at(name: str, remote: RemoteSettings) -> Service:
    """A service of the one server for all, called as the original's ServiceClient did."""
    path = f"/functions/v1/{WRAPPED.get(name, name)}"
    address = RemoteAddress(remote.base_url)
    return _made(name, address, token=remote.token, path=path, chain=True)


def _made(name: str, address: RemoteAddress, **options: Any) -> Service:
    try:
        return RemoteService(name, address, **options)
    except ValueError as error:
        raise ConfigError(f"the service {name!r}: {error}") from None


def _exception(name: object) -> str:
    """The name of an exception that Python has; whatever else it is called, a RuntimeError."""
    kind = getattr(builtins, name, None) if isinstance(name, str) else None
    return (
        kind.__name__ if isinstance(kind, type) and issubclass(kind, Exception) else "RuntimeError"
    )


def _quoted(body: bytes) -> str:
    text = " ".join(body[: LONGEST_MESSAGE * 4].decode("utf-8", "replace").split())
    return repr(text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "...")

"""The connections of all fetches, guarded. The one module that knows aiohttp.

The address guard sits at the two places that a request cannot avoid. The resolver gives the
connector only addresses that the request's clearance permits, and the connector connects to
nothing else: no second lookup lies between check and use. And before a request is written to a
connection, new or kept alive, the address at its other end is checked against the clearance
of that request, so a connection opened for one task is no loophole for another one.
There is no DNS cache: it would be shared by tasks that may see different things.
"""

import asyncio
import io
import os
import socket
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sequential.services.address_guard import Clearance, RefusedError, is_address
from sequential.services.http_body import ACCEPTED, Body, BodyTooLargeError
from sequential.services.http_request import REDIRECTS, Request
from sequential.services.http_response import Answer
from sequential.services.http_settings import HttpSettings, Resolve

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

LARGE = 1024 * 1024  # bytes of a body

# What the request of the current asyncio task may connect to. Without it nothing may.
_clearance: ContextVar[Clearance] = ContextVar("clearance")


class NetworkError(Exception):
    """No usable answer. `type` is the exception of the task; `lasting`: no use in trying again.

    `code` is for machines: `network`, or, where there was no connection, `unknown_host`,
    `unreachable` or `connect_timeout`.
    """

    def __init__(
        self, message: str, type: str = "OSError", *, code: str = "network", lasting: bool = False
    ) -> None:
        super().__init__(message)
        self.type = type
        self.code = code
        self.lasting = lasting


class Pool:
    """Sends requests over shared connections. Belongs to the event loop it is made in."""

    def __init__(self, settings: HttpSettings, resolve: Resolve | None = None) -> None:
        self._settings = settings
        self._session = aiohttp.ClientSession(
            connector=_GuardedConnector(
                limit=settings.max_connections,
                resolver=_GuardedResolver(resolve or system_resolve, settings.connect_timeout),
                use_dns_cache=False,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # cookies of one run are not for another one
            # `sock_connect`, not `connect`: waiting for a free place is not the host's fault.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout),
            max_line_size=65536,
            max_field_size=65536,
            auto_decompress=False,  # see http_body
            trust_env=False,  # neither proxies nor .netrc of the machine
        )

    async def send(self, request: Request, clearance: Clearance) -> Answer:
        """The answer to one request; redirects are for the caller to follow.

        Raises `RefusedError`, and `NetworkError` when there is no usable answer.
        """
        token = _clearance.set(clearance)
        try:
            async with self._session.request(
                request.method,
                URL(request.target.url, encoded=True),
                headers=self._headers(request),
                skip_auto_headers=request.left_out,
                data=_payload(request.body),
                allow_redirects=False,
            ) as response:
                return await self._answer(request, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _network_error(error, request, self._settings) from error
        finally:
            _clearance.reset(token)

    async def close(self) -> None:
        await self._session.close()

    def _headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        ours = (("User-Agent", self._settings.user_agent), ("Accept-Encoding", ACCEPTED))
        return (*(pair for pair in ours if not request.mentions(pair[0].lower())), *request.headers)

    async def _answer(self, request: Request, response: aiohttp.ClientResponse) -> Answer:
        follow = request.follow_redirects and response.status in REDIRECTS
        wanted = not (follow and "Location" in response.headers)
        return Answer(
            status=response.status,
            headers=tuple((_decoded(k), _decoded(v)) for k, v in response.raw_headers),
            url=request.target.url,
            body=await self._read(response) if wanted else b"",
            charset=response.charset,
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = Body(response.headers.get("Content-Encoding", ""), self._settings.body_limit)
        try:
            async for piece in response.content.iter_any():
                body.feed(piece)
            return body.end()
        except ValueError as error:
            raise NetworkError(f"the answer cannot be read: {error}") from None
        except BodyTooLargeError:
            raise NetworkError(
                f"the answer is larger than the limit of {self._settings.body_limit} bytes: "
                "ask for less, or raise the setting http.body_limit",
                lasting=True,
            ) from None


async def system_resolve(host: str, port: int) -> list[str]:
    """The addresses of a host as this machine sees them, /etc/hosts included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class _GuardedResolver(AbstractResolver):
    def __init__(self, resolve: Resolve, timeout: float) -> None:
        self._resolve = resolve
        self._timeout = timeout

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        async with asyncio.timeout(self._timeout):
            found = await self._resolve(host, port)
        if not found:
            raise OSError(f"{host} has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in _cleared(host).filter(list(found))
        ]

    async def close(self) -> None:
        pass


class _GuardedConnector(aiohttp.TCPConnector):
    async def connect(
        self, req: "ClientRequest", traces: "Sequence[Trace]", timeout: aiohttp.ClientTimeout
    ) -> "Connection":
        host = req.url.raw_host or ""
        clearance = _cleared(host)
        if is_address(host):  # aiohttp does not ask the resolver about these
            clearance.filter([host])
        for _ in range(self.limit + 1):
            connection = await super().connect(req, list(traces), timeout)
            peer = connection.transport and connection.transport.get_extra_info("peername")
            if peer and clearance.permits(peer[0]):
                return connection
            # Kept alive from a task that may go there; a new connection goes where this one may.
            connection.close()
        raise RefusedError(f"no permitted connection to {host} could be made")


def _cleared(host: str) -> Clearance:
    clearance = _clearance.get(None)
    if clearance is None or clearance.host != host:
        raise RefusedError(f"{host} was not cleared")
    return clearance


def _network_error(error: Exception, request: Request, settings: HttpSettings) -> NetworkError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or str(cause)
        message = f"the certificate was not accepted: {reason}"
        return NetworkError(message, code="unreachable", lasting=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        is_unknown = isinstance(error, aiohttp.ClientConnectorDNSError)
        return NetworkError(
            f"cannot connect to {request.target.authority}: {_reason(error)}",
            code="unknown_host" if is_unknown else "unreachable",
        )
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        message = f"no connection within {settings.connect_timeout:g} s"
        return NetworkError(message, "TimeoutError", code="connect_timeout")
    if isinstance(error, aiohttp.InvalidURL):
        return NetworkError("the URL cannot be used", "ValueError", lasting=True)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return NetworkError("the server closed the connection without an answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return NetworkError("the answer broke off")
    if isinstance(error, aiohttp.ClientResponseError):
        return NetworkError("the answer is not valid HTTP")
    return NetworkError(f"the connection failed: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The system's own words, without address and error number."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror):
        return "the name is not known"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or 'no common protocol'}"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()  # asyncio puts the address into `strerror`
    if isinstance(error, aiohttp.ClientConnectorError):
        return "none of its addresses accepts connections"
    return type(cause).__name__


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """What is to be sent; what is large goes in pieces, so as not to hold up the event loop."""
    return io.BytesIO(body) if body and len(body) > LARGE else body


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")

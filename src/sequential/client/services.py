"""Services that run on a server, called as if they were here.

gapi = service_proxy("gapi", base_url="https://host", token=token)
print(await gapi.admin.domains.list(customer="my_customer"))
"""

import os
from collections.abc import Generator
from typing import Any, Literal, Self

import msgspec

from sequential.client.chains import Chain
from sequential.client.connection import DEADLINE, TIMEOUT, Connection
from sequential.client.errors import BadAnswerError, service_error
from sequential.core import values
from sequential.core.model import RetryPolicy
from sequential.core.names import check_service_name
from sequential.errors import ConfigError

Dialect = Literal["method", "chain"]
_TAGGED = {"Sequential-Values": "tagged"}  # values are trees of `core.values`


class RemoteService:
    """One service of a server: where it is, and how it is spoken to."""

    def __init__(
        self,
        name: str,
        base_url: str | None = None,
        token: str | None = None,
        *,
        dialect: Dialect = "method",
        endpoint: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float = TIMEOUT,
        deadline: float | None = DEADLINE,
    ) -> None:
        if dialect not in ("method", "chain"):
            raise ConfigError(f'dialect={dialect!r} is not known: use "method" or "chain"')
        if (kind := os.environ.get("SERVICE_CLIENT_TYPE") or "http") != "http":
            raise ConfigError(f"SERVICE_CLIENT_TYPE is {kind!r}, and only http is known: unset it")
        address = os.environ.get("SERVICE_CLIENT_BASE_URL", "") if base_url is None else base_url
        if not address:
            raise ConfigError(
                f'say where {name} is: service_proxy("{name}", base_url="http://127.0.0.1:3100"), '
                "or set SERVICE_CLIENT_BASE_URL"
            )
        secret = os.environ.get("SERVICE_CLIENT_AUTH_TOKEN") if token is None else token
        usual = {"method": "/services/", "chain": "/api/proxy/"}[dialect]
        self.name = name
        self._path = _checked_path(endpoint) if endpoint else usual + _checked_name(name)
        self._dialect = dialect
        self.connection = Connection(
            address, secret or None, service_error, retry=retry, timeout=timeout, deadline=deadline
        )

    @property
    def takes_chains(self) -> bool:
        """Whether there may be calls in between."""
        return self._dialect == "chain"

    async def perform(self, chain: Chain) -> Any:
        """What a chain comes to on the server; raises what went wrong, a `ServiceError` mostly."""
        body = chain.as_steps() if self.takes_chains else chain.as_method()
        headers = None if self.takes_chains else _TAGGED  # the original's chains are plain JSON
        async with self.connection.lent() as connection:
            answer = await connection.request("POST", self._path, body=body, headers=headers)
        told = answer.read(dict[str, msgspec.Raw])
        wanted = "data" if self.takes_chains else "result"
        if wanted not in told:
            raise BadAnswerError(
                f'the answer of {self.name} has no "{wanted}": look whether the address and the '
                "dialect are right"
            )
        value = msgspec.json.decode(told[wanted])
        return values.from_json(value) if answer.is_tagged else value


class ServiceProxy:
    """A service on a server. Names after it are recorded, and a call of the last one is sent.

    Awaiting such a call gives its result. With `async with` connections are kept open between
    calls; without it each call makes its own.
    """

    __slots__ = ("_chain", "_service")

    def __init__(self, service: RemoteService, chain: Chain = Chain()) -> None:  # noqa: B008
        self._service = service
        self._chain = chain

    def __getattr__(self, name: str) -> "ServiceProxy":
        if name.startswith("_"):  # what Python itself looks for is no method of a service
            raise AttributeError(f"methods of services do not begin with _: {name}")
        return ServiceProxy(self._service, self._chain.named(name))

    def __call__(self, *args: Any, **kwargs: Any) -> "ServiceProxy":
        return ServiceProxy(self._service, self._chain.called(args, kwargs))

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._chain.is_called:
            raise ConfigError(f"call a method of {self!r}, as in {self._service.name}.method(...)")
        return self._service.perform(self._chain).__await__()

    async def __aenter__(self) -> Self:
        await self._service.connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._service.connection.close()

    def __repr__(self) -> str:
        dot = "." if self._chain.steps else ""
        return f"<{self._service.name}{dot}{self._chain} on {self._service.connection.base_url}>"


def service_proxy(
    name: str,
    *,
    base_url: str | None = None,
    token: str | None = None,
    dialect: Dialect = "method",
    endpoint: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: float = TIMEOUT,
    deadline: float | None = DEADLINE,
) -> ServiceProxy:
    """A service on a server, to be called as if it were here.

    `base_url` and `token` are SERVICE_CLIENT_BASE_URL and SERVICE_CLIENT_AUTH_TOKEN of the
    environment unless given. What is written after the proxy is one POST to `/services/<name>`, or
    to the path `endpoint`. With `dialect="chain"` it goes to `/api/proxy/<name>` as the original's
    chain, which may have calls in between: `db.from_("x").select("*").eq("id", 1)`.

    Calls are tried again as `retry` says, by default 3 times after 1, 2 and 4 seconds, or when the
    server says: after a timeout, where the connection breaks, and on 408, 429, 500, 502, 503 and
    504. All attempts carry the same Idempotency-Key, but a service that does not look at it may do
    the work twice: `retry=RetryPolicy(retries=0)` is for those. `timeout` is seconds for one
    attempt, `deadline` for all together.
    """
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
    return ServiceProxy(service)


def _checked_name(name: str) -> str:
    check_service_name(name.replace("-", "_"))  # `admin-debug` is one, too
    return name


def _checked_path(endpoint: str) -> str:
    path = "/" + endpoint.lstrip("/")
    if "?" in path or "#" in path or not path.isprintable() or " " in path:
        raise ConfigError(f"endpoint={endpoint!r} is not a path, as in /functions/v1/gapi")
    return path

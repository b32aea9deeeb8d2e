"""Who is let in: tokens, users that a proxy has let in, and programs on a machine of its own.

While no token exists, a server that listens on loopback serves whatever runs on its machine. Once
there is one, or the variable SEQUENTIAL_TOKEN, everybody needs one. Tokens come as bearer tokens,
or, for browsers, as the password of basic authentication with any name.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from litestar.handlers import BaseRouteHandler

from sequential.core.bounds import TokenLimits
from sequential.errors import ConfigError
from sequential.runner.engine import Engine
from sequential.web.actor import Actor, Connection, holder_of
from sequential.web.door import is_loopback
from sequential.web.errors import Refused
from sequential.web.limits import Rate, refuse_fast, sender_of
from sequential.web.settings import ServerSettings

VARIABLE = "SEQUENTIAL_TOKEN"  # a token of the role operate that no store knows
SHORTEST = 20  # characters of it
LOCAL = "local"
_REALM = 'realm="sequential-ecosystem", charset="UTF-8"'
# Requests that a proxy on this machine passes on are not from this machine.
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Gate:
    """Finds out who sends a request, and refuses those who may not do what it asks for."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._given = given_token(environment)
        self._failures = Rate()
        self.requests = Rate()

    async def admit(
        self, connection: Connection, handler: BaseRouteHandler, engine: Engine, address: str
    ) -> None:
        """Put the actor into the request; raises `Refused` with 401, 403 or 429."""
        role = handler.opt.get("role", "operate")
        settings = settings_of(connection)
        actor = await self._actor(connection, engine, settings, address)
        if not is_loopback(address):
            seconds = self.requests.wait(actor.id, settings.rate, settings.burst)
            if seconds:
                raise refuse_fast(seconds, "requests of this sender")
        if role == "operate":
            _check_may_operate(actor, within_limits=handler.opt.get("within_limits", False))
        connection.scope["user"] = actor

    async def _actor(
        self, connection: Connection, engine: Engine, settings: ServerSettings, address: str
    ) -> Actor:
        presented = presented_token(connection.headers.get("authorization"))
        if presented is not None:
            return await self._holder(presented, engine, settings, address)
        if (actor := _user_of_proxy(connection, settings)) is not None:
            return actor
        if await self._is_local(connection, engine, settings):
            return Actor(LOCAL, LOCAL, "operate", sent=settings.sent)
        raise _unknown("this server wants a token")

    async def _holder(
        self, presented: str, engine: Engine, settings: ServerSettings, address: str
    ) -> Actor:
        if self._given and hmac.compare_digest(_digest(self._given), _digest(presented)):
            return Actor("environment", f"token {VARIABLE}", "operate", sent=settings.sent)
        rate, sender = settings.failed_logins / 60, sender_of(address)
        has_room = self._failures.left(sender, rate, settings.failed_logins) >= 1
        token = None
        # One that was right before is not locked out by those who guess at the same address.
        if has_room or engine.tokens.knows(presented):
            token = await engine.tokens.find(presented)
        if token is not None:
            return holder_of(token, settings.sent)
        seconds = self._failures.wait(sender, rate, settings.failed_logins)
        if not has_room:
            raise refuse_fast(seconds, "wrong tokens from this address")
        raise _unknown("this token is not known here, or has expired or been revoked")

    async def _is_local(
        self, connection: Connection, engine: Engine, settings: ServerSettings
    ) -> bool:
        """Whether a program on this machine asks a server that only such programs reach."""
        headers = connection.headers
        if self._given or settings.proxy_header or any(name in headers for name in _PASSED_ON):
            return False
        # A page whose name leads here has its own name as the host.
        places = (settings.host, peer_of(connection), _name_in(headers.get("host", "")))
        return all(is_loopback(place) for place in places) and not await engine.tokens.exist()


def presented_token(header: str | None) -> str | None:
    """The token in a header `Authorization`; empty if it holds none, None without the header."""
    if header is None:
        return None
    scheme, _, text = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return text.strip()
        case "basic":
            try:
                both = base64.b64decode(text.strip(), validate=True).decode()
            except (binascii.Error, ValueError):
                return ""
            return both.partition(":")[2]
    return ""


def address_of(connection: Connection, settings: ServerSettings) -> str:
    """Where a request comes from: the peer, or what the proxies say that are believed."""
    address = peer_of(connection)
    passed_on = connection.headers.get("x-forwarded-for", "")
    for before in reversed([part.strip() for part in passed_on.split(",") if part.strip()]):
        if not is_trusted(address, settings.trusted_proxies):
            break
        address = before
    return address[:64]


def peer_of(connection: Connection) -> str:
    """The address of the other end; empty where there is none."""
    return connection.client.host if connection.client else ""


def is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether this is the address of one of the proxies, which may be networks."""
    try:
        parsed = ipaddress.ip_address(address)
        return any(parsed in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
    except ValueError:
        return False


def given_token(environment: Mapping[str, str] = os.environ) -> str:
    """The token that the environment gives; raises `ConfigError` for one that is easily guessed."""
    given = environment.get(VARIABLE, "").strip()
    if given and len(given) < SHORTEST:
        raise ConfigError(
            f"the variable {VARIABLE} is too short for a secret: use {SHORTEST} random characters "
            "or more"
        )
    return given


async def check_listening(host: str, engine: Engine, settings: ServerSettings) -> None:
    """Raise `ConfigError` if a server would listen where others reach it and has no token."""
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise ConfigError(
                f"server.trusted_proxies: {proxy!a} is neither an address nor a network"
            ) from None
    is_proxied = bool(settings.proxy_header and settings.trusted_proxies)
    if is_loopback(host) or given_token() or is_proxied or await engine.tokens.exist():
        return
    raise ConfigError(
        f"on {host} others reach this server, and there is no token yet: make one with "
        "`sequential-ecosystem tokens create NAME --role operate`"
    )


def _user_of_proxy(connection: Connection, settings: ServerSettings) -> Actor | None:
    if not settings.proxy_header or not is_trusted(peer_of(connection), settings.trusted_proxies):
        return None
    user = connection.headers.get(settings.proxy_header, "").strip()[:100]
    if not user:
        return None
    return Actor(f"user:{user}", f"user {user}", settings.proxy_role, sent=settings.sent)


def _name_in(host: str) -> str:
    """A header `Host` without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _check_may_operate(actor: Actor, *, within_limits: bool) -> None:
    if actor.role != "operate":
        raise Refused(
            403, "forbidden", f"this needs the role operate; {actor.name} has the role {actor.role}"
        )
    if actor.limits is not None and actor.limits != TokenLimits() and not within_limits:
        raise Refused(403, "forbidden", "a token that has limits may not do this")


def _unknown(why: str) -> Refused:
    challenge = f"Bearer {_REALM}, Basic {_REALM}"
    hint = "send Authorization: Bearer <token>; `sequential-ecosystem tokens create` makes one"
    return Refused(401, "unauthorized", why, hint, WWW_Authenticate=challenge)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def settings_of(connection: Connection) -> ServerSettings:
    """The settings of the server that got this request."""
    read: Callable[[], ServerSettings] = connection.app.state.settings
    return read()

"""Who may use a server that has one token, or none and this machine to itself."""

import functools
import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection

from sequential.errors import ConfigError
from sequential.web.errors import Refused

_SAME = frozenset({"same-origin", "none"})  # what browsers call requests that no other page made


class Door:
    """Lets in who has the token; without one, programs on this machine, and no page of another.

    A page that is open in a browser here can send requests here, too. They carry the page's
    origin, or the name under which it reached this address, and are refused.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token

    def admit(self, request: ASGIConnection[Any, Any, Any, Any], role: str) -> None:
        """Raise `Refused` for a request whose sender may not do what needs this role."""
        if role == "public":
            return
        if self._token:
            self._check_token(request)
        else:
            _check_place(request)

    def _check_token(self, request: ASGIConnection[Any, Any, Any, Any]) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self._token.encode("utf-8", "replace")
        )
        if scheme.lower() != "bearer" or not is_right:
            headers = {"WWW_Authenticate": "Bearer"}
            told = "send Authorization: Bearer <token>"
            raise Refused(401, "unauthorized", told, **headers)


def check_door(host: str, token: str) -> None:
    """Raise `ConfigError` for a server that anybody in the network could use."""
    if not token and not is_loopback(host):
        raise ConfigError(
            f"listening on {host} lets others in: set SEQUENTIAL_TOKEN or --token, or listen on "
            "127.0.0.1"
        )


@functools.lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_place(request: ASGIConnection[Any, Any, Any, Any]) -> None:
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    origin = request.headers.get("origin")
    is_ours = origin is None or origin.partition("://")[2] == host
    is_same = request.headers.get("sec-fetch-site", "none") in _SAME
    if not (is_loopback(name) and is_ours and is_same):
        raise Refused(
            403, "forbidden", "without a token this server answers programs on its machine only"
        )

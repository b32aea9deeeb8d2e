"""Where services are that other processes offer, as an operator says it."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RemoteAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a service is: `url` is that of its server, without the path of the service.

    `secret` is the name of a secret in the keystore that is sent as bearer token, `timeout` the
    seconds one attempt may take.
    """

    url: str
    secret: str | None = None
    timeout: Seconds = 60.0


class RemoteSettings(msgspec.Struct, frozen=True):
    """All of them: by name, and one server for all other services of the project, if there is one.

    `token` is the bearer token for that server and for addresses without a secret of their own.
    """

    services: dict[str, RemoteAddress] = {}
    base_url: str = ""
    token: str = ""


def checked_base(url: str) -> str:
    """The URL of a server without a slash at its end; `ValueError` that says what is wrong."""
    parts = urlsplit(url)  # which raises a ValueError of its own for half of an IPv6 address
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a server: write http://host:port or https://host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("the URL of a server has no user, password, query or fragment")
    return url.rstrip("/")

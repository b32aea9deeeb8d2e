"""The URL of a Redis store: which server, which prefix, and how it is shown without a password."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from sequential.errors import ConfigError

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_PREFIX = "sequential:"
DEFAULT_TTL = 30 * 24 * 3600.0  # seconds that a finished run is kept
_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_OPTIONS = {
    *("prefix", "ttl", "db", "username", "password", "client_name", "max_connections"),
    *("socket_timeout", "socket_connect_timeout"),
}
_TLS_OPTIONS = {
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"),
    *("ssl_check_hostname", "ssl_password"),
}


class Address(NamedTuple):
    """Where the store is. `url` is for the client and may hold a password, `shown` has none."""

    url: str
    shown: str
    prefix: str
    ttl: float  # seconds that a finished run is kept, 0 for ever


def address(location: str, prefix: str | None, ttl: float | None) -> Address:
    """The address of `redis://host:6379/0?prefix=a:&ttl=3600`; raises `ConfigError`."""
    location = location or DEFAULT_URL
    if location.startswith("/"):
        location = f"unix://{location}"
    parts = urlsplit(location if "://" in location else f"redis://{location}")
    scheme = "unix" if parts.scheme == "unix" else _SCHEMES.get(parts.scheme)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if scheme is None:
        raise ConfigError(
            f"{shown} is no address of a Redis server: write redis://host:6379/0, rediss://, "
            "valkey:// or redis:unix:///path"
        )
    options = _OPTIONS | _TLS_OPTIONS if scheme == "rediss" else _OPTIONS
    if wrong := sorted(query.keys() - options):
        raise ConfigError(
            f"{shown}: {wrong[0]!a} is no option of this store: there are "
            f"{', '.join(sorted(options))}"
        )
    try:
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{shown} has no usable port: write a number") from error
    if scheme != "unix" and not re.fullmatch("/?|/[0-9]+", parts.path):
        raise ConfigError(f"{shown} does not end in the number of the database, as in host:6379/0")
    given_prefix, given_ttl = query.pop("prefix", None), query.pop("ttl", None)
    place = f"{scheme}://{parts.netloc}{parts.path}"  # urlunsplit drops the slashes of unix:///
    return Address(
        f"{place}?{urlencode(query)}" if query else place,
        shown,
        _prefix(given_prefix if prefix is None else prefix, shown),
        _seconds(given_ttl if ttl is None else ttl, shown),
    )


def _prefix(given: str | None, shown: str) -> str:
    prefix = DEFAULT_PREFIX if given is None else given
    if not prefix.isprintable() or not prefix.isascii() or " " in prefix or not prefix:
        raise ConfigError(f"{shown}: the prefix {prefix!a} cannot be used: write ASCII letters")
    return prefix


def _seconds(given: str | float | None, shown: str) -> float:
    try:
        seconds = DEFAULT_TTL if given is None else float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise ConfigError(
            f"{shown}: ttl is {given!a}: give the seconds that a finished run is kept, 0 for ever"
        )
    return seconds

"""Where a Supabase project is, and how it is to be used."""

import base64
import binascii
import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from sequential.errors import ConfigError
from sequential.storage.supabase_migration import check_schema

KEY_VARIABLES = ("SUPABASE_SERVICE_KEY", "SUPABASE_KEY", "SUPABASE_ANON_KEY")
_EXAMPLE = "https://<project>.supabase.co"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said in the query of the URL, or to `create_adapter`; times in seconds."""

    schema: str = "sequential"
    pool: int = 16  # requests that may be under way at the same time
    timeout: float = 60.0  # in which the project has to answer
    patience: float = 30.0  # in which a project that cannot be reached may come back


class Key:
    """An API key; it is shown to nobody but the project."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._claims = _claims(text)

    def headers(self) -> dict[str, str]:
        """What a request carries. Keys of the new kind are no tokens: the gateway makes one."""
        headers = {"apikey": self._text}
        if not self._text.startswith("sb_"):
            headers["Authorization"] = f"Bearer {self._text}"
        return headers

    @property
    def role(self) -> str:
        """Whose key it is, as far as it says so."""
        if self._text.startswith("sb_"):
            return "anon" if self._text.startswith("sb_publishable_") else "service_role"
        role = self._claims.get("role")
        return role if isinstance(role, str) and re.fullmatch("[a-z_]{1,30}", role) else ""

    def has_expired(self, now: float) -> bool:
        """Whether it says that it may not be used any more; `now` in seconds since 1970."""
        end = self._claims.get("exp")
        return isinstance(end, int | float) and end < now

    def hide(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self._text, "***")


class Address(msgspec.Struct, frozen=True):
    """The URL of a project's data API, the key to it, and our options."""

    url: str
    key: Key
    options: Options

    @property
    def entry(self) -> str:
        """The URL of the one function that is called."""
        return f"{self.url}/rest/v1/rpc/{self.options.schema}_call"


def parse(
    location: str,
    url: str | None,
    key: str | None,
    config: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
) -> Address:
    """The address of `https://<project>.supabase.co?schema=...`.

    The environment says what is not given. Raises `ConfigError`, never showing the key.
    """
    place, _, query = location.partition("?")
    url = url or place or environment.get("SUPABASE_URL", "").strip()
    given = [environment.get(name, "").strip() for name in KEY_VARIABLES]
    key = key or next(filter(None, given), "")
    if not url:
        raise ConfigError(f"the Supabase project is not named: set SUPABASE_URL to {_EXAMPLE}")
    if not key:
        raise ConfigError(
            "the key of the Supabase project is missing: set SUPABASE_SERVICE_KEY to its "
            "service_role or secret key"
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(
            "the key of the Supabase project cannot be one, it has blanks or special characters: "
            "copy it again from the project's API settings"
        )
    return Address(_api(url), Key(key), _options(query, config))


def _options(query: str, config: Mapping[str, Any]) -> Options:
    given = dict(parse_qsl(query)) | {k: v for k, v in config.items() if v is not None}
    try:
        options = msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"a setting of the Supabase project is wrong: {error}; there are "
            f"{', '.join(Options.__struct_fields__)}"
        ) from error
    check_schema(options.schema)
    if options.pool < 1:
        raise ConfigError(f"pool is {options.pool}: at least 1 request must be possible")
    if not options.timeout > 0:
        raise ConfigError(f"timeout is {options.timeout:g}: give a number of seconds above 0")
    return options


def _api(url: str) -> str:
    """The project's URL without a path; it may have been copied with that of the data API."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _unreadable() from None
    if parts.scheme in ("postgres", "postgresql"):
        raise ConfigError(
            "SUPABASE_URL is the address of a database: set DATABASE_URL to it instead, or "
            f"SUPABASE_URL to {_EXAMPLE}"
        )
    path = parts.path.rstrip("/").removesuffix("/rest/v1")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _unreadable()
    if parts.query or parts.fragment or not re.fullmatch(r"[\w./~-]*", path, re.ASCII):
        raise _unreadable()
    if parts.scheme == "http" and not _is_near(parts):
        raise ConfigError(
            f"http://{parts.hostname} would send the key of the Supabase project in the clear: "
            "begin its URL with https://"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}"


def _is_near(parts: SplitResult) -> bool:
    """Whether the host is this machine, or one of a private network, as with `supabase start`."""
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))


def _unreadable() -> ConfigError:
    return ConfigError(f"the URL of the Supabase project cannot be read: write {_EXAMPLE}")


def _claims(key: str) -> dict[str, Any]:
    """What a key of the old kind, a signed token, says about itself; it is not verified here."""
    try:
        part = key.split(".")[1]
        found = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

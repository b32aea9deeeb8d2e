"""Where a PostgreSQL database is, and how it is to be used: a URL with options of ours."""

from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from sequential.errors import ConfigError
from sequential.storage.postgres_errors import of_address


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said in the query of the URL, or to `create_adapter`; times in seconds."""

    schema: str = "sequential"
    pool: int = 8  # connections that may be open at the same time
    timeout: float = 60.0  # in which the server has to answer
    patience: float = 30.0  # in which a lost server may come back
    listen: bool = True  # be told what other processes do
    prepare: bool | None = None  # prepare statements; None: where no pooler is seen


class Address(NamedTuple):
    """The parameters of a connection, what may be shown of them, and our options."""

    parameters: dict[str, Any]
    shown: str
    options: Options

    def __repr__(self) -> str:
        return f"Address({self.shown})"  # the parameters hold a password


_SWITCHES = ("listen", "prepare")
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def parse(location: str, **config: Any) -> Address:
    """The address of `postgresql://...` or `host=... dbname=...`; "" means the PG* variables.

    Raises `ConfigError`, never showing the password.
    """
    location, given = _take_options(location)
    try:
        parameters = conninfo_to_dict(location)
    except psycopg.Error:
        raise of_address() from None
    if not all(port.isdigit() for port in str(parameters.get("port", "0")).split(",")):
        raise of_address()
    given |= {name: value for name, value in config.items() if value is not None}
    try:
        options = msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting of the database is wrong: {error}") from error
    _check(options)
    return Address(parameters, _shown(parameters), options)


def _take_options(location: str) -> tuple[str, dict[str, Any]]:
    """The location without options of ours, and these."""
    if "://" not in location:
        return location, {}
    head, _, query = location.partition("?")
    rest: list[str] = []
    given: dict[str, Any] = {}
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in Options.__struct_fields__:
            is_switch = name in _SWITCHES
            given[name] = _SWITCH.get(value.lower(), value) if is_switch else unquote(value)
        elif name in known:
            rest.append(part)
        else:
            raise ConfigError(
                f"the database URL has no option {ascii(name)[:40]}: there are "
                f"{', '.join(Options.__struct_fields__)}, and those of PostgreSQL, such as sslmode"
            )
    head = "postgresql://" + head.partition("://")[2]
    return head + ("?" + "&".join(rest) if rest else ""), given


def _check(options: Options) -> None:
    name = options.schema
    is_plain = name.isascii() and name.replace("_", "a").isalnum() and name == name.lower()
    if not is_plain or len(name) > 50 or name[0].isdigit() or name.startswith("pg_"):
        raise ConfigError(
            f"{ascii(name)[:60]} cannot name the schema: use small letters, digits and _, "
            "at most 50, beginning with a letter"
        )
    if name in ("public", "information_schema"):
        raise ConfigError(f"the schema {name} belongs to others: choose one of your own")
    if options.pool < 1:
        raise ConfigError(f"pool is {options.pool}: there must be at least 1 connection")
    if not options.timeout > 0:
        raise ConfigError(f"timeout is {options.timeout:g}: give a number of seconds above 0")


def _shown(parameters: dict[str, Any]) -> str:
    user = f"{parameters['user']}@" if "user" in parameters else ""
    host = str(parameters.get("host") or parameters.get("hostaddr") or "")
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"postgresql://{user}{host}{port}/{parameters.get('dbname', '')}"

"""What goes wrong with a Supabase project, in one line that says what to do.

No message holds the key.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import msgspec

from sequential.errors import (
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from sequential.storage.sql_refusals import Refused
from sequential.storage.supabase_address import Address

# SQLSTATEs and codes of PostgREST that pass: the database goes away, comes up, or is busy.
_PASSING = (
    *("57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006"),
    *("53300", "53400", "40001", "40P01", "PGRST000", "PGRST001", "PGRST002", "PGRST003"),
)
_MISSING = ("PGRST202", "42883", "42P01", "3F000")
_TOKEN = ("PGRST300", "PGRST301", "PGRST302", "PGRST303")


class Busy(StorageUnreachableError):  # noqa: N818 - a refusal for now
    """The project has answered that it cannot answer now; `pause`: the seconds it asks for."""

    def __init__(self, message: str, pause: float) -> None:
        super().__init__(message)
        self.pause = pause


class _Body(NamedTuple):
    """What PostgREST or the gateway says about an error."""

    code: str = ""
    message: str = ""
    details: str = ""


def of_answer(
    address: Address, status: int, headers: Mapping[str, str], data: bytes
) -> StorageError | Refused:
    """The error for an answer that is none."""
    body = _body(data)
    code = body.code
    if code.startswith("PT"):
        return Refused(body.message, body.details)
    where = address.url
    text = address.key.hide(body.message or f"HTTP status {status}")[:300]
    if code == "53100":
        return StorageFullError(
            f"{where}: {text}: make room for the database in its settings, then go on with "
            "`sequential-ecosystem resume`"
        )
    if code == "25006":
        return StorageReadOnlyError(
            f"{where} is read-only: {text}: see the project's dashboard, it is made so when its "
            "disk is full"
        )
    if code in _PASSING or ((status in (408, 425, 429) or status >= 500) and not _is_sql(code)):
        return _of_being_busy(address, status, headers, text)
    if code in _MISSING:
        return of_missing(address)
    if status in (401, 403) or code in (*_TOKEN, "42501"):
        return StorageError(f"{where}: {_of_key(address, code, text)}")
    return StorageError(f"{where}: {text}: {_remedy(status, code)}".removesuffix(": "))


def _of_being_busy(
    address: Address, status: int, headers: Mapping[str, str], text: str
) -> StorageError:
    if status == 540:
        return StorageError(f"{address.url} is paused: restore the project in its dashboard")
    after = headers.get("Retry-After", "")
    return Busy(
        f"{address.url} does not answer now ({text}): try again when it does, its status is in the "
        "dashboard",
        float(after) if after.isascii() and after.isdigit() else 0.0,
    )


def _of_key(address: Address, code: str, text: str) -> str:
    role = address.key.role
    if code in ("", *_TOKEN) and ("expired" in text or address.key.has_expired(time.time())):
        return "the key has expired: set SUPABASE_SERVICE_KEY to a valid one"
    if role in ("anon", "authenticated"):
        return (
            f"this is the {'anon or publishable' if role == 'anon' else role} key, which may not "
            "use the store: set SUPABASE_SERVICE_KEY to the service_role or secret key, on servers "
            "only"
        )
    if code == "42501":
        return f"{text}: apply {_script(address)} again, it gives service_role its rights"
    return (
        f"the key is not accepted ({text}): set SUPABASE_SERVICE_KEY to the service_role or secret "
        "key of this project"
    )


def of_missing(address: Address) -> StorageError:
    """The error for a project without the functions, or with those of another version."""
    return StorageError(
        f"{address.url}: the functions of the schema {address.options.schema} are not there, or "
        f"not those of this version: apply {_script(address)}, see docs/supabase.md"
    )


def of_newer(address: Address) -> StorageError:
    """The error for tables that this program does not know."""
    return StorageError(
        f"{address.url}: the schema {address.options.schema} was made by a newer version of this "
        "program: update it"
    )


def of_sending(address: Address, error: aiohttp.ClientError) -> StorageError:
    """The error for a request that got no answer."""
    where = address.url
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return StorageError(f"{where} does not speak https as it should: correct SUPABASE_URL")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return StorageError(
            f"{where}: its certificate is not trusted: correct SUPABASE_URL, or set SSL_CERT_FILE "
            "to the certificates of your network"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return StorageUnreachableError(
            f"{where} is not found: correct SUPABASE_URL, check the network, and see whether the "
            "project is paused"
        )
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return StorageUnreachableError(
            f"{where} cannot be reached: check SUPABASE_URL and the network"
        )
    return StorageUnreachableError(f"{where}: the connection was lost before the answer came")


def of_silence(address: Address) -> StorageError:
    """The error for a project that does not answer; whether it did its work is unknown."""
    return StorageError(
        f"{address.url} did not answer within {address.options.timeout:g} seconds: see in the "
        "dashboard what it is doing, or give more time with `?timeout=`"
    )


def of_foreign(address: Address) -> StorageError:
    """The error for an answer that the function cannot have given."""
    return StorageError(
        f"{address.url} answers, but not as the data API of Supabase: correct SUPABASE_URL"
    )


def _remedy(status: int, code: str) -> str:
    if code == "57014":
        return "it took too long: give the database more power, or connect with DATABASE_URL"
    if code == "PGRST106":
        return "expose the schema public in the API settings of the project"
    if code == "22003":
        return "a number does not fit into a column"
    if code.startswith("54") or status == 413:
        return "a value is too large for the project"
    if not code and (status in (404, 405, 406) or status < 400):
        return "correct SUPABASE_URL, there is no data API"
    return ""


def _script(address: Address) -> str:
    schema = address.options.schema
    option = "" if schema == "sequential" else f" {schema}"
    return f"the SQL of `python -m sequential.storage.supabase_migration{option}`"


def _is_sql(code: str) -> bool:
    """Whether this is the SQLSTATE of an error: the same request would fail again."""
    return len(code) == 5


def _body(data: bytes) -> _Body:
    try:
        found = msgspec.json.decode(data)
    except ValueError:  # no JSON
        return _Body()
    if not isinstance(found, dict):
        return _Body()
    said = (found.get(name) for name in _Body._fields)
    return _Body(*(item if isinstance(item, str) else "" for item in said))

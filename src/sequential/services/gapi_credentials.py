"""Who Google's APIs are called as, and the tokens for it.

Two kinds of credentials are known, both in the keystore:

- `GAPI_KEY`: the JSON of a service account's key. With domain-wide delegation it acts as anybody in
  the domain: as the mailbox that is asked for, else as `GAPI_ADMIN_EMAIL`. It may also be the JSON
  of a user's own credentials (`"type": "authorized_user"`).
- `GAPI_REFRESH_TOKEN` with `GAPI_CLIENT_ID` and `GAPI_CLIENT_SECRET`: a user who has agreed.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from sequential.services.base import CallError, Secrets
from sequential.services.outgoing import (
    address_if_any,
    nonsense,
    refused,
    secret_if_any,
    shortened,
    unreachable,
)

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

MARGIN = 300.0  # seconds before its end in which a token is not used any more
MOST = 1000  # tokens that are kept
KEY, ADMIN = "GAPI_KEY", "GAPI_ADMIN_EMAIL"
OAUTH = ("GAPI_REFRESH_TOKEN", "GAPI_CLIENT_ID", "GAPI_CLIENT_SECRET")
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, no secret
Place: TypeAlias = tuple[str, str | None, tuple[str, ...]]  # key, whom for, what for
_OF_A_USER = ("refresh_token", "client_id", "client_secret")
_OF_A_SERVICE_ACCOUNT = ("client_email", "private_key", "token_uri")


class Key(msgspec.Struct, frozen=True):
    """The credentials as they are kept. `admin` is whom a service account acts as by default."""

    info: dict[str, str]
    admin: str | None = None

    @property
    def is_service_account(self) -> bool:
        return self.info.get("type") == "service_account"

    @property
    def digest(self) -> str:
        """Tells keys apart without holding them."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()

    def redacted(self, text: str) -> str:
        """`text` without what is secret in the key; messages of others may quote it."""
        for name in ("private_key", "refresh_token", "client_secret"):
            if (value := self.info.get(name)) is not None:
                text = text.replace(value, "(hidden)")
        return text


class Token(msgspec.Struct, frozen=True):
    """An access token, for whom and for what; `expires_at` in seconds since 1970."""

    text: str
    subject: str | None
    scopes: tuple[str, ...]
    expires_at: float

    @property
    def is_good(self) -> bool:
        """Whether it lasts for some minutes."""
        return self.expires_at - time.time() >= MARGIN


class Tokens:
    """Tokens by whom and what they are for, each got when it is needed and kept while it is good.

    They are in this process only, never written down. Google's library blocks, so it has threads.
    """

    def __init__(self, threads: Executor, timeout: float = 60.0) -> None:
        self._threads = threads
        self._timeout = timeout
        self._kept: dict[Place, Token] = {}
        # One of them is there while somebody waits for the token.
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()

    async def get(
        self, operation: str, key: Key, subject: str | None, scopes: tuple[str, ...]
    ) -> Token:
        """A token that is good for five minutes at least.

        Raises `CallError` when Google refuses the credentials, `TryAgain` when it cannot be asked.
        """
        place = (key.digest, subject, scopes)
        lock = self._locks.setdefault(place, asyncio.Lock())
        async with lock:  # one asks for all who wait
            kept = self._kept.get(place)
            if kept is None or not kept.is_good:
                loop = asyncio.get_running_loop()
                kept = await loop.run_in_executor(
                    self._threads, self._asked, operation, key, subject, scopes
                )
                self._keep(place, kept)
            return kept

    def forget(self, token: Token) -> None:
        """Do not use this one any more."""
        self._kept = {place: one for place, one in self._kept.items() if one is not token}

    def clear(self) -> int:
        """Forget all, and say how many there were."""
        count = len(self._kept)
        self._kept = {}
        return count

    def listed(self) -> list[Token]:
        """What is kept."""
        return list(self._kept.values())

    def _keep(self, place: Place, token: Token) -> None:
        """Keep a token; there may be as many mailboxes as a domain has people."""
        self._kept.pop(place, None)
        self._kept[place] = token
        if len(self._kept) > MOST:
            self._kept = {at: one for at, one in self._kept.items() if one.is_good}
        while len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]

    def _asked(
        self, operation: str, key: Key, subject: str | None, scopes: tuple[str, ...]
    ) -> Token:
        import httplib2  # type: ignore[import-untyped]  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

        try:
            credentials = _credentials(key, subject, scopes)
        except (ValueError, TypeError):  # their messages may quote the key
            raise CallError(
                "ValueError",
                f"{operation}: the private key in the secret {KEY} cannot be read: set it again "
                "with the whole file that Google gave you",
                code="invalid_key",
            ) from None
        try:
            with contextlib.closing(httplib2.Http(timeout=self._timeout)) as connection:
                request = _request(operation, connection)
                credentials.refresh(request)  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            raise _not_accepted(operation, key, subject, scopes, error) from None
        except (ValueError, TypeError, LookupError):
            told = "the server of tokens answers with something else than a token"
            raise nonsense(operation, told) from None
        text, end = credentials.token, credentials.expiry
        expires_at = time.time() if end is None else end.replace(tzinfo=UTC).timestamp()
        return Token(str(text), subject, scopes, expires_at)


async def key_from(operation: str, secrets: Secrets) -> Key:
    """The credentials of the keystore; `CallError` says which secrets to set."""
    try:
        text = await secrets.get(KEY)
    except CallError as missing:
        if missing.failure.code not in ("secret_not_found", "refused"):
            raise
        kept = [await secret_if_any(secrets, name) for name in OAUTH]
        if kept[0] is None:
            raise
        if None in kept:
            raise CallError(
                "LookupError",
                f"{operation}: {OAUTH[0]} needs {OAUTH[1]} and {OAUTH[2]} beside it: "
                "set all three with `sequential-ecosystem keys set`",
                code="secret_not_found",
            ) from None
        user = dict(zip(_OF_A_USER, (str(one) for one in kept), strict=True))
        return Key({"type": "authorized_user", **user})
    info = _parsed(operation, text)
    is_robot = info["type"] == "service_account"
    return Key(info, await address_if_any(secrets, ADMIN) if is_robot else None)


def _parsed(operation: str, text: str) -> dict[str, str]:
    """The content of `GAPI_KEY`."""
    try:
        info = json.loads(text)
        kind = info["type"]
        needed = _OF_A_SERVICE_ACCOUNT if kind == "service_account" else _OF_A_USER
        if kind in ("service_account", "authorized_user"):
            return {"type": kind, **{name: info[name] + "" for name in needed}} | {
                name: value for name, value in info.items() if isinstance(value, str)
            }
    except (ValueError, TypeError, KeyError):
        pass
    raise CallError(
        "ValueError",
        f"{operation}: the secret {KEY} is no key of a service account: set it to the whole JSON "
        f"file, with `sequential-ecosystem keys set {KEY} --value-file key.json`",
        code="invalid_key",
    ) from None


def _credentials(key: Key, subject: str | None, scopes: tuple[str, ...]) -> "Credentials":
    if key.is_service_account:
        from google.oauth2 import service_account  # noqa: PLC0415

        made: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            key.info, scopes=list(scopes), subject=subject
        )
        return made
    from google.oauth2.credentials import Credentials as UserCredentials  # noqa: PLC0415

    # The scopes are those that the user has agreed to; asking for others would be refused.
    return UserCredentials(  # type: ignore[no-untyped-call]
        None,
        refresh_token=key.info["refresh_token"],
        token_uri=key.info.get("token_uri", TOKEN_URI),
        client_id=key.info["client_id"],
        client_secret=key.info["client_secret"],
    )


def _request(operation: str, connection: Any) -> Any:
    """What google-auth sends its requests with.

    It would wait and try again by itself, in a thread; the engine does that better, so an answer
    that means "later" is raised past it.
    """
    from google_auth_httplib2 import Request  # type: ignore[import-untyped]  # noqa: PLC0415

    send = Request(connection)

    def request(**given: Any) -> Any:
        try:
            answer = send(**given)
        except Exception as error:  # of httplib2, of the system, of google-auth
            told = f"the server of tokens cannot be reached: {type(error).__name__}"
            raise unreachable(operation, told, again=True) from None
        if answer.status == 429 or answer.status >= 500:
            told = "the server of tokens is not ready"
            headers = [(str(name), str(value)) for name, value in answer.headers.items()]
            raise refused(operation, answer.status, told, headers, repeatable=True, again=True)
        return answer

    return request


def _not_accepted(
    operation: str, key: Key, subject: str | None, scopes: tuple[str, ...], error: Exception
) -> CallError:
    told = next((one for one in error.args if isinstance(one, str)), type(error).__name__)
    details: Mapping[str, Any] = next((one for one in error.args if isinstance(one, dict)), {})
    reason = str(details.get("error", ""))
    hint = ""
    if reason == "unauthorized_client":
        hint = (
            f"; grant {' '.join(scopes)} to the client id of the service account in the admin "
            "console, under domain-wide delegation"
        )
    elif reason == "invalid_grant":
        hint = f"; is {subject} a user of the domain?" if subject else "; set the credentials again"
    return CallError(
        "PermissionError",
        f"{operation}: Google refuses the credentials: {key.redacted(shortened(told))}{hint}",
        code="refused",
    )

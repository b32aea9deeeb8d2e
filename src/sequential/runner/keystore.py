"""The keystore: values that tasks use by name and never see, encrypted before a store gets them.

An entry is text, `v1.<key id>.<nonce and ciphertext, base64url>`: AES-256-GCM with the entry's name
as associated data, so that entries cannot be exchanged in the store. The key id tells whether an
entry was written with the key at hand.
"""

import base64
import difflib
import functools
import hashlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from sequential.core.model import Allow, Failure, Outcome, evolve
from sequential.core.names import check_secret_name
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    KeystoreError,
    SecretNotFoundError,
    SequentialError,
    StorageError,
)
from sequential.runner.redaction import Redaction
from sequential.services.base import CallError, TryAgain
from sequential.storage.base import StorageAdapter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "v1"
LARGEST = 64 * 1024  # bytes of a value
_NONCE = 12  # bytes
_INFO = b"sequential keystore v1"


class Keystore:
    """Secrets by name in a store. `secret` gives what the key is derived from, when it is needed.

    It is not the key itself: snapshots are signed with another one from the same source.
    """

    def __init__(self, storage: StorageAdapter, secret: Callable[[], bytes]) -> None:
        self._storage = storage
        self._secret = secret

    async def set(self, name: str, value: str) -> None:
        """Keep a value, in place of another of this name.

        Raises `InvalidNameError`, `InvalidInputError` for a value that is empty, too long or no
        text, and `ConfigError` when there is no lasting secret to encrypt it with.
        """
        check_secret_name(name)
        try:
            plain = value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"the value of {name} is not valid text") from error
        if not 0 < len(plain) <= LARGEST:
            raise InvalidInputError(
                f"the value of {name} has {len(plain)} bytes: it needs 1 to {LARGEST}"
            )
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, plain, _bound_to(name))
        text = base64.urlsafe_b64encode(sealed).decode()
        await self._storage.set_keystore(name, f"{FORMAT}.{self._key_id}.{text}")

    async def get(self, name: str) -> str:
        """The value; raises `SecretNotFoundError`, and `KeystoreError` if it cannot be opened."""
        check_secret_name(name)
        entry = await self._storage.get_keystore(name)
        if entry is None:
            raise SecretNotFoundError(await self._missing(name))
        return self._opened(name, entry)

    async def delete(self, *names: str) -> None:
        """Remove secrets: all of them, or none and `SecretNotFoundError` if one is not there."""
        known = await self.list()
        for name in names:
            if check_secret_name(name) not in known:
                raise SecretNotFoundError(await self._missing(name))
        for name in names:
            await self._storage.delete_keystore(name)

    async def list(self) -> list[str]:
        """All names, sorted."""
        reserved = self._storage.reserved_keys  # those of documents, which are no secrets
        entries = await self._storage.list_keystore()
        return [name for name in entries if not name.startswith(reserved)]

    def _opened(self, name: str, entry: str) -> str:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see _cipher

        version, _, rest = entry.partition(".")
        key_id, _, text = rest.partition(".")
        if version != FORMAT:
            raise KeystoreError(
                f"the secret {name} was written by another version of this program: "
                "use that one, or set the secret again"
            )
        if key_id != self._key_id:
            raise KeystoreError(
                f"the keystore was written with another SEQUENTIAL_SECRET: give this process the "
                f"same one, or set the secret {name} again"
            )
        try:
            sealed = base64.urlsafe_b64decode(text)
            nonce, rest_of_it = sealed[:_NONCE], sealed[_NONCE:]
            return self._cipher.decrypt(nonce, rest_of_it, _bound_to(name)).decode()
        except (InvalidTag, ValueError) as error:
            raise KeystoreError(
                f"the secret {name} is damaged, or was stored under another name: set it again"
            ) from error

    async def _missing(self, name: str) -> str:
        near = difflib.get_close_matches(name, await self.list(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"`sequential-ecosystem keys set {name}`"
        return f"there is no secret {name}: {hint}"

    @functools.cached_property
    def _key(self) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - see _cipher
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        return HKDF(SHA256(), 32, salt=None, info=_INFO).derive(self._secret())

    @functools.cached_property
    def _key_id(self) -> str:
        return hashlib.sha256(_INFO + b" id\0" + self._key).hexdigest()[:8]

    @functools.cached_property
    def _cipher(self) -> "AESGCM":
        # `cryptography` takes a while to import, which only those shall pay who keep secrets.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        return AESGCM(self._key)


class CallSecrets:
    """The secrets that one attempt of a call may use, and has used."""

    def __init__(self, keys: Keystore, allow: Allow) -> None:
        self._keys = keys
        self._allow = allow
        self._used: dict[str, str] = {}

    @property
    def are_used(self) -> bool:
        """Whether the attempt has got any."""
        return bool(self._used)

    async def get(self, name: str) -> str:
        """A value by name; `CallError` if there is none, or if the task may not use it."""
        self._used[name] = value = await self.get_plain(name)
        return value

    async def get_plain(self, name: str) -> str:
        """A value that is kept beside secrets and is none, such as an address.

        It raises like `get`, and stays in what the call returns: taking the address of an admin
        out of every list of people would spoil the lists.
        """
        try:
            check_secret_name(name)
        except InvalidNameError as error:
            raise CallError("ValueError", str(error), code="invalid_call") from None
        if not self._allow.permits_secret(name):
            raise CallError("PermissionError", self._refusal(name), code="refused")
        try:
            return await self._keys.get(name)
        except StorageError as error:
            failure = Failure("OSError", f"the keystore cannot be read: {error}", "keystore_error")
            raise TryAgain(Outcome(error=failure)) from error
        except SecretNotFoundError as error:  # without the names of other secrets
            raise CallError(
                "LookupError",
                f"there is no secret {name!r}: set it with `sequential-ecosystem keys set {name}`",
                code=error.code,
            ) from None
        except SequentialError as error:
            raise CallError("RuntimeError", str(error), code=error.code) from error

    def _refusal(self, name: str) -> str:
        if evolve(self._allow, within=()).permits_secret(name):
            return f"the operator does not let this run use the secret {name!r}"
        listed = ", ".join(self._allow.secrets or ()) or "no secret"
        return f"the secret {name!r} is not in the task's allow.secrets ({listed})"

    def redacted(self, text: str) -> str:
        """`text` with the names of the secrets used so far in place of their values."""
        return self.redaction.text(text)

    @property
    def redaction(self) -> Redaction:
        return Redaction(self._used)


def _bound_to(name: str) -> bytes:
    return f"sequential keystore {FORMAT}\0{name}".encode()

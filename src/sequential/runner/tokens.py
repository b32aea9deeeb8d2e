"""Tokens: who may use the server, and what for.

A token is 32 random bytes that are shown once, when it is made. The store has a digest of it, as a
document, so all servers of a store know the same tokens, and nobody can read one there.
"""

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from sequential.core import times
from sequential.core.bounds import TokenLimits, narrowed
from sequential.core.model import Allow, TaskConfig
from sequential.core.policy import config_problems
from sequential.errors import InvalidInputError, InvalidNameError, TokenNotFoundError
from sequential.runner.clock import Clock
from sequential.storage.base import StorageAdapter

log = logging.getLogger("sequential.tokens")

COLLECTION = "tokens"
Role = Literal["read", "operate"]
FRESH = 1.0  # seconds for which the store is not asked again: a revoked token may work so long
MOST_KEPT = 1000  # tokens in memory
LONGEST_NAME = 100  # characters
LONGEST_LIFE = 100 * 365 * 86400.0  # seconds
_TOKEN = re.compile(r"seq_([0-9a-f]{12})_[A-Za-z0-9_-]{43}\Z")


class Token(msgspec.Struct, frozen=True):
    """A token without its secret. An operator with `limits` starts runs within them, and no more.

    `role` is `read`, which looks, or `operate`, which does. `expires_at` None is never.
    """

    id: str
    name: str
    role: Role
    created_at: str
    expires_at: str | None = None
    limits: TokenLimits | None = None


class _Kept(Token, frozen=True):
    """What the store has."""

    digest: str = ""


class _Seen(NamedTuple):
    """A token as it was in the store at a moment of the machine's clock."""

    at: float
    token: _Kept


class Tokens:
    """The tokens of a store."""

    def __init__(self, storage: StorageAdapter, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._any: tuple[float, bool] = (
            -math.inf,
            False,
        )  # when it was looked, and whether there is one

    async def create(
        self,
        name: str,
        role: Role = "read",
        *,
        expires_in: float | None = None,
        limits: TokenLimits | None = None,
    ) -> tuple[Token, str]:
        """Make a token; returns its record and the token itself, which cannot be had again.

        `expires_in` are seconds; `limits` are for the role `operate`. Raises `InvalidNameError`,
        and `InvalidInputError` for limits that cannot be.
        """
        if not (1 <= len(name) <= LONGEST_NAME and name.isprintable() and name.strip()):
            raise InvalidNameError(
                f"a token's name is 1 to {LONGEST_NAME} printable characters, such as whose it is"
            )
        if role not in ("read", "operate"):
            raise InvalidInputError(f"a token's role is read or operate, not {role!a}")
        if expires_in is not None and not 0 < expires_in <= LONGEST_LIFE:
            raise InvalidInputError(
                "a token expires after more than 0 seconds and within 100 years"
            )
        if limits is not None:
            _check_limits(role, limits)
        now = times.to_text(self._clock.now())
        token_id = secrets.token_hex(6)
        text = f"seq_{token_id}_{secrets.token_urlsafe(32)}"
        expires_at = None if expires_in is None else times.after(now, expires_in)
        kept = _Kept(token_id, name, role, now, expires_at, limits, digest=_digest(text))
        tree = msgspec.to_builtins(kept)
        await self._storage.put_document(COLLECTION, token_id, tree, if_version=0)
        self._any = (time.monotonic(), True)
        return _shown(kept), text

    async def list(self) -> list[Token]:
        """All tokens, those that have expired too, oldest first."""
        documents = await self._storage.list_documents(COLLECTION)
        read = [_read(one.value) for one in documents]
        return sorted(
            (_shown(kept) for kept in read if kept is not None),
            key=lambda token: (token.created_at, token.id),
        )

    async def revoke(self, *tokens: str) -> Sequence[Token]:
        """Remove tokens, given by id, or by name where only one has it; returns them.

        Other processes know of it within two seconds. Raises `TokenNotFoundError`, with nothing
        removed, if one of them is not there.
        """
        every = await self.list()
        meant = [_meant(one, every) for one in tokens]
        for token in meant:
            await self._storage.delete_document(COLLECTION, token.id)
            self._seen.pop(token.id, None)
        self._any = (-math.inf, False)
        return meant

    async def find(self, text: str) -> Token | None:
        """The token that somebody presents; None if it is not one, or not any more."""
        form = _TOKEN.match(text)
        if form is None:
            return None
        kept = await self._kept(form[1])
        if kept is None or not hmac.compare_digest(kept.digest, _digest(text)):
            return None
        if kept.expires_at is not None and kept.expires_at <= times.to_text(self._clock.now()):
            return None
        return _shown(kept)

    def knows(self, text: str) -> bool:
        """Whether `find` has found the token of this id before, so that it is no guess."""
        form = _TOKEN.match(text)
        return form is not None and form[1] in self._seen

    async def exist(self) -> bool:
        """Whether there are any tokens, expired ones included."""
        at, known = self._any
        if time.monotonic() - at > FRESH:
            known = bool(await self._storage.list_documents(COLLECTION, limit=1))
            self._any = (time.monotonic(), known)
        return known

    async def _kept(self, token_id: str) -> _Kept | None:
        """A token from the store, which is not asked for every request."""
        now = time.monotonic()
        seen = self._seen.get(token_id)
        if seen is not None and now - seen.at <= FRESH:
            return seen.token
        document = await self._storage.get_document(COLLECTION, token_id)
        kept = _read(document.value) if document is not None else None
        if kept is None:
            self._seen.pop(token_id, None)
            return None
        if len(self._seen) >= MOST_KEPT:
            self._seen.clear()
        self._seen[token_id] = _Seen(now, kept)
        return kept


def _meant(token: str, every: Sequence[Token]) -> Token:
    found = [one for one in every if one.id == token] or [one for one in every if one.name == token]
    if len(found) > 1:
        listed = ", ".join(one.id for one in found)
        raise TokenNotFoundError(f"{len(found)} tokens have this name, say which: {listed}")
    if not found:
        listed = "`sequential-ecosystem tokens list` shows what there is"
        raise TokenNotFoundError(f"there is no token {token[:80]!a}: {listed}")
    return found[0]


def _check_limits(role: Role, limits: TokenLimits) -> None:
    if role == "read":
        raise InvalidInputError(
            "limits are for tokens of the role operate: one that reads has none"
        )
    allow = Allow(secrets=limits.secrets)
    config = narrowed(TaskConfig("token", allow=allow), limits.bounds)
    if problems := config_problems(config):
        raise InvalidInputError(f"limits: {'; '.join(problems)}")


def _digest(text: str) -> str:
    # No salt and no slow hash: there is nothing to be guessed in 256 random bits.
    return hashlib.sha256(text.encode()).hexdigest()


def _read(tree: object) -> _Kept | None:
    try:
        return msgspec.convert(tree, _Kept)
    except msgspec.ValidationError as error:
        log.warning("a token in the store cannot be read and is not accepted: %s", error)
        return None


def _shown(kept: _Kept) -> Token:
    return Token(**{name: getattr(kept, name) for name in Token.__struct_fields__})

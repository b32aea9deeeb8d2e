"""Signed links: who has one may do the one thing it is for, to one run, until it expires.

The token is a JSON list in base64 and its HMAC. The HMAC also covers the purpose, the run and the
event, which are in the path, so a token fits no other link.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from typing import Any
from urllib.parse import quote

import msgspec

from sequential.core import values
from sequential.core.names import check_event_name, check_run_id
from sequential.errors import InvalidInputError, InvalidLinkError, LinkExpiredError

LONGEST = 4096  # characters of a token: it has to fit into a URL
RESUME_LIFETIME = 3600.0  # seconds; what is lost longer than that, a sweep finds


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """What a page asks for, besides a yes or no: `schema` makes a form, see `core.form`.

    `to` is who gets the link; the answer says that it is `by` him.
    """

    title: str = ""
    description: str = ""
    to: str = ""
    schema: dict[str, Any] | None = None


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a token says: it counts until `expires`, in seconds of the clock of the world.

    All answers with the same `key` are one answer. `data` is the answer, a JSON tree, if
    `has_data`; else it comes with the request. `asked` is what a page for it shows.
    """

    expires: float
    key: str = ""
    has_data: bool = False
    data: Any = None
    asked: Asked | None = None


class Links:
    """Makes links and checks them, with a key that nobody outside knows."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"sequential edge link\0" + secret).digest()

    def resume(self, run_id: str) -> str:
        """The path, with its token, by which a function asks for the next one."""
        token = self._token("resume", run_id, "", Claim(time.time() + RESUME_LIFETIME))
        return f"/resume/{run_id}?token={token}"

    def answer(
        self, run_id: str, event: str, lifetime: float, key: str | None, data: tuple[Any, ...]
    ) -> str:
        """The path, with its token, by which somebody outside answers a run.

        `data` is empty or holds the answer. Raises `InvalidNameError`, and `InvalidInputError` when
        the data is too large for a link.
        """
        key = secrets.token_hex(8) if key is None else key
        tree = values.to_json(data[0], "the data") if data else None
        claim = Claim(round(time.time() + lifetime, 3), key, bool(data), tree)
        return self._path("answer", run_id, event, claim, "the data")

    def approve(
        self, run_id: str, event: str, lifetime: float, key: str | None, asked: Asked
    ) -> str:
        """The path, with its token, of a page that asks somebody for an answer to a run.

        Raises `InvalidNameError`, and `InvalidInputError` when what is asked is too large for it.
        """
        key = secrets.token_hex(8) if key is None else key
        claim = Claim(round(time.time() + lifetime, 3), key, asked=asked)
        return self._path("approve", run_id, event, claim, "what is asked")

    def check(self, purpose: str, run_id: str, token: str, event: str = "") -> Claim:
        """What a token says; raises `InvalidLinkError` if it was not made for this.

        Raises `LinkExpiredError` when it does not count any more.
        """
        body, _, signature = token.partition(".")
        right = self._signature(purpose, run_id, event, body)
        if len(token) > LONGEST or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), right.encode()
        ):
            raise InvalidLinkError("this link was not made here, or was changed")
        claim = msgspec.json.decode(_decoded(body), type=Claim)
        if claim.expires < time.time():
            raise LinkExpiredError("this link has expired: ask for a new one")
        return claim

    def _path(self, purpose: str, run_id: str, event: str, claim: Claim, what: str) -> str:
        check_run_id(run_id)
        check_event_name(event)
        token = self._token(purpose, run_id, event, claim)
        if len(token) > LONGEST:
            raise InvalidInputError(
                f"{what} makes a link of {len(token)} characters, {LONGEST} are possible: "
                "put it elsewhere and link to its name"
            )
        return f"/{purpose}/{run_id}/{quote(event, safe='')}?token={token}"

    def _token(self, purpose: str, run_id: str, event: str, claim: Claim) -> str:
        body = _encoded(msgspec.json.encode(claim))
        return f"{body}.{self._signature(purpose, run_id, event, body)}"

    def _signature(self, purpose: str, run_id: str, event: str, body: str) -> str:
        text = f"{purpose}\0{run_id}\0{event}\0{body}"
        return _encoded(hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256"))


def answer_id(run_id: str, event: str, claim: Claim) -> str:
    """The id of the answer that a link gives: the same for all deliveries of it."""
    text = f"{run_id}\0{event}\0{claim.key}"
    return "link-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:  # signed by us, so it cannot be
        raise InvalidLinkError("this link was changed") from error

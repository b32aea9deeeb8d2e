"""Webhooks: what another system sends, whether it is to be believed, and what comes of it.

A signature covers the bytes of the body as they came, and with most styles the time at which it was
made; `is_believed` compares in constant time. Senders deliver again what they think was lost, so
each delivery has an id: of all with the same one, the first counts.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from sequential.core.names import check_event_name, check_field_name, check_secret_name
from sequential.errors import InvalidInputError, InvalidNameError

TOLERANCE = 300.0  # seconds that a signature may be old
Style = Literal["hmac", "github", "stripe", "slack", "bearer"]
STYLES: tuple[str, ...] = get_args(Style)

_PATH = re.compile(r"\$(headers)?((?:\.[A-Za-z0-9_-]+)*)\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")
_ID_HEADERS = ("idempotency-key", "x-webhook-id")
# Headers that a task may see, but for those that belong to the way or could open something.
_SHOWN = re.compile(r"(content-type|user-agent|idempotency-key|x-[a-z0-9-]+)\Z")
_HIDDEN = re.compile(r"signature|token|secret|auth|api-?key|forwarded|real-ip|cookie")
_MISSING: Any = msgspec.UNSET


class Answering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which event of which run a delivery answers: `run` is a path to the id in its body."""

    event: str
    run: str


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address of a task for another system, and what a delivery there does.

    `secret` is the name of a secret in the keystore; while it is being exchanged,
    `previous_secret` counts as well. A delivery starts a run, whose input is the body as `payload`
    and some of the `headers`, or what `start` says: paths such as `$.data.id` by the names of the
    fields. With `answer` it answers a run instead. `tolerance` is how many seconds a signature may
    be old; of the style `hmac` those are signed without the time unless it is set.
    """

    name: str
    secret: str
    style: Style = "hmac"
    previous_secret: str | None = None
    start: dict[str, str] | None = None
    answer: Answering | None = None
    tolerance: float | None = None


class Delivery(NamedTuple):
    """What was sent: header fields by their names in small letters, the bytes, and what they say.

    `payload` is a JSON tree.
    """

    headers: Mapping[str, str]
    body: bytes
    payload: Any = None


class _Signed(NamedTuple):
    """What a sender claims to have signed, and when, with the signatures he gives."""

    message: bytes
    signatures: Sequence[str]
    time: str | None = None


def webhook_problems(webhook: Webhook) -> list[str]:
    """What is wrong with a webhook, a line each; nothing when it can be used."""
    return list(_problems(webhook))


def _problems(webhook: Webhook) -> Iterator[str]:
    previous = () if webhook.previous_secret is None else (webhook.previous_secret,)
    for secret in (webhook.secret, *previous):
        try:
            check_secret_name(secret)
        except InvalidNameError as error:
            yield f"secret: {error}"
    limit = webhook.tolerance
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        yield f"tolerance must be more than 0 seconds, this is {limit:g}"
    if limit is not None and webhook.style in ("github", "bearer"):
        yield f"the style {webhook.style} signs no time, so there is no tolerance"
    if webhook.start is not None and webhook.answer is not None:
        yield "give one of start and answer"
    for field, path in (webhook.start or {}).items():
        try:
            check_field_name(field)
        except InvalidNameError as error:
            yield f"start: {error}"
        yield from _path_problems(f"start.{field}", path)
    if webhook.answer is not None:
        try:
            check_event_name(webhook.answer.event)
        except InvalidNameError as error:
            yield f"answer.event: {error}"
        yield from _path_problems("answer.run", webhook.answer.run)


def _path_problems(where: str, path: str) -> Iterator[str]:
    if not _PATH.match(path):
        yield (
            f"{where}: {path[:60]!a} is no path: write $ for the body, $.data.id for a field in "
            "it, $headers.x-name for a header"
        )


# --- whether it is believed ----------------------------------------------------------------------


def is_believed(
    webhook: Webhook, delivery: Delivery, secrets: Sequence[str], seconds: float
) -> bool:
    """Whether one of the secrets signed a delivery, not too long ago; `seconds` is now, Unix time.

    How long this takes depends on the size of the body only.
    """
    signed = _signed(webhook, delivery)
    right = False
    for secret in secrets:
        expected = _expected(webhook, secret, signed.message)
        for signature in signed.signatures:
            given = signature.encode("utf-8", "replace")
            right |= hmac.compare_digest(given, expected)
    limit = TOLERANCE if webhook.tolerance is None else webhook.tolerance
    return right and (signed.time is None or _is_fresh(signed.time, seconds, limit))


def _expected(webhook: Webhook, secret: str, message: bytes) -> bytes:
    key = secret.encode()
    if webhook.style == "bearer":
        return key
    return hmac.digest(key, message, "sha256").hex().encode()


def _is_fresh(text: str, seconds: float, limit: float) -> bool:
    return bool(_TIMESTAMP.match(text)) and abs(seconds - int(text)) <= limit


def _signed(webhook: Webhook, delivery: Delivery) -> _Signed:
    headers, body = delivery.headers, delivery.body
    match webhook.style:
        case "github":
            return _Signed(body, _after("sha256=", headers.get("x-hub-signature-256", "")))
        case "slack":
            time = headers.get("x-slack-request-timestamp", "")
            message = b"v0:" + time.encode("utf-8", "replace") + b":" + body
            return _Signed(message, _after("v0=", headers.get("x-slack-signature", "")), time)
        case "stripe":
            parts = [part.strip() for part in headers.get("stripe-signature", "").split(",")]
            times = [part[2:] for part in parts if part.startswith("t=")]
            time = times[0] if len(times) == 1 else ""
            signatures = [part[3:] for part in parts if part.startswith("v1=")][:10]
            return _Signed(time.encode("utf-8", "replace") + b"." + body, signatures, time)
        case "bearer":
            scheme, _, token = headers.get("authorization", "").partition(" ")
            return _Signed(b"", [token.strip()] if scheme.lower() == "bearer" else [])
        case "hmac":
            signatures = [headers.get("x-signature", "").removeprefix("sha256=")]
            if webhook.tolerance is None:
                return _Signed(body, signatures)
            time = headers.get("x-signature-timestamp", "")
            return _Signed(time.encode("utf-8", "replace") + b"." + body, signatures, time)


def _after(prefix: str, text: str) -> list[str]:
    return [text.removeprefix(prefix)] if text.startswith(prefix) else []


# --- what it says --------------------------------------------------------------------------------


def delivery_id(webhook: Webhook, delivery: Delivery) -> str | None:
    """What all deliveries of one event have in common; None: each counts for itself.

    It is what the sender says, else a digest of what he signed. Who only shows a password, signs
    nothing, so the same words said twice may be meant twice.
    """
    headers, payload = delivery.headers, delivery.payload
    own: Any = None
    match webhook.style:
        case "github":
            own = headers.get("x-github-delivery")
        case "stripe":
            own = payload.get("id") if isinstance(payload, dict) else None
        case "slack":
            own = payload.get("event_id") if isinstance(payload, dict) else None
        case _:
            own = next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
    if isinstance(own, str) and own:
        return own[:500]
    if webhook.style == "bearer":
        return None
    return "sha256:" + hashlib.sha256(_signed(webhook, delivery).message).hexdigest()


def greeting(webhook: Webhook, delivery: Delivery) -> dict[str, Any] | None:
    """The answer to a delivery that only asks whether somebody is there; None for all others."""
    payload = delivery.payload
    if webhook.style == "github" and delivery.headers.get("x-github-event") == "ping":
        return {"pong": True}
    is_challenge = isinstance(payload, dict) and payload.get("type") == "url_verification"
    if webhook.style == "slack" and is_challenge and isinstance(payload.get("challenge"), str):
        return {"challenge": payload["challenge"]}
    return None


def webhook_input(webhook: Webhook, delivery: Delivery, declared: Sequence[str]) -> dict[str, Any]:
    """The input of the run that a delivery starts; `declared` are the task's fields, if any are.

    Without a `start` a task that declares other fields than `payload` and `headers` gets those that
    the body has.
    """
    if webhook.start is not None:
        values = {name: found_at(path, delivery) for name, path in webhook.start.items()}
        return {name: value for name, value in values.items() if value is not _MISSING}
    whole = {"payload": delivery.payload, "headers": shown_headers(delivery.headers)}
    if not declared:
        return whole
    chosen = {name: value for name, value in whole.items() if name in declared}
    if "payload" in declared or not isinstance(delivery.payload, dict):
        return chosen
    fields = {name: value for name, value in delivery.payload.items() if name in declared}
    return {**chosen, **fields}


def answered_run(answer: Answering, delivery: Delivery) -> str:
    """The id of the run that a delivery answers; raises `InvalidInputError` if it names none."""
    value = found_at(answer.run, delivery)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not (isinstance(value, str) and 0 < len(value) <= 200):
        raise InvalidInputError(f"there is no id of a run at {answer.run}")
    return value


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that a task may see: no signatures, no secrets, nothing about the way."""
    return {
        name: value
        for name, value in sorted(headers.items())
        if _SHOWN.match(name) and not _HIDDEN.search(name)
    }


def found_at(path: str, delivery: Delivery) -> Any:
    """What is at a path such as `$.data.items.0.id`; `msgspec.UNSET` when there is nothing."""
    match = _PATH.match(path)
    assert match is not None  # `webhook_problems` has seen to it
    here: Any = shown_headers(delivery.headers) if match[1] else delivery.payload
    for part in match[2].split(".")[1:]:
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
        else:
            return _MISSING
    return here

"""Requests that pages of other sites make browsers send.

A browser adds to a request what it knows about the page that made it: `Sec-Fetch-Site`, and for
all that changes something `Origin`. Programs send neither. A page of another site can send requests
with what the browser has (passwords of basic authentication, an address that only this machine
reaches), but it cannot read answers, and cannot set the header of a bearer token, unless its origin
is allowed.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from sequential.web.errors import Refused
from sequential.web.settings import ServerSettings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})  # none: the user typed the address
_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Sequential-Values"
_AN_HOUR = "3600"


def check_origin(method: str, headers: Mapping[str, str], settings: ServerSettings) -> None:
    """Refuse a request that changes something and that a page of another site has made."""
    if method in SAFE_METHODS or headers.get("authorization", "").lower().startswith("bearer "):
        return
    origin = headers.get("origin")
    if origin is not None and is_allowed(origin, settings):
        return
    is_ours = origin is None or _is_own(origin, headers.get("host", ""), settings)
    if not is_ours or headers.get("sec-fetch-site", "none") not in _OURS:
        raise Refused(
            403,
            "forbidden",
            "a page of another site sent this request",
            "if that site is yours, add its origin to the setting server.origins; behind a proxy "
            "set server.public_url",
        )


def is_allowed(origin: str, settings: ServerSettings) -> bool:
    """Whether pages of this origin may use the API."""
    return origin != "null" and origin in settings.origins


def shared_headers(origin: str) -> dict[str, str]:
    """What lets a page of an allowed origin read an answer."""
    return {"access-control-allow-origin": origin, "access-control-expose-headers": "Retry-After"}


def preflight_headers(origin: str) -> dict[str, str]:
    """What lets a page of an allowed origin send a request that it asks permission for."""
    return {
        **shared_headers(origin),
        "access-control-allow-methods": "GET, POST, PUT, DELETE",
        "access-control-allow-headers": _ALLOWED_HEADERS,
        "access-control-max-age": _AN_HOUR,
    }


def _is_own(origin: str, host: str, settings: ServerSettings) -> bool:
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https") or not place:
        return False
    if place == host.lower():
        return True
    public = urlsplit(settings.public_url.lower())
    return bool(public.netloc) and (scheme, place) == (public.scheme, public.netloc)

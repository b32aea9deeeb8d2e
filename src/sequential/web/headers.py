"""Headers that every answer has, errors and streams included."""

from litestar.datastructures import MutableScopeHeaders
from litestar.types import HTTPResponseStartEvent

_EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_PAGES = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'"


def secure(message: HTTPResponseStartEvent) -> MutableScopeHeaders:
    """Add what is missing of them to the beginning of an answer; what a handler has set stays."""
    headers = MutableScopeHeaders(message)
    for name, value in _EVERYWHERE.items():
        headers.setdefault(name, value)
    is_page = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("content-security-policy", _PAGES if is_page else _DATA)
    headers.setdefault("cache-control", "no-store")
    return headers

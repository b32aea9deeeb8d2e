"""Headers that every answer has, errors and streams included."""

from litestar.types import HTTPResponseStartEvent

_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_POLICY = b"content-security-policy"
_PAGES = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
_DATA = b"default-src 'none'; frame-ancestors 'none'"


def secure(message: HTTPResponseStartEvent) -> None:
    """Add what is missing of them to the beginning of an answer; what a handler has set stays."""
    given = [(name.lower(), value) for name, value in message.get("headers", ())]
    there = {name for name, _ in given}
    given.extend(one for one in _EVERYWHERE if one[0] not in there)
    if _POLICY not in there:
        kind = next((value for name, value in given if name == b"content-type"), b"")
        is_page = kind.startswith(b"text/html")
        given.append((_POLICY, _PAGES if is_page else _DATA))
    message["headers"] = given

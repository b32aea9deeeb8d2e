"""What came back: an answer as a value of the task, and what it says about another attempt."""

import codecs
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

# Statuses that say "later", not "no". 425 is the server's refusal to take an early request,
# made to be sent again (RFC 8470). 501 and 505 will be the same tomorrow.
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

_SECONDS = re.compile(r"\s*[0-9]{1,12}(\.[0-9]{1,9})?\s*\Z")
# Python calls these text encodings, but they are none, or are slow on purpose-built input.
_NO_CHARSET = frozenset({
    "idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7",
})  # fmt: skip


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer. `body` is decompressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    url: str
    body: bytes = b""
    charset: str | None = None

    def header(self, name: str) -> str | None:
        """The first header of this name, given in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def value(self) -> dict[str, Any]:
        """The answer as a task gets it, made of types that can be stored.

        The body is `text` where its utf-8 is exactly the body; else it is `content` in bytes, with
        `text` beside it where it could be read in the charset that the server named.
        """
        encoding = charset(self.charset)
        text = _text(self.body, encoding)
        value: dict[str, Any] = {
            "status": self.status,
            "headers": [[name, value] for name, value in self.headers],
            "url": self.url,
            "encoding": encoding,
        }
        if text is not None:
            value["text"] = text
        if text is None or text.encode() != self.body:
            value["content"] = self.body
        return value


def charset(name: str | None) -> str:
    """The charset to read a body with: the one that was named if it is known, else utf-8."""
    try:
        known = codecs.lookup(name or "utf-8").name
        "a".encode(known)  # a LookupError for codecs that are not about text, such as "zip"
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if known.replace("_", "-") in _NO_CHARSET else known


def retry_after(headers: Sequence[tuple[str, str]], now: datetime) -> float | None:
    """Seconds the server asks to wait, None if it does not say.

    Understands `retry-after-ms`, and `Retry-After` in seconds or as a date. A date is compared
    with the server's own `Date`, so a wrong clock on either side does no harm.
    """
    named = {name.lower(): value for name, value in reversed(headers)}
    milliseconds = named.get("retry-after-ms", "")
    if _SECONDS.match(milliseconds):
        return float(milliseconds) / 1000
    seconds = named.get("retry-after", "")
    if _SECONDS.match(seconds):
        return float(seconds)
    then = _date(seconds)
    if then is None:
        return None
    return max(0.0, (then - (_date(named.get("date", "")) or now)).total_seconds())


def _text(body: bytes, encoding: str) -> str | None:
    try:
        text = body.decode(encoding)
        text.encode()  # no half of a surrogate pair, which could not be stored
        return text if text.encode(encoding) == body else None
    except UnicodeError:
        return None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date

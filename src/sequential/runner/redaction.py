"""Taking secrets out of what comes back from a call that used them.

A server may echo the headers it was sent, a library may put them into an error. What is written
down then has the secret's name in its place. That is a net, not a wall: a secret in another
encoding than those below is not recognised.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from sequential.core.model import Failure, Outcome, evolve

SHORTEST = 6  # characters; anything shorter would be found by chance in other text

T = TypeVar("T")


def reference(name: str) -> str:
    """How a secret is named in headers, and what stands in its place in whatever comes back."""
    return f"{{{{secret:{name}}}}}"


class Redaction:
    """Replaces secrets, given by name, by their names."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        found = {form: reference(name) for name, value in secrets.items() for form in _forms(value)}
        # The longest first: one secret may be part of another.
        self._texts = sorted(found.items(), key=lambda item: len(item[0]), reverse=True)
        self._bytes = [(form.encode(), name.encode()) for form, name in self._texts]

    def text(self, text: str) -> str:
        for form, name in self._texts:
            text = text.replace(form, name)
        return text

    def value(self, value: T) -> T:
        """A value of a call; texts and bytes in lists, dicts, tuples and sets are looked at.

        One that is too deep comes back as it is: it can be written down nowhere.
        """
        if not self._texts:
            return value
        try:
            redacted: T = self._redacted(value)
        except RecursionError:
            return value
        return redacted

    def failure(self, failure: Failure) -> Failure:
        return evolve(failure, type=self.text(failure.type), message=self.text(failure.message))

    def outcome(self, outcome: Outcome) -> Outcome:
        error = outcome.error and self.failure(outcome.error)
        return Outcome(self.value(outcome.value), error)

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray):
            for form, name in self._bytes:
                value = value.replace(form, name)
            return value
        if isinstance(value, dict):
            return {self._redacted(key): self._redacted(item) for key, item in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(self._redacted(item) for item in value)
        return value


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is, and as JSON, HTML and URLs show it, by servers that read latin-1, too."""
    if len(secret) < SHORTEST:
        return
    for text in {secret, secret.encode().decode("latin-1")}:
        yield from (text, html.escape(text), html.escape(text, quote=False))
        for encoded in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
            yield from (encoded, encoded.replace("/", "\\/"))
        for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
            yield from (encoded, re.sub("%..", lambda found: found[0].lower(), encoded))

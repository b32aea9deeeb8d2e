"""Secrets in headers: `{{secret:name}}` in a value is filled in when the request is sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sequential.services.base import Secrets
from sequential.services.http_request import CONTROL, Request, named

_PLACE = re.compile(r"\{\{\s*secret:([^{}]*)\}\}")


async def with_secrets(request: Request, secrets: Secrets) -> Request:
    """The request with the secrets its headers name; these go to no other site on a redirect.

    Raises what `secrets.get` raises, and `ValueError` for a value that no header can hold.
    """
    headers: list[tuple[str, str]] = []
    confidential: set[str] = set()
    for header, value in request.headers:
        parts = _PLACE.split(value)  # text, name, text, name, ..., text
        if len(parts) > 1:
            parts[1::2] = [await _one_line(name.strip(), secrets) for name in parts[1::2]]
            confidential.add(header.lower())
        headers.append((header, "".join(parts)))
    if not confidential:
        return request
    return msgspec.structs.replace(
        request, headers=tuple(headers), confidential=frozenset(confidential)
    )


async def _one_line(name: str, secrets: Secrets) -> str:
    secret = await secrets.get(name)
    if CONTROL.search(secret):
        raise ValueError(
            f"headers: the secret {name!r} holds a control character, such as a line break, "
            "which no header can: store it as one line"
        )
    return secret


def refuse_elsewhere(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise `ValueError` for `{{secret:name}}` in other arguments of `fetch` than the headers.

    URLs end up in logs everywhere, and bodies in the journals of whoever receives them.
    """
    for argument, value in named(args, kwargs).items():
        if argument != "headers" and (found := _first(value)):
            raise ValueError(
                f"{argument}: {found} is filled in in headers only: send it in one, or let a "
                "service make the call"
            )


def _first(value: Any) -> str | None:
    """The first place for a secret in a value, however deep it lies."""
    if isinstance(value, str):
        found = _PLACE.search(value)
        return found[0] if found else None
    if isinstance(value, Mapping):
        return next((f for pair in value.items() for item in pair if (f := _first(item))), None)
    if isinstance(value, list | tuple | set | frozenset):
        return next((f for item in value if (f := _first(item))), None)
    return None

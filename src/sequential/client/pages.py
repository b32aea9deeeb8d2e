"""Lists that a server gives in pages."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from sequential.client.connection import Connection

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list, and where it goes on."""

    items: list[T]
    next: str | None = None


async def items(
    connection: Connection,
    path: str,
    kind: type[T],
    query: Mapping[str, Any] | None = None,
    cursor: str = "before",
) -> AsyncIterator[T]:
    """What is on all pages of a list; pages are asked for as far as one goes."""
    asked = dict(query or {})
    while True:
        answer = await connection.request("GET", path, query=asked)
        page = answer.read(Page[kind])  # type: ignore[valid-type]  # it is a type
        for item in page.items:
            yield item
        if page.next is None:
            return
        asked[cursor] = page.next


async def listed(
    connection: Connection,
    path: str,
    kind: type[T],
    query: Mapping[str, Any] | None = None,
    cursor: str = "before",
) -> list[T]:
    """All that is on all pages of a list."""
    return [item async for item in items(connection, path, kind, query, cursor)]

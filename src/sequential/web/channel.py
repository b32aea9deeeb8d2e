"""Where news is put down for those who follow it: each takes what came since it looked last.

A channel keeps the newest piece under each key, in the order in which they came, and only so many.
So nothing is put aside for anybody: who reads slowly misses steps on the way and no last state, and
costs no memory; who was away for too long is told so.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import msgspec

MOST = 1000  # pieces that a channel keeps


class Piece(NamedTuple):
    """One event, ready to be sent. `kinds` are words by which readers choose; none: for all."""

    number: int
    data: bytes
    at: str = ""
    kinds: frozenset[str] = frozenset()


class Wanted(NamedTuple):
    """Which pieces a reader wants: those with all of `each` and, if any are there, one of `one`."""

    each: frozenset[str] = frozenset()
    one: frozenset[str] = frozenset()

    @classmethod
    def of(cls, task: str | None, statuses: Iterable[str]) -> Self:
        """Runs of a task, if one is named, that have or had one of these statuses, if any are."""
        return cls(
            frozenset([task_kind(task)] if task else ()), frozenset(map(status_kind, statuses))
        )

    def takes(self, piece: Piece) -> bool:
        if not piece.kinds:
            return True
        return self.each <= piece.kinds and not (self.one and self.one.isdisjoint(piece.kinds))


EVERYTHING = Wanted()


def task_kind(name: str) -> str:
    return f"task {name}"


def status_kind(status: str) -> str:
    return f"status {status}"


def joined(pieces: Sequence[Piece], wanted: Wanted) -> bytes:
    """Those of the pieces that are wanted, as they are sent."""
    return b"".join(piece.data for piece in pieces if wanted.takes(piece))


def event(name: str, data: Any, id: str = "") -> bytes:
    """An event as `text/event-stream` has it; JSON has no line breaks of its own."""
    lines = (f"id: {id}\n" if id else "").encode()
    return lines + f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


class Channel:
    """News of one kind, for any number of readers."""

    def __init__(self, most: int = MOST) -> None:
        self.number = 0  # of the newest piece
        self.is_over = False  # nothing will be put here any more
        self.forgotten: Piece | None = None  # the newest one that had to make room
        self._most = most
        self._kept: dict[str, Piece] = {}
        self._changed = asyncio.Event()

    def put(self, key: str, data: bytes, at: str = "", kinds: Iterable[str] = ()) -> None:
        """Put a piece in place of the one with the same key, if there is one; `tell` tells of it.

        The kinds of the one that it replaces are its own as well: it may have been read by nobody.
        """
        replaced = self._kept.pop(key, None)
        self.number += 1
        known = replaced.kinds if replaced else frozenset()
        self._kept[key] = Piece(self.number, data, at, known.union(kinds))
        if len(self._kept) > self._most:
            self.forgotten = self._kept.pop(next(iter(self._kept)))

    def tell(self) -> None:
        """Wake those who wait."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        self.is_over = True
        self.tell()

    def newest(self, *keys: str) -> list[Piece]:
        """What is there under these keys."""
        return [self._kept[key] for key in keys if key in self._kept]

    def after(self, number: int) -> list[Piece] | None:
        """The pieces behind that number, oldest first; None when some of them are gone."""
        if self.forgotten is not None and number < self.forgotten.number:
            return None
        found: list[Piece] = []
        for piece in reversed(self._kept.values()):
            if piece.number <= number:
                break
            found.append(piece)
        return found[::-1]

    def since(self, moment: str) -> list[Piece] | None:
        """The pieces of things that happened at a time or later; None when some may be gone."""
        if self.forgotten is not None and self.forgotten.at >= moment:
            return None
        return [piece for piece in self._kept.values() if piece.at >= moment]

    def first(self) -> bytes:
        """For one who begins."""
        return b""

    def again(self) -> bytes:
        """For one who has missed too much: it has to load again what it shows."""
        return event("reset", {}) + self.first()

    async def wait(self, number: int, seconds: float) -> bool:
        """Whether something came behind that number; False after so many seconds without."""
        if self.number > number or self.is_over:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

"""A clock for tests: a month passes in a moment."""

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time that jumps ahead to the next moment somebody waits for, once nothing else happens.

    "Nothing" means that no awaited event was set for `patience` seconds of real time. Pass it to
    `Engine(..., clock=FakeClock())`.
    """

    def __init__(self, start: datetime | None = None, patience: float = 0.005) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._patience = patience
        self._deadlines: list[datetime] = []

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now += timedelta(seconds=seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when `event` is set or the fake time has come."""
        if seconds is None:
            await event.wait()
            return
        deadline = self._now + timedelta(seconds=seconds)
        self._deadlines.append(deadline)
        try:
            while not event.is_set() and self._now < deadline:
                before = self._now
                try:
                    await asyncio.wait_for(event.wait(), self._patience)
                except TimeoutError:
                    if self._now == before and deadline == min(self._deadlines):
                        self._now = deadline
        finally:
            self._deadlines.remove(deadline)

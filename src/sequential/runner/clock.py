"""Time, as the runner uses it: one small interface, so that tests can let a month pass at once."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting for something no longer than a given time."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when `event` is set or `seconds` have passed (None: never)."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        if seconds is None:
            await event.wait()
            return
        try:
            # A machine that sleeps or has its clock set is noticed within the hour.
            async with asyncio.timeout(min(seconds, 3600.0)):
                await event.wait()
        except TimeoutError:
            pass

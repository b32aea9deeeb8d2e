"""Points in time as text: UTC, ISO-8601, milliseconds, `2026-11-21T03:04:05.678Z`.

Records carry times in this form because it sorts as text and reads the same in every store.
"""

from datetime import UTC, datetime, timedelta


def to_text(moment: datetime) -> str:
    """The text of an aware `datetime`, cut to milliseconds."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def from_text(text: str) -> datetime:
    """The aware `datetime` of a text made by `to_text`."""
    return datetime.fromisoformat(text)


def after(text: str, seconds: float) -> str:
    """The time `seconds` after `text`; the end of the calendar if it lies beyond that."""
    try:
        return to_text(from_text(text) + timedelta(seconds=seconds))
    except OverflowError:
        return "9999-12-31T23:59:59.999Z" if seconds > 0 else "0001-01-01T00:00:00.000Z"


def seconds_between(start: str, end: str) -> float:
    """Seconds from `start` to `end`, negative when `end` is earlier."""
    return (from_text(end) - from_text(start)).total_seconds()

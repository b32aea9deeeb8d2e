"""Schedules: when runs of a task begin by themselves, as a question of times alone.

A schedule goes by a cron expression, read on the clocks of its time zone, or by an interval, which
is elapsed time. All functions take and return moments as text (`core.times`). Where clocks are put
forward or back, cron expressions do what Debian's cron does: a time of day that is skipped comes as
soon as it is over, one that exists twice comes once. Expressions whose minute or hour begins with
`*` go by the time that really passes.
"""

import difflib
import functools
import math
import re
from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from sequential.core import times

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

GRACE = 60.0  # seconds: a run that begins no later than this was not missed
SHORTEST, LONGEST = 1.0, 3660 * 86400.0  # seconds of an interval
LONGEST_CRON = 200  # characters

# The names that cron has for common expressions.
NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * SUN",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# The fields of an expression in their order, and what each may be.
FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 in a month that has it, L for its last day, LW for its last weekday",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT; MON#1 is the first Monday of a month, 1L the last",
}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WRITTEN = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)\s?([smhdw]?)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_WIDER = 8  # by how much each look back for the latest moment goes further than the one before


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When runs of a task begin by themselves, and with which input.

    Either `cron`, an expression of five fields as in `0 9 * * MON` or a name such as `@daily`, read
    in `time_zone`; or `every`, seconds or text such as `15m`, `2h`, `1d`, counted from `start`,
    else from when the schedule was made. Nothing comes before `start`, an ISO date and time.
    `catch_up` says what becomes of times at which no worker was there: `one` run for all of them,
    `all` of them, or `none`.
    """

    name: str
    cron: str | None = None
    every: float | str | None = None
    time_zone: str = "UTC"
    input: dict[str, Any] = {}
    catch_up: Literal["none", "one", "all"] = "one"
    enabled: bool = True
    start: str | None = None


class Scheduled(msgspec.Struct, frozen=True):
    """A schedule and where it stands. `origin` is `config.json`, or `api` if it was set.

    `next` is when its next run is created, `last` for which moment one was created last, `run` is
    that run. `problem` says what is wrong with the schedule, or why a moment got no run.
    """

    task: str
    schedule: Schedule
    origin: str
    next: str | None = None
    last: str | None = None
    run: str | None = None
    problem: str | None = None


class Due(NamedTuple):
    """What has to be done: runs for these moments, and then all up to `upto` is dealt with."""

    moments: tuple[str, ...]
    upto: str


def next_time(schedule: Schedule, after: str) -> str | None:
    """The first moment of a schedule that is later than `after`; None if there is none.

    An interval needs its `start`: see `counted_from`.
    """
    found = _times(schedule).after(_milliseconds(after))
    return None if found is None else _text(found)


def upcoming(schedule: Schedule, after: str) -> Iterator[str]:
    """All moments of a schedule that are later than `after`, one after the other."""
    moment = next_time(schedule, after)
    while moment is not None:
        yield moment
        moment = next_time(schedule, moment)


def due_times(schedule: Schedule, since: str, now: str, limit: int = 100) -> Due:
    """What has to be done at `now` when all up to `since` is dealt with, as `catch_up` says.

    Of those that catch up with all, the oldest `limit`; ask again from `upto` on for the others.
    """
    if schedule.catch_up == "all":
        moments: list[str] = []
        for moment in upcoming(schedule, since):
            if moment > now or len(moments) == limit:
                break
            moments.append(moment)
        return Due(tuple(moments), moments[-1] if moments else since)
    latest = _latest(schedule, _milliseconds(since), _milliseconds(now))
    if latest is None:
        return Due((), since)
    is_missed = schedule.catch_up == "none" and _milliseconds(now) - latest > GRACE * 1000
    return Due(() if is_missed else (_text(latest),), _text(latest))


def counted_from(schedule: Schedule, made: str) -> Schedule:
    """The schedule with a `start` for its interval: its own, else the moment it was made."""
    if schedule.every is None or schedule.start is not None:
        return schedule
    return msgspec.structs.replace(schedule, start=made)


def timing(schedule: Schedule) -> str:
    """What the times of a schedule follow from: if it differs, they are to be counted anew."""
    fixed = (schedule.start, schedule.enabled)
    parts = (schedule.cron, schedule.every, schedule.time_zone, *fixed)
    return msgspec.json.encode(parts).decode()


def scheduled_input(schedule: Schedule, moment: str, fields: Container[str]) -> dict[str, Any]:
    """The input of the run for a moment, with `scheduled_for` if the task has such a field."""
    given = dict(schedule.input)
    if "scheduled_for" in fields:
        given.setdefault("scheduled_for", moment)
    return given


def schedule_problems(schedule: Schedule) -> tuple[str, ...]:
    """What is wrong with the times of a schedule, a line each; nothing when it can be used."""
    return _problems(schedule.cron, schedule.every, schedule.time_zone, schedule.start)


@functools.lru_cache(512)  # asked for with every run of a task that has schedules
def _problems(
    cron: str | None, every: float | str | None, time_zone: str, start: str | None
) -> tuple[str, ...]:
    try:
        zone = _zone(time_zone)
    except ValueError as error:
        return (str(error),)
    found: list[str] = []
    if (cron is None) == (every is None):
        found.append("give either cron, as in '0 9 * * MON', or every, as in '15m'")
    for check in (
        lambda: None if start is None else _moment(start, zone),
        lambda: None if every is None else interval_seconds(every),
        lambda: None if cron is None else _check_cron(cron),
    ):
        try:
            check()
        except ValueError as error:
            found.append(str(error))
    return tuple(found)


def interval_seconds(every: float | str) -> float:
    """The seconds of an interval; raises `ValueError` that says how it is written."""
    if isinstance(every, str):
        written = _WRITTEN.fullmatch(every.strip().lower())
        if written is None:
            raise ValueError(
                f"every: {every[:40]!a} is no interval: write 90s, 15m, 12h, 30d or 8w"
            )
        seconds = float(written[1]) * _UNITS[written[2]]
    else:
        seconds = float(every)
    if not (math.isfinite(seconds) and SHORTEST <= seconds <= LONGEST):
        raise ValueError(f"every: {every} is out of range: use 1 second to 10 years")
    return seconds


# --- cron ----------------------------------------------------------------------------------------


def _check_cron(cron: str) -> None:
    """Raise `ValueError` that names the field that is wrong, and what it may be."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - see _Cron

    shown = ascii(cron[:60])
    if cron.startswith("@") and cron.lower() not in NAMED:
        raise ValueError(f"cron: there is no {shown}: use one of {', '.join(NAMED)}")
    if len(cron) > LONGEST_CRON:
        raise ValueError(f"cron: {len(cron)} characters are too many, at most {LONGEST_CRON}")
    fields = _fields(cron)
    if len(fields) != len(FIELDS):
        raise ValueError(
            f"cron: {shown} has {len(fields)} of {len(FIELDS)} fields: write "
            f"{' '.join(FIELDS)}, as in '0 9 * * MON' for Mondays at 9"
        )
    try:
        found = next(CronSim(" ".join(fields), _EPOCH), None)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        written = dict(zip(FIELDS, fields, strict=True)).get(name, cron)
        may_be = FIELDS.get(name, "five fields")
        raise ValueError(f"cron: the {name} {written[:40]!a} cannot be used: {may_be}") from None
    if found is None:
        raise ValueError(f"cron: {shown} never comes: no day fits all of its fields")


def _fields(cron: str) -> list[str]:
    return NAMED.get(cron.lower(), cron).split()


class _Cron:
    """The moments of an expression, as milliseconds since 1970."""

    def __init__(self, cron: str, zone: "ZoneInfo", start: int | None) -> None:
        self._expression = " ".join(_fields(cron))
        self._zone = zone
        self._start = start

    def after(self, moment: int) -> int | None:
        # It is imported here because most programs that import the records have no schedule.
        from cronsim import CronSim  # noqa: PLC0415

        if self._start is not None:
            moment = max(moment, self._start - 1)
        try:
            local = _datetime(moment).astimezone(self._zone)
            for found in CronSim(self._expression, local):
                # An hour that exists twice is passed twice on the clock, and counts once.
                if (candidate := _from(found)) > moment:
                    return candidate
        except (OverflowError, ValueError):  # the end of the calendar
            pass
        return None

    def latest(self, since: int, now: int) -> int | None:
        """The last moment after `since` and not after `now`.

        It is looked for in the last minute, and then further and further back.
        """
        back = 60_000
        while True:
            begin = max(since, now - back)
            last, moment = None, self.after(begin)
            while moment is not None and moment <= now:
                last, moment = moment, self.after(moment)
            if last is not None or begin == since:
                return last
            back *= _WIDER


class _Interval:
    """The moments of an interval, as milliseconds since 1970: they do not drift."""

    def __init__(self, every: float | str, start: int) -> None:
        self._every = round(interval_seconds(every) * 1000)
        self._start = start

    def after(self, moment: int) -> int | None:
        if moment < self._start:
            return self._start
        found = self._start + ((moment - self._start) // self._every + 1) * self._every
        return found if found <= _LAST else None

    def latest(self, since: int, now: int) -> int | None:
        if now < self._start:
            return None
        last = self._start + (now - self._start) // self._every * self._every
        return last if last > since else None


def _times(schedule: Schedule) -> _Cron | _Interval:
    zone = _zone(schedule.time_zone)
    start = None if schedule.start is None else _from(_moment(schedule.start, zone))
    if schedule.cron is not None:
        return _Cron(schedule.cron, zone, start)
    assert schedule.every is not None
    assert start is not None
    return _Interval(schedule.every, start)


def _latest(schedule: Schedule, since: int, now: int) -> int | None:
    return _times(schedule).latest(since, now) if now > since else None


# --- moments -------------------------------------------------------------------------------------


def _zone(name: str) -> "ZoneInfo":
    """A time zone by name; raises `ValueError` with the name that was probably meant."""
    import zoneinfo  # noqa: PLC0415 - see _Cron

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = {one.lower(): one for one in zoneinfo.available_timezones()}
        near = difflib.get_close_matches(name.lower()[:60], known, n=1)
        hint = f"did you mean {known[near[0]]}?" if near else "use a name such as Europe/Berlin"
        raise ValueError(f"time_zone: there is no {name[:60]!a}: {hint}") from None


def _moment(text: str, zone: "ZoneInfo") -> datetime:
    """An ISO date and time, on the clocks of the zone unless it says otherwise."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"start: {text[:40]!a} is no date and time: write 2026-12-01T09:00"
        ) from None


def _milliseconds(text: str) -> int:
    return _from(times.from_text(text))


def _from(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _datetime(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _text(milliseconds: int) -> str:
    return times.to_text(_datetime(milliseconds))

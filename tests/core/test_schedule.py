"""When schedules are due: cron expressions, intervals, time zones, and what was missed."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequential.core import times
from sequential.core.schedule import (
    NAMED,
    Due,
    Schedule,
    counted_from,
    due_times,
    next_time,
    schedule_problems,
    scheduled_input,
    timing,
    upcoming,
)

NOON = "2026-03-01T12:00:00.000Z"


def first(schedule: Schedule, after: str, count: int = 3) -> list[str]:
    """The next moments, without what all of them have: seconds and the letter Z."""
    return [moment.removesuffix(":00.000Z") for moment in islice(upcoming(schedule, after), count)]


def cron(expression: str, **more: Any) -> Schedule:
    return Schedule("nightly", cron=expression, **more)


# --- cron ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 14 * * *", "2026-03-01T14:30"),
        ("*/20 * * * *", "2026-03-01T12:20"),
        ("0 9 * * MON", "2026-03-02T09:00"),
        ("0 9 * * mon-fri", "2026-03-02T09:00"),
        ("0 9 1 JAN *", "2027-01-01T09:00"),
        ("0 0 L * *", "2026-03-31T00:00"),
        ("0 0 * * FRI#1", "2026-03-06T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 13 * FRI", "2026-03-06T00:00"),  # a day that fits either of the two
        ("@hourly", "2026-03-01T13:00"),
        ("@Daily", "2026-03-02T00:00"),
        ("@weekly", "2026-03-08T00:00"),
        ("@monthly", "2026-04-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
    ],
)
def test_an_expression_has_a_next_time(expression: str, expected: str) -> None:
    assert first(cron(expression), NOON, 1) == [expected]


@pytest.mark.parametrize("name", NAMED)
def test_the_names_of_cron_can_be_used(name: str) -> None:
    assert schedule_problems(cron(name)) == ()
    assert next_time(cron(name), NOON)


def test_a_moment_comes_only_after_the_one_before() -> None:
    assert next_time(cron("0 12 * * *"), NOON) == "2026-03-02T12:00:00.000Z"
    assert next_time(cron("0 12 * * *"), "2026-03-01T11:59:59.999Z") == NOON


def test_nothing_comes_before_the_start() -> None:
    schedule = cron("0 9 * * *", start="2026-04-01T09:00", time_zone="Europe/Berlin")
    assert first(schedule, NOON, 2) == ["2026-04-01T07:00", "2026-04-02T07:00"]


def test_the_calendar_has_an_end() -> None:
    end = "9999-12-31T23:59:59.999Z"
    assert next_time(cron("* * * * *"), end) is None
    assert next_time(Schedule("x", every="1d", start="2026-01-01"), end) is None


# --- clocks that are put forward and back --------------------------------------------------------


def berlin(expression: str) -> Schedule:
    return cron(expression, time_zone="Europe/Berlin")


def test_a_time_zone_has_its_own_clocks() -> None:
    assert first(berlin("0 9 * * *"), "2026-01-10T00:00:00.000Z", 1) == ["2026-01-10T08:00"]
    assert first(berlin("0 9 * * *"), "2026-07-10T00:00:00.000Z", 1) == ["2026-07-10T07:00"]


def test_a_time_of_day_that_is_skipped_comes_as_soon_as_it_is_over() -> None:
    # On 29 March 2026 clocks in Berlin go from 2:00 to 3:00, which is 1:00 UTC.
    assert first(berlin("30 2 * * *"), "2026-03-28T00:00:00.000Z") == [
        "2026-03-28T01:30",
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]


def test_times_of_day_that_are_skipped_together_come_once() -> None:
    assert first(berlin("0,30 2,3 * * *"), "2026-03-29T00:00:00.000Z", 3) == [
        "2026-03-29T01:00",
        "2026-03-29T01:30",
        "2026-03-30T00:00",
    ]


def test_a_time_of_day_that_exists_twice_comes_once() -> None:
    # On 25 October 2026 clocks in Berlin go from 3:00 back to 2:00, which is 1:00 UTC.
    expected = ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]
    assert first(berlin("30 2 * * *"), "2026-10-24T00:00:00.000Z") == expected
    # Also when one asks in the hour that is repeated.
    assert first(berlin("30 2 * * *"), "2026-10-25T01:10:00.000Z", 1) == ["2026-10-26T01:30"]


def test_every_hour_comes_every_hour_whatever_the_clocks_say() -> None:
    for day in ("2026-03-29", "2026-10-25"):
        expected = [f"{day}T0{hour}:00" for hour in range(6)]
        before = times.after(f"{day}T00:00:00.000Z", -1)
        assert first(berlin("0 * * * *"), before, 6) == expected


# Not Lord Howe Island, whose clocks change by half an hour: there cronsim leaves out a moment.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata"]
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(
    lambda moment: times.to_text(moment.replace(tzinfo=UTC))
)
MINUTE, HOUR = (
    st.sampled_from(["0", "30", "*/7", "*", "1-5", "15,45"]),
    st.sampled_from(["0", "2", "3", "*", "*/3", "1-3", "23"]),
)
DAY = st.sampled_from(["* * *", "1 * *", "* * SUN", "L * *", "29 2 *"])
EXPRESSIONS = st.tuples(MINUTE, HOUR, DAY).map(" ".join)


@settings(max_examples=120, deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS)
def test_moments_only_go_forward_and_are_found_from_anywhere(
    expression: str, zone: str, since: str
) -> None:
    schedule = cron(expression, time_zone=zone)
    moments = list(islice(upcoming(schedule, since), 12))
    assert moments == sorted(set(moments))
    assert moments[0] > since
    for before, moment in pairwise(moments):
        middle = times.after(before, times.seconds_between(before, moment) / 2)
        assert next_time(schedule, middle) == moment
    # The latest of many is the last of them.
    now = times.after(moments[-1], 0.5)
    assert due_times(schedule, since, now).moments == (moments[-1],)


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789*,-/#L@WMON ", max_size=30))
def test_any_text_is_an_expression_or_has_a_problem(text: str) -> None:
    if not schedule_problems(cron(text)):
        assert next_time(cron(text), NOON)


# --- intervals -----------------------------------------------------------------------------------


def test_an_interval_is_counted_from_its_start_and_does_not_drift() -> None:
    schedule = Schedule("poll", every=0.1 * 11, start="2026-01-01T00:00:00Z")
    hour_later = next_time(schedule, "2026-01-01T01:00:00.500Z")
    assert hour_later == "2026-01-01T01:00:01.400Z"  # 3274 times 1.1 s
    moments = list(islice(upcoming(schedule, "2025-12-31T00:00:00.000Z"), 3))
    assert moments == [f"2026-01-01T00:00:{s}Z" for s in ("00.000", "01.100", "02.200")]


@pytest.mark.parametrize(
    ("every", "seconds"),
    [
        (90, 90),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("1.5 h", 5400),
        ("1D", 86400),
        ("1w", 604800),
    ],
)
def test_an_interval_is_seconds_or_text(every: Any, seconds: int) -> None:
    schedule = Schedule("poll", every=every, start=NOON)
    assert next_time(schedule, NOON) == times.after(NOON, seconds)


def test_an_interval_is_counted_from_when_it_was_made_unless_it_has_a_start() -> None:
    assert counted_from(Schedule("poll", every="1h"), NOON).start == NOON
    assert (
        counted_from(Schedule("poll", every="1h", start="2026-01-01"), NOON).start == "2026-01-01"
    )
    assert counted_from(cron("@daily"), NOON).start is None


def test_days_of_an_interval_have_24_hours() -> None:
    daily = Schedule("x", every="1d", start="2026-03-28T09:00", time_zone="Europe/Berlin")
    assert first(daily, NOON) == ["2026-03-28T08:00", "2026-03-29T08:00", "2026-03-30T08:00"]


# --- what was missed -----------------------------------------------------------------------------


def after_three_days(catch_up: Any, **more: Any) -> Due:
    return due_times(
        cron("0 */6 * * *", catch_up=catch_up), NOON, times.after(NOON, 3 * 86400 + 3600), **more
    )


def test_nothing_is_due_before_its_time() -> None:
    for catch_up in ("none", "one", "all"):
        schedule = cron("0 18 * * *", catch_up=catch_up)
        assert due_times(schedule, NOON, times.after(NOON, 3600)) == Due((), NOON)
        assert due_times(schedule, NOON, times.after(NOON, -86400)) == Due((), NOON)


def test_one_run_stands_for_all_that_were_missed() -> None:
    latest = "2026-03-04T12:00:00.000Z"
    assert after_three_days("one") == Due((latest,), latest)


def test_what_was_missed_can_be_skipped() -> None:
    assert after_three_days("none") == Due((), "2026-03-04T12:00:00.000Z")


def test_a_minute_late_is_not_missed() -> None:
    schedule = cron("0 18 * * *", catch_up="none")
    six = "2026-03-01T18:00:00.000Z"
    assert due_times(schedule, NOON, times.after(six, 60)) == Due((six,), six)
    assert due_times(schedule, NOON, times.after(six, 60.001)) == Due((), six)


def test_all_that_was_missed_comes_in_its_order_some_at_a_time() -> None:
    every = after_three_days("all")
    assert len(every.moments) == 12
    assert list(every.moments) == sorted(every.moments)
    some = after_three_days("all", limit=5)
    assert some == Due(every.moments[:5], every.moments[4])


def test_the_latest_of_very_many_is_found_at_once() -> None:
    since = times.to_text(datetime(1990, 1, 1, tzinfo=UTC))
    begin = datetime.now()
    for schedule in (cron("* 3 * * *"), Schedule("x", every=1, start="1990-01-01")):
        (moment,) = due_times(schedule, since, NOON).moments
        assert moment in ("2026-03-01T03:59:00.000Z", NOON)
    assert datetime.now() - begin < timedelta(seconds=1)


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "give either cron, as in '0 9 * * MON', or every, as in '15m'"),
        ({"cron": "@daily", "every": 60}, "give either cron"),
        ({"cron": "61 * * * *"}, "cron: the minute '61' cannot be used: 0 to 59"),
        ({"cron": "0 24 * * *"}, "cron: the hour '24' cannot be used: 0 to 23"),
        ({"cron": "0 0 32 * *"}, "cron: the day-of-month '32' cannot be used: 1 to 31"),
        ({"cron": "0 0 30 2 *"}, "cron: the day-of-month '30' cannot be used"),
        ({"cron": "0 0 * JANUARY *"}, "cron: the month 'JANUARY' cannot be used"),
        ({"cron": "0 0 * * MO"}, "cron: the day-of-week 'MO' cannot be used: 0 to 7, or SUN"),
        ({"cron": "0 9 * *"}, "cron: '0 9 * *' has 4 of 5 fields: write minute hour day-of-month"),
        ({"cron": "0 0 9 * * *"}, "has 6 of 5 fields"),
        ({"cron": ""}, "has 0 of 5 fields"),
        ({"cron": "1," * 200 + "1 * * * *"}, "characters are too many, at most 200"),
        ({"cron": "@reboot"}, "cron: there is no '@reboot': use one of @hourly"),
        ({"every": "often"}, "every: 'often' is no interval: write 90s, 15m"),
        ({"every": 0.5}, "every: 0.5 is out of range: use 1 second to 10 years"),
        ({"every": "9999w"}, "every: 9999w is out of range"),
        ({"every": float("nan")}, "out of range"),
        ({"every": 60, "start": "tomorrow"}, "start: 'tomorrow' is no date and time: write 2026-"),
        ({"every": 60, "start": "0001-01-01T00:00+23:00"}, "is no date and time"),
        ({"every": 60, "time_zone": "europe/berlin"}, "did you mean Europe/Berlin?"),
        ({"every": 60, "time_zone": "../passwd"}, "time_zone: there is no '../passwd'"),
        ({"every": 60, "time_zone": ""}, "time_zone: there is no '': use a name such as Europe"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], problem: str) -> None:
    (found,) = schedule_problems(Schedule("x", **fields))
    assert problem in found


def test_all_that_is_wrong_is_listed() -> None:
    assert len(schedule_problems(Schedule("x", cron="*", every="x", start="y"))) == 4


# --- what else follows from a schedule -----------------------------------------------------------


def test_a_change_of_the_times_can_be_told_from_other_changes() -> None:
    one = cron("@daily")
    assert timing(one) == timing(cron("@daily", catch_up="all", input={"a": 1}))
    for other in (
        cron("@hourly"),
        cron("@daily", time_zone="Asia/Tokyo"),
        cron("@daily", enabled=False),
    ):
        assert timing(one) != timing(other)


def test_the_moment_is_filled_in_where_the_task_asks_for_it() -> None:
    plain, own = cron("@daily", input={"a": 1}), cron("@daily", input={"scheduled_for": "x"})
    assert scheduled_input(plain, NOON, {"a"}) == {"a": 1}
    assert scheduled_input(plain, NOON, {"a", "scheduled_for"}) == {"a": 1, "scheduled_for": NOON}
    assert scheduled_input(own, NOON, {"scheduled_for"}) == {"scheduled_for": "x"}

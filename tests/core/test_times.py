"""Times as text: UTC, milliseconds, sortable."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core import times

NOW = "2026-11-21T03:04:05.678Z"
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)


def test_the_form() -> None:
    assert times.to_text(datetime(2026, 11, 21, 3, 4, 5, 678999, tzinfo=UTC)) == NOW
    assert times.to_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000Z"


def test_another_zone_is_turned_into_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert times.to_text(datetime(2026, 11, 21, 4, 4, 5, 678000, tzinfo=berlin)) == NOW


@given(MOMENTS)
def test_a_time_comes_back_cut_to_milliseconds(moment: datetime) -> None:
    back = times.from_text(times.to_text(moment))
    assert back.utcoffset() == timedelta(0)
    assert timedelta(0) <= moment - back < timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_times_do(one: datetime, other: datetime) -> None:
    assert (times.to_text(one) <= times.to_text(other)) or one > other


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, NOW),
        (0.322, "2026-11-21T03:04:06.000Z"),
        (-5.678, "2026-11-21T03:04:00.000Z"),
        (30 * 86400, "2026-12-21T03:04:05.678Z"),
        (1e12, "9999-12-31T23:59:59.999Z"),
        (1e300, "9999-12-31T23:59:59.999Z"),
        (float("inf"), "9999-12-31T23:59:59.999Z"),
        (-1e12, "0001-01-01T00:00:00.000Z"),
        (-1e300, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_after(seconds: float, expected: str) -> None:
    assert times.after(NOW, seconds) == expected


def test_seconds_between() -> None:
    assert times.seconds_between(NOW, times.after(NOW, 1.5)) == 1.5
    assert times.seconds_between(times.after(NOW, 1.5), NOW) == -1.5

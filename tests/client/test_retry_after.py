"""What `Retry-After` says."""

from datetime import UTC, datetime

import pytest

from sequential.client.retry_after import retry_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "5"}, 5.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "9" * 5000}, 999999999999.0),
        ({"Retry-After": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        (
            {
                "Retry-After": "Thu, 01 Jan 2026 15:00:10 GMT",
                "Date": "Thu, 01 Jan 2026 15:00:00 GMT",  # a clock that is wrong
            },
            10.0,
        ),
    ],
)
def test_seconds_until_the_next_attempt(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds

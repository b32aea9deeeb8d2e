"""When a call is tried again: growth, cap, spread, and what the other side asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core.model import RetryPolicy
from sequential.core.retry import next_delay

EXACT = RetryPolicy(retries=10, delay=1.0, factor=2.0, max_delay=30.0, jitter=0.0)


def test_the_delay_doubles_up_to_the_cap() -> None:
    delays = [next_delay(EXACT, attempts, "k") for attempts in range(1, 9)]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_after_the_last_attempt_there_is_no_other() -> None:
    assert next_delay(EXACT, 10, "k") == 30
    assert next_delay(EXACT, 11, "k") is None
    assert next_delay(RetryPolicy(retries=0), 1, "k") is None


def test_a_call_may_have_its_own_number_of_retries() -> None:
    assert next_delay(EXACT, 1, "k", retries=0) is None
    assert next_delay(EXACT, 11, "k", retries=11) == 30


def test_retry_after_is_honoured_when_it_is_longer() -> None:
    assert next_delay(EXACT, 1, "k", retry_after=0.5) == 1
    assert next_delay(EXACT, 1, "k", retry_after=3600) == 3600
    assert next_delay(EXACT, 11, "k", retry_after=3600) is None


@given(st.integers(1, 20), st.text(), st.floats(0, 1))
def test_the_spread_stays_within_its_bounds(attempts: int, key: str, jitter: float) -> None:
    policy = RetryPolicy(retries=20, jitter=jitter)
    middle = min(30.0, 2.0 ** (attempts - 1))
    delay = next_delay(policy, attempts, key)
    assert delay is not None
    assert middle * (1 - jitter) <= delay <= middle * (1 + jitter)


def test_the_spread_depends_on_the_key_and_the_attempt_only() -> None:
    policy = RetryPolicy(retries=100, factor=1.0, jitter=0.5)
    drawn = [next_delay(policy, n, key) for n in range(1, 51) for key in ("a", "b")]
    again = [next_delay(policy, n, key) for n in range(1, 51) for key in ("a", "b")]
    assert drawn == again
    assert len(set(drawn)) == 100
    low, high = min(filter(None, drawn)), max(filter(None, drawn))
    assert low < 0.6
    assert high > 1.4


def test_the_spread_stays_the_same_in_later_versions() -> None:
    """Pinned: a replay by a later version must see the same times."""
    assert next_delay(RetryPolicy(), 1, "seq-1") == pytest.approx(0.929271818511188, abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(retries=10**9, jitter=0), 30),
        (RetryPolicy(retries=10**9, jitter=0, factor=1e300), 30),
        (RetryPolicy(retries=10**9, jitter=0, delay=1e308), 30),
        (RetryPolicy(retries=10**9, jitter=0, delay=0), 0),
        (RetryPolicy(retries=10**9, jitter=0, factor=0.5), 0),
        (RetryPolicy(retries=10**9, jitter=0, factor=0), 0),
        (RetryPolicy(retries=10**9, jitter=0, factor=1), 1),
    ],
)
def test_a_great_many_attempts_do_no_harm(policy: RetryPolicy, expected: float) -> None:
    assert next_delay(policy, 10**9, "k") == expected


def test_a_spread_of_more_than_all_never_waits_backwards() -> None:
    policy = RetryPolicy(retries=100, jitter=5.0)
    delays = [next_delay(policy, n, "k") for n in range(1, 100)]
    assert min(delay for delay in delays if delay is not None) == 0

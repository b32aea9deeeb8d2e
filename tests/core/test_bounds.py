"""Bounds: what they make of a policy, and how limits of several combine."""

import pytest

from sequential.core.bounds import PUBLIC, TokenLimits, least, narrowed
from sequential.core.model import Allow, Bounds, Limits, TaskConfig, evolve


def test_a_policy_keeps_its_own_words_within_bounds() -> None:
    config = TaskConfig("t", allow=Allow(hosts=("a.example",)), timeout=60.0)
    bounds = Bounds(hosts=("*.example",), timeout=10.0, limits=Limits(memory_mb=64))

    narrow = narrowed(config, bounds)

    assert narrow.allow.hosts == ("a.example",)
    assert narrow.allow.within == (bounds,)
    assert narrow.timeout == 10.0
    assert narrow.limits.memory_mb == 64
    assert narrow.limits.cpu_seconds == config.limits.cpu_seconds


def test_bounds_only_make_it_narrower() -> None:
    config = TaskConfig("t", timeout=5.0, limits=Limits(memory_mb=32))

    wide = narrowed(config, Bounds(timeout=100.0, limits=Limits(memory_mb=1024)))

    assert (wide.timeout, wide.limits.memory_mb) == (5.0, 32)


def test_the_same_bounds_count_once_and_none_not_at_all() -> None:
    config = narrowed(TaskConfig("t"), Bounds(), PUBLIC, PUBLIC)

    assert config.allow.within == (PUBLIC,)
    assert narrowed(config, PUBLIC) is config


@pytest.mark.parametrize(
    ("one", "other", "both"), [(None, None, None), (1, None, 1), (None, 2, 2), (3, 2, 2)]
)
def test_the_least_of_limits(one: int | None, other: int | None, both: int | None) -> None:
    assert least(one, other) == both


def test_a_secret_has_to_be_in_every_list() -> None:
    allow = Allow(secrets=("crm/*",), within=(Bounds(secrets=("crm/token", "db")),))

    assert allow.permits_secret("crm/token")
    assert not allow.permits_secret("crm/other")
    assert not allow.permits_secret("db")
    assert evolve(allow, within=()).permits_secret("crm/other")


def test_stars_stand_for_what_is_ordinary() -> None:
    assert PUBLIC.permits_service("crm")
    assert not PUBLIC.permits_service("keystore", named_only=True)
    assert Bounds(services=("*", "keystore")).permits_service("keystore", named_only=True)
    assert Bounds().permits_service("keystore", named_only=True)
    assert not Bounds(services=()).permits_service("crm")
    assert Bounds(tasks=("*",)).permits_task("a")
    assert not Bounds(tasks=("b",)).permits_task("a")


def test_the_bounds_of_a_token_are_those_of_its_runs() -> None:
    limits = TokenLimits(hosts=("a.example",), runs=3, run_seconds=60.0, largest_code=10)

    assert limits.bounds == Bounds(hosts=("a.example",))

"""Ids sort by time, and keys are the same for every attempt and another one for every call."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core import ids
from sequential.core.names import check_run_id

TIMES = st.integers(0, 2**48 - 1)
ENTROPY = st.binary(min_size=10, max_size=10)


@given(TIMES, ENTROPY)
def test_a_run_id_is_a_uuid_of_version_7(milliseconds: int, entropy: bytes) -> None:
    made = ids.run_id(milliseconds, entropy)
    parsed = uuid.UUID(check_run_id(made))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == milliseconds


@given(TIMES, TIMES, ENTROPY, ENTROPY)
def test_run_ids_sort_by_time(one: int, other: int, a: bytes, b: bytes) -> None:
    if one < other:
        assert ids.run_id(one, a) < ids.run_id(other, b)


def test_a_name_of_ones_own_stands_for_one_run_id() -> None:
    """Pinned: a run that was started by an older version must be found again by its name."""
    assert ids.named_run_id("order-42") == "0f2bcf20-d1b8-5bfa-8d5e-a736d7e2f0b0"
    assert ids.named_run_id("order-43") != ids.named_run_id("order-42")


def test_a_run_id_is_its_own_name() -> None:
    made = ids.run_id(1, b"0123456789")
    assert ids.named_run_id(made) == made
    assert ids.named_run_id(made.upper()) != made.upper()
    assert check_run_id(ids.named_run_id(made[:-1])) != made[:-1]


def test_the_example_of_the_standard() -> None:
    """RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC."""
    entropy = bytes.fromhex("0cc318c4dc0c0c07398f")
    assert ids.run_id(0x017F22E279B0, entropy) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_every_bit_of_the_entropy_but_six_counts() -> None:
    drawn = {ids.run_id(0, (1 << bit).to_bytes(10, "big")) for bit in range(80)}
    assert len(drawn) == 80 - 6 + 1


def test_runs_started_in_the_same_millisecond_sort_in_the_order_of_their_calls() -> None:
    made = [ids.child_run_id("run", sequence, 1_000) for sequence in range(4096)]
    assert made == sorted(made)
    assert ids.child_run_id("run", 4096, 1_000) not in made
    assert ids.child_run_id("other", 7, 1_000) not in made


def test_a_call_has_the_id_of_its_run_and_its_number() -> None:
    assert ids.stack_run_id("r", 12) == "r:12"


def test_an_idempotency_key_stays_the_same_in_later_versions() -> None:
    """Pinned: a run that was started by an older version must send the same key again."""
    assert ids.idempotency_key("run", 3) == "seq-067b357e44341bc1615492c4a6d9f889a27ebe39"


def test_every_run_call_and_fork_has_its_own_key() -> None:
    keys = {
        ids.idempotency_key(run, sequence, fork)
        for run in ("1", "11")
        for sequence in (0, 1, 11)
        for fork in (0, 1, 11)
    }
    assert len(keys) == 2 * 3 * 3
    assert all(len(key) == 44 and key.isascii() for key in keys)


def test_the_entropy_of_a_run_stays_the_same_in_later_versions() -> None:
    assert ids.task_entropy("run", 0, 8).hex() == "f03276a38f466083"
    assert ids.task_entropy("run", 0, 4) == ids.task_entropy("run", 0, 8)[:4]


@pytest.mark.parametrize(("run", "draw"), [("run", 1), ("run2", 0)])
def test_other_draws_and_runs_have_other_entropy(run: str, draw: int) -> None:
    assert ids.task_entropy(run, draw, 16) != ids.task_entropy("run", 0, 16)

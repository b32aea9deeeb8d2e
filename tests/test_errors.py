"""Every exception names the fix, has a stable code, and says whose fault it is."""

import pickle
import typing

import pytest

from sequential import errors
from sequential.errors import Fault, SequentialError

EVERY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SequentialError)
]


@pytest.mark.parametrize("kind", EVERY)
def test_the_docstring_is_the_default_message(kind: type[SequentialError]) -> None:
    message = str(kind())
    assert message == kind.__doc__
    assert message.endswith(".")
    assert "\n" not in message
    assert str(kind("")) == message
    assert str(kind("what happened")) == "what happened"


@pytest.mark.parametrize("kind", EVERY)
def test_the_fault_is_one_of_three(kind: type[SequentialError]) -> None:
    assert kind.fault in typing.get_args(Fault)
    assert kind.__name__.endswith("Error")


def test_every_code_is_unique_and_reads_like_the_name() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_the_codes_stay_the_same_in_later_versions() -> None:
    """Pinned: programs compare them. A new one is added here, an old one never changes."""
    expected = """
        ambiguous_run config_error damaged_run document_changed error invalid_input invalid_name
        invalid_task invalid_transition lease_lost non_determinism run_busy run_exists run_not_found
        runtime_died service_load_error storage_error storage_full storage_read_only task_exists
        task_not_found unknown_adapter value_not_supported
    """
    assert set(expected.split()) <= {kind.code for kind in EVERY}


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_can_cross_a_process_border(kind: type[SequentialError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(copy) is kind
    assert str(copy) == "what happened"

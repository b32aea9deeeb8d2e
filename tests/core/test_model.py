"""The records: frozen, plain JSON, with the few things they know of themselves."""

from typing import Any

import msgspec
import pytest

from sequential.core import model
from sequential.core.model import (
    Allow,
    Call,
    CallStatus,
    Failure,
    Frame,
    InputField,
    RetryPolicy,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)

RECORDS = [
    kind
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct
]
RUN = TaskRun("r", "t", Status.PENDING, {"a": 1})
CALL = StackRun("r:0", "r", "gapi.admin.users.list", CallStatus.PENDING)


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_frozen(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


def test_a_frozen_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RUN.status = Status.FAILED  # type: ignore[misc]
    assert evolve(RUN, status=Status.FAILED).status is Status.FAILED
    assert RUN.status is Status.PENDING


def test_what_is_final_and_what_is_settled() -> None:
    assert {status for status in Status if status.is_final} == {"completed", "failed", "cancelled"}
    settled = {status for status in CallStatus if status.is_settled}
    assert settled == {"completed", "failed", "cancelled"}


@pytest.mark.parametrize(
    "record",
    [
        evolve(
            RUN,
            status=Status.FAILED,
            error=Failure("ValueError", "no", traceback=(Frame("code.py", 3, source="x = 1"),)),
            config=TaskConfig("t", inputs=(InputField("a", default=[1]),), retry=RetryPolicy()),
        ),
        evolve(CALL, where=Frame("code.py", 1), delivered_turn=0, delivered_order=0, size=0),
    ],
)
def test_a_record_survives_json(record: Any) -> None:
    encoded = msgspec.json.encode(record)
    assert msgspec.json.decode(encoded, type=type(record)) == record


def test_the_fields_have_the_names_of_the_original() -> None:
    """The columns of the original's tables, so that its readers find what they look for."""
    run = "id task_identifier status input result error created_at updated_at"
    call = (
        "id task_run_id parent_stack_run_id operation status input result error "
        "created_at updated_at"
    )
    assert set(run.split()) <= set(TaskRun.__struct_fields__)
    assert set(call.split()) <= set(StackRun.__struct_fields__)


@pytest.mark.parametrize(
    "policy",
    [
        '{"name": "t", "descripton": ""}',
        '{"name": "t", "inputs": [{"name": "a", "requird": false}]}',
        '{"name": "t", "retry": {"retires": 5}}',
        '{"name": "t", "allow": {"host": []}}',
        '{"name": "t", "limits": {"memory": 5}}',
    ],
)
def test_a_policy_with_an_unknown_key_is_refused_at_every_depth(policy: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(policy, type=TaskConfig)


@pytest.mark.parametrize(
    ("secrets", "permitted"),
    [
        (None, ["crm", "google/id", "google/mail/key", "googlex"]),
        ((), []),
        (("crm",), ["crm"]),
        (("google/*",), ["google/id", "google/mail/key"]),
        (("google/id", "crm"), ["crm", "google/id"]),
    ],
)
def test_a_list_of_secrets_permits_these_only(
    secrets: tuple[str, ...] | None, permitted: list[str]
) -> None:
    allow = Allow(secrets=secrets)
    names = ["crm", "google/id", "google/mail/key", "googlex"]
    assert [name for name in names if allow.permits_secret(name)] == permitted


def test_an_operation_is_a_service_and_a_dotted_method() -> None:
    assert (CALL.service, CALL.method) == ("gapi", "admin.users.list")
    assert Call(0, "gapi", "admin.users.list", {}).operation == CALL.operation


def test_a_failure_reads_like_the_last_line_of_a_traceback() -> None:
    assert str(Failure("ValueError", "no")) == "ValueError: no"
    assert str(Failure("KeyboardInterrupt", "")) == "KeyboardInterrupt"


def test_a_run_gives_its_result_as_a_python_value() -> None:
    assert evolve(RUN, result={"$tuple": [1, {"$bytes": "YQ=="}]}).value == (1, b"a")

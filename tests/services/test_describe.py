from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from sequential.services.base import CallContext, Secret, Service
from sequential.services.clock import ClockService
from sequential.services.describe import MethodDescription, description_of
from sequential.services.local import LocalService


def test_a_service_of_functions_tells_all_that_its_signatures_say() -> None:
    crm = LocalService("crm", "Customers.")

    @crm.method("users.find", timeout=30, retry="safe")
    def find(
        email: str, token: Annotated[str, Secret("crm/token")], context: CallContext, limit: int = 5
    ) -> list[str]:
        """Customers with this address.

        The newest first.
        """
        return []

    crm.add(len, "count", description="How many.")

    told = description_of(crm)
    assert (told.name, told.description, told.is_open) == ("crm", "Customers.", False)
    assert told.find("users.find") == MethodDescription(
        name="users.find",
        description="Customers with this address.\n\nThe newest first.",
        parameters={
            "type": "object",
            "properties": {"email": {"type": "string"}, "limit": {"type": "integer", "default": 5}},
            "required": ["email"],
            "additionalProperties": False,
        },
        result={"type": "array", "items": {"type": "string"}},
        retry="safe",
        timeout=30,
        secrets=("crm/token",),
    )
    count = told.find("count")
    assert count is not None
    assert (count.description, count.retry, count.timeout) == ("How many.", "unsafe", None)
    assert told.find("nothing") is None
    jsonschema.Draft202012Validator.check_schema(count.parameters)


def test_other_services_tell_their_names() -> None:
    told = description_of(ClockService())
    assert told.name == "clock"
    assert told.methods == (MethodDescription("sleep"),)
    assert told.methods[0].parameters == {}


def test_a_service_that_accepts_more_methods_than_it_lists_is_open() -> None:
    class Open(ClockService):
        def accepts(self, method: str) -> bool:
            return True

    service: Service = Open()
    assert description_of(service).is_open


@pytest.mark.parametrize("wrong", [{"retry": "perhaps"}, {"timeout": 0}, {"timeout": -1.0}])
def test_what_cannot_be_declared(wrong: Mapping[str, Any]) -> None:
    crm = LocalService("crm")
    names: Sequence[str] = crm.methods()
    with pytest.raises(ValueError, match=r"find: (retry is one of safe|timeout must be more)"):
        crm.add(len, "find", **wrong)
    assert names == crm.methods() == ()

"""The OpenAPI document, and the server held to it by what schemathesis makes up."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.openapi import document
from sequential.web.settings import ServerSettings
from support.served_api import served

DOCUMENT = document(create_app(Engine("memory:")))
EVERY: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
# Streams do not end.
OPERATIONS = [one.ok() for one in EVERY if not one.ok().path.endswith("/events")]
TOKEN = {"Authorization": f"Bearer {'t' * 30}"}
EXAMPLES = 12
TASKS = {
    "hello": "async def hello(name='you'):\n    return name",
    "approval": "async def approval():\n    return await wait_for_event('word')",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQUENTIAL_TOKEN", "t" * 30)
        settings = ServerSettings(failed_logins=10**6, longest_wait=0.05)
        with served(TASKS, settings) as address:
            yield address


@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])
def test_no_request_gives_a_server_error_or_breaks_the_document(operation: Any, url: str) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def hold(case: Any) -> None:
        answer = case.call(base_url=url, headers=TOKEN, timeout=20)
        # Names have a form that the document does not tell, so some of what fits it is refused.
        case.validate_response(answer, headers=TOKEN, excluded_checks=[positive_data_acceptance])

    hold()


def test_every_operation_is_described() -> None:
    for one in OPERATIONS:
        raw = one.definition.raw
        assert raw.get("summary"), one.label
        assert "2" in {status[0] for status in raw["responses"]}, one.label


def test_what_needs_no_token_says_so() -> None:
    public = [one.label for one in OPERATIONS if one.definition.raw.get("security") == []]

    assert {"GET /", "GET /health"} <= set(public)
    assert not [label for label in public if "/api/v1/" in label and not label.startswith("GET")]


def test_a_field_that_is_misspelled_does_not_fit_the_document() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["NewRun"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["TaskRun"]

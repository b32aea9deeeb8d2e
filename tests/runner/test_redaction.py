"""What comes back from a call names its secrets instead of showing them."""

import html
import json
import re
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from sequential.core.model import Failure, Outcome
from sequential.runner.redaction import Redaction, reference

SECRET = 'p"ä s/s+wörd'
NAME = "{{secret:crm/token}}"


@pytest.fixture
def redaction() -> Redaction:
    return Redaction({"crm/token": SECRET})


def test_a_secret_is_named_as_in_a_header() -> None:
    assert reference("crm/token") == NAME


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        SECRET.encode().decode("latin-1"),
        json.dumps(SECRET.encode().decode("latin-1"))[1:-1],
    ],
)
def test_every_usual_spelling_is_recognised(redaction: Redaction, form: str) -> None:
    assert redaction.text(f"Bearer {form}, {form}") == f"Bearer {NAME}, {NAME}"


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        (f"<{SECRET}>", f"<{NAME}>"),
        (f"<{SECRET}>".encode(), f"<{NAME}>".encode()),
        ({SECRET: [SECRET, (SECRET,)]}, {NAME: [NAME, (NAME,)]}),
        ({"a": {SECRET}, "b": frozenset([SECRET])}, {"a": {NAME}, "b": frozenset([NAME])}),
        ([1, 2.5, True, None, "other"], [1, 2.5, True, None, "other"]),
    ],
)
def test_values_are_searched_at_every_depth(
    redaction: Redaction, value: Any, redacted: Any
) -> None:
    assert redaction.value(value) == redacted


def test_errors_are_searched(redaction: Redaction) -> None:
    failure = Failure("OSError", f"refused {SECRET}", "network")
    assert redaction.outcome(Outcome(error=failure)).error == Failure(
        "OSError", f"refused {NAME}", "network"
    )


def test_of_secrets_that_overlap_the_longest_counts() -> None:
    redaction = Redaction({"short": "abcdef", "long": "abcdefgh"})
    assert redaction.text("abcdefgh abcdef") == "{{secret:long}} {{secret:short}}"


def test_short_secrets_would_be_found_by_chance_and_are_left() -> None:
    assert Redaction({"pin": "12345"}).text("12345") == "12345"


def test_without_secrets_a_value_is_the_same_object() -> None:
    value = {"a": "b"}
    assert Redaction({}).value(value) is value


def test_a_value_that_holds_itself_is_left_to_whoever_writes_it(redaction: Redaction) -> None:
    value: list[Any] = []
    value.append(value)
    assert redaction.value(value) is value

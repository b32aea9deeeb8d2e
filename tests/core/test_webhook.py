"""Webhooks: what is believed, which deliveries are one, and what a task gets of them."""

import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core.model import TaskConfig
from sequential.core.policy import config_problems
from sequential.core.webhook import (
    STYLES,
    Answering,
    Delivery,
    Webhook,
    answered_run,
    delivery_id,
    found_at,
    is_believed,
    shown_headers,
    webhook_input,
)
from sequential.errors import InvalidInputError

NOW = 1_700_000_000.0
BODY = b'{"id": "evt_1"}'


def test_the_example_of_githubs_documentation() -> None:
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    delivery = Delivery({"x-hub-signature-256": f"sha256={digest}"}, b"Hello, World!")
    webhook = Webhook("push", "hook", "github")
    assert is_believed(webhook, delivery, ["It's a Secret to Everybody"], NOW)
    assert not is_believed(webhook, delivery, ["It's a secret to everybody"], NOW)


def test_the_example_of_slacks_documentation() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    headers = {"x-slack-request-timestamp": "1531420618", "x-slack-signature": signature}
    webhook = Webhook("command", "hook", "slack")
    secrets = ["8f742231b10e8888abcd99yyyzzz85a5"]
    assert is_believed(webhook, Delivery(headers, body), secrets, 1531420618.0)
    assert not is_believed(webhook, Delivery(headers, body), secrets, 1531420618.0 + 301)


@given(st.binary(max_size=50), st.dictionaries(st.text(max_size=30), st.text(max_size=30)))
def test_nothing_is_believed_by_chance(body: bytes, headers: dict[str, str]) -> None:
    for style in STYLES:
        webhook = Webhook("w", "hook", style, tolerance=60 if style == "hmac" else None)  # type: ignore[arg-type]
        assert not is_believed(webhook, Delivery(headers, body), ["secret"], NOW)


def test_a_time_that_is_not_signed_does_not_count() -> None:
    """A signature of the body alone is none where the time has to be signed."""
    alone = hmac.new(b"secret", BODY, hashlib.sha256).hexdigest()
    headers = {"x-signature": alone, "x-signature-timestamp": str(int(NOW))}
    assert is_believed(Webhook("w", "hook"), Delivery(headers, BODY), ["secret"], NOW)
    timed = Webhook("w", "hook", tolerance=60)
    assert not is_believed(timed, Delivery(headers, BODY), ["secret"], NOW)


def test_without_secrets_nothing_is_believed() -> None:
    assert not is_believed(Webhook("w", "hook", "bearer"), Delivery({}, b""), [], NOW)


@pytest.mark.parametrize(
    ("style", "headers", "payload", "expected"),
    [
        ("github", {"x-github-delivery": "d"}, {}, "d"),
        ("stripe", {"idempotency-key": "no"}, {"id": "evt_1"}, "evt_1"),
        ("slack", {}, {"event_id": "Ev1"}, "Ev1"),
        ("hmac", {"idempotency-key": "a", "x-webhook-id": "b"}, {}, "a"),
        ("bearer", {"x-webhook-id": "b"}, {}, "b"),
        ("bearer", {}, {"id": "x"}, None),
    ],
)
def test_which_deliveries_are_one(
    style: Any, headers: dict[str, str], payload: Any, expected: str | None
) -> None:
    delivery = Delivery(headers, BODY, payload)
    assert delivery_id(Webhook("w", "hook", style), delivery) == expected


def test_without_an_id_it_is_what_was_signed() -> None:
    webhook = Webhook("w", "hook", tolerance=60)
    first, same, later = [
        delivery_id(webhook, Delivery({"x-signature-timestamp": time}, BODY)) for time in "112"
    ]
    assert first == same != later


def test_what_is_at_a_path() -> None:
    tree = {"a": {"b": [{"c": 0}, None]}, "0": "zero"}
    delivery = Delivery({"x-kind": "card", "x-signature": "!"}, b"", tree)
    assert found_at("$", delivery) == tree
    assert found_at("$.a.b.0.c", delivery) == 0
    assert found_at("$.a.b.1", delivery) is None
    assert found_at("$.0", delivery) == "zero"
    assert found_at("$headers.x-kind", delivery) == "card"
    for missing in ("$.b", "$.a.b.2", "$.a.b.x", "$.a.b.0.c.d", "$headers.x-signature"):
        assert found_at(missing, delivery) is msgspec.UNSET


def test_what_the_input_of_a_run_is() -> None:
    delivery = Delivery({"x-kind": "card"}, b"", {"name": "Ada", "more": 1})
    webhook = Webhook("w", "hook")
    whole = {"payload": delivery.payload, "headers": {"x-kind": "card"}}
    assert webhook_input(webhook, delivery, []) == whole
    assert webhook_input(webhook, delivery, ["payload"]) == {"payload": delivery.payload}
    assert webhook_input(webhook, delivery, ["headers", "payload"]) == whole
    assert webhook_input(webhook, delivery, ["name"]) == {"name": "Ada"}
    mapped = Webhook("w", "hook", start={"who": "$.name", "what": "$.nothing"})
    assert webhook_input(mapped, delivery, ["who", "what"]) == {"who": "Ada"}


@pytest.mark.parametrize("payload", [{}, {"run": None}, {"run": ""}, {"run": "x" * 201}, [], 1])
def test_an_answer_names_its_run(payload: Any) -> None:
    with pytest.raises(InvalidInputError, match="no id of a run at"):
        answered_run(Answering("word", "$.run"), Delivery({}, b"", payload))


def test_a_number_may_be_the_id_of_a_run() -> None:
    assert answered_run(Answering("word", "$.n"), Delivery({}, b"", {"n": 7})) == "7"


def test_headers_that_open_something_are_not_shown() -> None:
    names = "authorization cookie x-gitlab-token x-api-key x-hub-signature-256 host x-forwarded-for"
    assert shown_headers(dict.fromkeys(names.split(), "1")) == {}
    assert shown_headers({"x-github-event": "push"}) == {"x-github-event": "push"}


def test_what_is_wrong_in_config_json_is_told() -> None:
    webhooks = (Webhook("a", "hook"), Webhook("a", "?"), Webhook("1", "hook", start={"x": "y"}))
    told = "\n".join(config_problems(TaskConfig("job", webhooks=webhooks)))
    assert 'the webhook "a" is declared twice' in told
    assert 'the webhook "a": secret: not a name of a secret' in told
    assert "the webhook name '1' cannot be used" in told
    assert "start.x: 'y' is no path" in told

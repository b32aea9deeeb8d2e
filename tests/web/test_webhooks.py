"""Webhooks over HTTP: what is signed starts or answers a run once, and nothing else does."""

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from sequential.core.model import Allow, Bounds, InputField, TaskConfig
from sequential.core.webhook import Answering, Webhook
from sequential.runner.engine import Engine
from web.test_runs import API, ended, started

SECRET = "a secret that both sides have"
OLD = "the secret before"
EVENT = {"id": "evt_1", "type": "paid", "data": {"object": {"amount": 42, "ids": ["a", "b"]}}}
PAID = "def paid(payload, headers):\n    return [payload, headers]"


@pytest.fixture(autouse=True)
async def paid(engine: Engine) -> None:
    """A task with a webhook of each style, and their secret."""
    styles: dict[str, Any] = {"hmac": {"tolerance": 300.0}, "plain": {"style": "hmac"}}
    styles |= {style: {"style": style} for style in ("github", "stripe", "slack", "bearer")}
    webhooks = tuple(Webhook(name, "hook", **options) for name, options in styles.items())
    await engine.keys.set("hook", SECRET)
    await engine.store_task("paid", PAID, TaskConfig("paid", webhooks=webhooks))


def digest(message: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def headers_of(style: str, body: bytes, *, secret: str = SECRET, age: float = 0) -> dict[str, str]:
    """What a sender of this style adds to a delivery."""
    when = str(int(time.time() - age))
    stamped = f"{when}.".encode() + body
    match style:
        case "hmac":
            signature = digest(stamped, secret)
            return {"X-Signature": signature, "X-Signature-Timestamp": when}
        case "plain":
            return {"X-Signature": "sha256=" + digest(body, secret)}
        case "github":
            signature = "sha256=" + digest(body, secret)
            return {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "d-1"}
        case "stripe":
            return {"Stripe-Signature": f"t={when},v1={'0' * 64},v1={digest(stamped, secret)}"}
        case "slack":
            signature = "v0=" + digest(b"v0:" + stamped.replace(b".", b":", 1), secret)
            return {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": when}
        case _:
            return {"Authorization": f"Bearer {secret}"}


async def deliver(
    client: httpx.AsyncClient, style: str, tree: Any = EVENT, *, name: str = "", **how: Any
) -> httpx.Response:
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    extra = how.pop("extra", {})
    headers = {"Content-Type": "application/json", **headers_of(style, body, **how), **extra}
    return await client.post(f"/webhooks/paid/{name or style}", content=body, headers=headers)


STYLES = ["hmac", "plain", "github", "stripe", "slack", "bearer"]


@pytest.mark.parametrize("style", STYLES)
async def test_what_is_signed_starts_a_run(client: httpx.AsyncClient, style: str) -> None:
    answer = await deliver(client, style)

    assert answer.status_code == 202, answer.text
    assert answer.json()["duplicate"] is False
    run = await ended(client, answer.json()["run"])
    payload, headers = run["result"]
    assert payload == EVENT
    assert headers["content-type"] == "application/json"
    assert not any("signature" in name or "auth" in name for name in headers)
    assert SECRET not in json.dumps(run)


@pytest.mark.parametrize("style", STYLES)
async def test_another_secret_is_refused_without_a_reason(
    client: httpx.AsyncClient, engine: Engine, style: str
) -> None:
    wrong = await deliver(client, style, secret="not the secret")
    body = json.dumps(EVENT).encode()
    none = await client.post(f"/webhooks/paid/{style}", content=body)
    headers = headers_of(style, b"another body")
    for refused in (wrong, none):
        assert refused.status_code == 403
        assert refused.json()["error"] == {
            "code": "webhook_refused",
            "message": "this was not signed as it has to be",
            "hint": "",
        }
    if style != "bearer":
        moved = await client.post(f"/webhooks/paid/{style}", content=body, headers=headers)
        assert moved.status_code == 403
    assert await engine.list_runs("paid") == []


@pytest.mark.parametrize("style", ["hmac", "stripe", "slack"])
@pytest.mark.parametrize("age", [301, -320])
async def test_a_signature_of_another_time_is_refused(
    client: httpx.AsyncClient, engine: Engine, style: str, age: float
) -> None:
    assert (await deliver(client, style, age=age)).status_code == 403
    assert await engine.list_runs("paid") == []
    assert (await deliver(client, style, age=age / 2)).status_code == 202


@pytest.mark.parametrize("time_said", ["", "soon", "1e9", "-5", "9" * 40, "\N{DIGIT ONE}"])
async def test_a_time_that_is_none_is_refused(client: httpx.AsyncClient, time_said: str) -> None:
    body = json.dumps(EVENT).encode()
    signature = digest(f"{time_said}.".encode() + body)
    headers = {"X-Signature": signature, "X-Signature-Timestamp": time_said}
    answer = await client.post("/webhooks/paid/hmac", content=body, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("style", ["hmac", "plain", "github", "stripe"])
async def test_a_delivery_that_comes_again_does_nothing(
    client: httpx.AsyncClient, engine: Engine, style: str
) -> None:
    own = {"X-Webhook-Id": "w-1"} if style == "hmac" else {}
    first = await deliver(client, style, extra=own)
    again = await deliver(client, style, age=7, extra={**own, "User-Agent": "another version"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["duplicate"] is True
    assert again.json()["run"] == first.json()["run"]
    assert len(await engine.list_runs("paid")) == 1
    if style == "github":
        other = await deliver(client, style, extra={"X-GitHub-Delivery": "d-2"})
        assert other.json()["run"] != first.json()["run"]


async def test_of_deliveries_at_the_same_moment_one_counts(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    answers = await asyncio.gather(*(deliver(client, "stripe") for _ in range(10)))
    assert sorted(one.status_code for one in answers) == [200] * 9 + [202]
    assert len({one.json()["run"] for one in answers}) == 1
    assert len(await engine.list_runs("paid")) == 1


async def test_slack_delivers_again_with_a_new_time(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    event = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message"}}
    first = await deliver(client, "slack", event)
    again = await deliver(client, "slack", event, age=9, extra={"X-Slack-Retry-Num": "1"})
    assert again.json() == {**first.json(), "status": again.json()["status"], "duplicate": True}
    assert len(await engine.list_runs("paid")) == 1


async def test_who_shows_a_password_may_say_the_same_twice(client: httpx.AsyncClient) -> None:
    first, second = [await deliver(client, "bearer") for _ in range(2)]
    own = {"Idempotency-Key": "k"}
    third, fourth = [await deliver(client, "bearer", extra=own) for _ in range(2)]
    assert len({one.json()["run"] for one in (first, second, third, fourth)}) == 3
    assert fourth.status_code == 200


async def test_ids_of_one_webhook_are_not_those_of_another(client: httpx.AsyncClient) -> None:
    one = await deliver(client, "hmac", extra={"Idempotency-Key": "1"})
    other = await deliver(client, "plain", extra={"Idempotency-Key": "1"})
    assert one.json()["run"] != other.json()["run"]
    assert other.status_code == 202


async def test_what_is_not_there_looks_the_same(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post(f"/webhooks/{place}", json=EVENT)
        for place in ("nobody/hmac", "paid/nothing", "not%20a%20name/x", "paid/not%20a%20name")
    ]
    assert {one.status_code for one in answers} == {404}
    assert len({one.text for one in answers}) == 1


async def test_platforms_that_only_ask_are_answered(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    challenge = {"type": "url_verification", "challenge": "3eZbrw1a"}
    slack = await deliver(client, "slack", challenge)
    assert (slack.status_code, slack.json()) == (200, {"challenge": "3eZbrw1a"})
    github = await deliver(client, "github", {"zen": "!"}, extra={"X-GitHub-Event": "ping"})
    assert (github.status_code, github.json()) == (200, {"pong": True})
    unsigned = await deliver(client, "slack", challenge, secret="wrong")
    assert unsigned.status_code == 403
    assert await engine.list_runs("paid") == []


async def test_forms_are_read(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    command = urlencode({"command": "/deploy", "text": "now, please", "empty": ""}).encode()
    run = (await deliver(client, "slack", command, extra=form)).json()["run"]
    payload = {"command": "/deploy", "text": "now, please", "empty": ""}
    assert (await ended(client, run))["result"][0] == payload

    click = urlencode({"payload": json.dumps({"type": "block_actions"})}).encode()
    run = (await deliver(client, "slack", click, extra=form)).json()["run"]
    assert (await ended(client, run))["result"][0] == {"type": "block_actions"}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"a": 1} x'])
async def test_a_signed_body_that_says_nothing_is_refused(
    client: httpx.AsyncClient, engine: Engine, body: bytes
) -> None:
    answer = await deliver(client, "plain", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert await engine.list_runs("paid") == []


async def test_an_empty_body_is_fine(client: httpx.AsyncClient) -> None:
    answer = await deliver(client, "bearer", b"")
    assert (await ended(client, answer.json()["run"]))["result"][0] is None


async def test_fields_are_taken_from_where_they_are(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    code = "def charge(amount, second, kind=None):\n    return [amount, second, kind]"
    fields = (InputField("amount", "integer"), InputField("second"), InputField("kind", "any"))
    start = {"amount": "$.data.object.amount", "second": "$.data.object.ids.1"}
    start["kind"] = "$headers.x-kind"
    webhook = Webhook("paid", "hook", "bearer", start=start)
    await engine.store_task(
        "charge", code, TaskConfig("charge", inputs=fields, webhooks=(webhook,))
    )
    headers = {**headers_of("bearer", b""), "X-Kind": "card"}
    right = await client.post("/webhooks/charge/paid", json=EVENT, headers=headers)
    assert (await ended(client, right.json()["run"]))["result"] == [42, "b", "card"]

    wrong = await client.post("/webhooks/charge/paid", json={"data": []}, headers=headers)
    assert wrong.status_code == 400
    assert '"amount" (integer) is missing' in wrong.json()["error"]["message"]


async def test_a_task_with_fields_of_its_own_gets_those(client: httpx.AsyncClient) -> None:
    await client.put(f"{API}/webhooks/hello/new", json={"secret": "hook", "style": "bearer"})
    answer = await client.post(
        "/webhooks/hello/new",
        json={"name": "Ada", "more": True},
        headers=headers_of("bearer", b""),
    )
    assert (await ended(client, answer.json()["run"]))["result"] == {"hello": "Ada"}


async def test_a_delivery_answers_the_run_that_it_names(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    hook = Webhook("word", "hook", "github", answer=Answering("word", "$.order"))
    config = TaskConfig("approval", webhooks=(hook,))
    await engine.store_task("approval", (await engine.get_task("approval")).code, config)
    run = await started(client, "approval", id="order-7")
    foreign = await started(client, "hello", input={"name": "Ada"})

    async def say(order: Any, delivery: str) -> httpx.Response:
        body = json.dumps({"order": order, "ok": True}).encode()
        headers = {**headers_of("github", body), "X-GitHub-Delivery": delivery}
        return await client.post("/webhooks/approval/word", content=body, headers=headers)

    first = await say("order-7", "d-1")
    assert (first.status_code, first.json()["run"]) == (202, run["id"])
    assert (await ended(client, run["id"]))["result"] == {"order": "order-7", "ok": True}
    again = await say("order-7", "d-1")
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    late = await say("order-7", "d-2")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "invalid_transition")
    for order in ("order-8", foreign["id"]):
        assert (await say(order, "d-3")).json()["error"]["code"] == "run_not_found"
    for order in (None, {}, "", True):
        assert (await say(order, "d-4")).json()["error"]["code"] == "invalid_input"


async def test_two_secrets_count_while_one_is_exchanged(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await engine.keys.set("hook/old", OLD)
    body = {"secret": "hook", "previous_secret": "hook/old", "style": "github"}
    assert (await client.put(f"{API}/webhooks/paid/github", json=body)).status_code == 200
    assert (await deliver(client, "github", secret=OLD)).status_code == 202
    assert (await deliver(client, "github")).status_code == 200
    assert (await deliver(client, "github", secret="neither")).status_code == 403


async def test_a_webhook_without_its_secret_says_so_to_the_operator_only(
    client: httpx.AsyncClient, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.keys.delete("hook")
    answer = await deliver(client, "github")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "hook" not in answer.json()["error"]["message"].replace("webhook", "")
    assert "keys set hook" in caplog.text
    (listed, *_) = (await client.get(f"{API}/webhooks")).json()["items"]
    assert "keys set hook" in listed["problem"]


async def test_a_secret_that_an_operator_does_not_permit_lets_nobody_in(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    """Else whoever sends a task could try what a secret is."""
    hook = Webhook("w", "hook", "bearer")
    for bounds, status in (Bounds(secrets=("other",)), 503), (Bounds(secrets=("hook",)), 202):
        config = TaskConfig("sent", allow=Allow(within=(bounds,)), webhooks=(hook,))
        await engine.store_task("sent", "def sent(): pass", config)
        headers = headers_of("bearer", b"")
        answer = await client.post("/webhooks/sent/w", json={}, headers=headers)
        assert answer.status_code == status


# --- which there are -----------------------------------------------------------------------------


async def test_webhooks_are_kept_listed_and_removed(client: httpx.AsyncClient) -> None:
    place = f"{API}/webhooks/hello/new"
    body = {"secret": "hook", "style": "github", "start": {"name": "$.sender.login"}}
    made = await client.put(place, json=body)
    assert made.status_code == 201
    assert made.json() == {
        "task": "hello",
        "webhook": {
            "name": "new",
            "previous_secret": None,
            "answer": None,
            "tolerance": None,
            **body,
        },
        "origin": "api",
        "url": "http://127.0.0.1:3000/webhooks/hello/new",
        "problem": None,
    }
    assert (await client.get(place)).json() == made.json()
    names = [
        one["webhook"]["name"] for one in (await client.get(f"{API}/webhooks")).json()["items"]
    ]
    assert names == ["new", *sorted(["bearer", "github", "hmac", "plain", "slack", "stripe"])]
    of_task = (await client.get(f"{API}/webhooks", params={"task": "hello"})).json()["items"]
    assert of_task == [made.json()]
    assert (await client.delete(place)).status_code == 204
    gone = await client.get(place)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "webhook_not_found")
    assert (await client.post("/webhooks/hello/new", json={})).status_code == 404


async def test_one_of_config_json_counts_again_when_its_other_is_removed(
    client: httpx.AsyncClient,
) -> None:
    place = f"{API}/webhooks/paid/github"
    await client.put(place, json={"secret": "hook", "style": "bearer"})
    assert (await deliver(client, "github")).status_code == 403
    assert (await client.delete(place)).status_code == 204
    assert (await deliver(client, "github")).status_code == 202
    refused = await client.delete(place)
    assert refused.status_code == 404
    assert "config.json of paid" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "secret"),
        ({"secret": "not a name"}, "not a name of a secret"),
        ({"secret": "hook", "style": "gitlab"}, "gitlab"),
        ({"secret": "hook", "start": {"name": "data.id"}}, "is no path"),
        ({"secret": "hook", "start": {"nmae": "$.id"}}, "has no input nmae"),
        ({"secret": "hook", "start": {}, "answer": {"event": "e", "run": "$"}}, "one of"),
        ({"secret": "hook", "answer": {"event": "", "run": "$"}}, "name of an event"),
        ({"secret": "hook", "tolerance": 0}, "more than 0"),
        ({"secret": "hook", "tolerance": 9, "style": "github"}, "signs no time"),
        ({"secret": "hook", "url": "x"}, "url"),
    ],
)
async def test_a_webhook_that_cannot_be_is_not_kept(
    client: httpx.AsyncClient, body: dict[str, Any], told: str
) -> None:
    refused = await client.put(f"{API}/webhooks/hello/new", json=body)
    assert refused.status_code == 400
    assert told in refused.json()["error"]["message"]
    assert (await client.get(f"{API}/webhooks", params={"task": "hello"})).json()["items"] == []


async def test_a_task_takes_its_webhooks_with_it(client: httpx.AsyncClient, engine: Engine) -> None:
    await client.put(f"{API}/webhooks/hello/new", json={"secret": "hook"})
    await client.delete(f"{API}/tasks/hello")
    assert await engine.storage.list_documents("webhooks") == []

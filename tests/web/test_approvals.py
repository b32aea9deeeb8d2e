"""Approval links: a page that asks, an answer that counts once, and nothing for anybody else."""

import asyncio
import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sequential.core.model import Status, TaskConfig
from sequential.runner.engine import Engine
from web.test_runs import API, ended, started

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
SCHEMA = {
    "title": "Refund order 7?",
    "description": "The customer <b>waits</b> since Monday.",
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 1, "maximum": 100, "default": 42.5},
        "count": {"type": "integer", "title": "How many <items>"},
        "reason": {"enum": ["broken", "late"]},
        "when": {"type": "string", "format": "date"},
        "note": {"type": "string", "format": "textarea", "description": "For the customer"},
        "tell": {"type": "boolean", "title": "Tell the customer"},
    },
    "required": ["amount", "reason"],
}
FIELDS = {"field.amount": "12.5", "field.reason": "late", "field.note": "Sorry\r\nagain"}


async def link(client: httpx.AsyncClient, run_id: str, **options: Any) -> str:
    body = {"event": "word", **options}
    answer = await client.post(f"{API}/runs/{run_id}/links", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


async def asked(client: httpx.AsyncClient, **options: Any) -> tuple[str, str]:
    """The id of a run that waits for "word", and a link for it."""
    run_id = (await started(client, "approval"))["id"]
    return run_id, await link(client, run_id, **options)


async def sent(client: httpx.AsyncClient, url: str, **fields: str) -> httpx.Response:
    return await client.post(url, data=fields, headers=FORM)


async def until_it_waits(engine: Engine, run_id: str) -> None:
    async with asyncio.timeout(20):
        while (await engine.get_run(run_id)).status is not Status.SUSPENDED:
            await asyncio.sleep(0.005)


def text_of(page: httpx.Response) -> str:
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.text, flags=re.DOTALL))


async def test_looking_answers_nothing_and_a_button_answers_once(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    run_id, url = await asked(client, title="Deploy?", description="Version 3 <script>")
    for _ in range(3):
        page = await client.get(url)
        assert page.status_code == 200
    told = text_of(page)
    assert all(part in told for part in ("Deploy?", "Version 3 <script>", "approval", run_id))
    assert "<script" not in page.text
    assert (await engine.get_run(run_id)).events == ()

    thanks = await sent(client, url, answer="approve")
    assert thanks.status_code == 200
    assert "Thank you" in text_of(thanks)
    assert (await ended(client, run_id))["result"] == {"approved": True}

    again = await sent(client, url, answer="reject")
    assert again.status_code == 409
    assert re.search(r"answered already.*Approved on \d+ \w+ \d{4} at", text_of(again), re.DOTALL)
    assert (await client.get(url)).status_code == 410


async def test_a_page_is_safe_and_found_by_no_search(client: httpx.AsyncClient) -> None:
    _, url = await asked(client)
    page = await client.get(url)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-robots-tag"].startswith("noindex")
    assert page.headers["cache-control"] == "no-store"
    # With no-referrer browsers would send the form as if it came from another site.
    assert page.headers["referrer-policy"] == "same-origin"


async def test_the_form_of_a_waiting_call(client: httpx.AsyncClient, engine: Engine) -> None:
    code = f"async def ask():\n    return await wait_for_event('word', schema={SCHEMA!r})"
    await engine.store_task("ask", code, TaskConfig("ask"))
    run_id = (await started(client, "ask"))["id"]
    await until_it_waits(engine, run_id)
    url = await link(client, run_id, to="Ada")

    page = await client.get(url)
    told = text_of(page)
    assert "Refund order 7?" in told
    assert "The customer <b>waits</b> since Monday." in told
    assert "How many <items>" in told
    assert 'type="number" id="field.amount" name="field.amount" required' in page.text
    assert 'min="1" max="100" value="42.5"' in page.text
    assert 'type="date" id="field.when"' in page.text
    assert '<textarea id="field.note"' in page.text
    assert '<option value="late">late</option>' in page.text
    assert 'type="checkbox"' in page.text

    wrong = {**FIELDS, "field.amount": "101", "field.count": "two", "field.reason": "<x>"}
    refused = await sent(client, url, answer="approve", **wrong)
    assert refused.status_code == 400
    told = text_of(refused)
    assert "This has to be at most 100." in told
    assert "This has to be a whole number." in told
    assert "This has to be one of those listed." in told
    assert 'value="101"' in refused.text
    assert 'value="two"' in refused.text
    assert "Sorry\nagain</textarea>" in refused.text
    assert (await engine.get_run(run_id)).events == ()

    right = {**FIELDS, "field.count": "3", "field.when": "2026-12-31", "field.tell": "yes"}
    assert (await sent(client, url, answer="approve", **right)).status_code == 200
    assert (await ended(client, run_id))["result"] == {
        "amount": 12.5,
        "count": 3,
        "reason": "late",
        "when": "2026-12-31",
        "note": "Sorry\nagain",
        "tell": True,
        "by": "Ada",
        "approved": True,
    }
    assert "Approved by Ada on" in text_of(await client.get(url))


async def test_who_rejects_need_not_fill_in_a_form(client: httpx.AsyncClient) -> None:
    run_id, url = await asked(client, schema=SCHEMA)
    refused = await sent(client, url, answer="approve", **{"field.amount": "5"})
    assert "Please fill this in." in text_of(refused)
    wrong = await sent(client, url, answer="reject", **{"field.amount": "0"})
    assert "at least 1" in text_of(wrong)
    await sent(client, url, answer="reject", **{"field.amount": "5"})
    assert (await ended(client, run_id))["result"] == {
        "amount": 5,
        "tell": False,
        "approved": False,
    }


async def test_programs_answer_with_json(client: httpx.AsyncClient) -> None:
    run_id, url = await asked(client, schema=SCHEMA)
    for body, told in [
        ([], "approved"),
        ({"approved": "yes"}, "approved"),
        ({"approved": True}, "amount: Please fill this in.; reason: Please fill this in."),
        ({"approved": True, "amount": "5", "reason": "late"}, "amount: This has to be a number"),
        ({"approved": True, "amount": 5, "reason": "late", "more": 1}, "more: There is no such"),
        ({"approved": False, "when": "soon"}, "when: This has to be a date"),
        ({"approved": False, "by": "me"}, "by: There is no such"),
    ]:
        refused = await client.post(url, json=body)
        assert refused.status_code == 400
        assert told in refused.json()["error"]["message"]
    right = await client.post(url, json={"approved": True, "amount": 5, "reason": "late"})
    assert (right.status_code, right.json()["id"]) == (200, run_id)
    assert (await ended(client, run_id))["result"]["amount"] == 5
    again = await client.post(url, json={"approved": False})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_answered")


async def test_only_the_link_itself_is_good(client: httpx.AsyncClient) -> None:
    run_id, url = await asked(client)
    other = (await started(client, "approval"))["id"]
    (token,) = parse_qs(urlsplit(url).query)["token"]
    bad = [
        f"/approve/{run_id}/word",
        f"/approve/{run_id}/word?token=",
        f"/approve/{run_id}/word?token={token}x",
        f"/approve/{run_id}/word?token=x{token}",
        f"/approve/{run_id}/other?token={token}",
        f"/approve/{other}/word?token={token}",
        f"/approve/nobody/word?token={token}",
    ]
    for place in bad:
        page = await client.get(place)
        assert (page.status_code, "not valid" in text_of(page)) == (403, True)
        assert (await sent(client, place, answer="approve")).status_code == 403
        told = await client.post(place, json={"approved": True})
        assert told.json()["error"]["code"] == "invalid_link"
    assert (await client.get(url)).status_code == 200


async def test_a_link_expires(client: httpx.AsyncClient, engine: Engine) -> None:
    run_id, url = await asked(client, expires_in=0.05)
    async with asyncio.timeout(20):
        while (page := await client.get(url)).status_code == 200:
            await asyncio.sleep(0.01)
    assert (page.status_code, "has expired" in text_of(page)) == (410, True)
    assert (await sent(client, url, answer="approve")).status_code == 410
    assert (await engine.get_run(run_id)).events == ()


async def test_a_run_that_is_over_or_gone_is_said_to_be(client: httpx.AsyncClient) -> None:
    run_id, url = await asked(client)
    await client.post(f"{API}/runs/{run_id}/cancel")
    for page in (await client.get(url), await sent(client, url, answer="approve")):
        assert page.status_code == 410
        assert "The run has ended: it is cancelled." in text_of(page)
    refused = await client.post(f"{API}/runs/{run_id}/links", json={"event": "word"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_transition")
    await client.delete(f"{API}/runs/{run_id}")
    assert (await client.get(url)).status_code == 404


async def test_of_several_links_with_one_key_the_first_answer_counts(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    run_id, ada = await asked(client, to="Ada", key="refund")
    bob = await link(client, run_id, to="Bob", key="refund")
    both = await asyncio.gather(
        sent(client, ada, answer="approve"), sent(client, bob, answer="reject")
    )
    assert sorted(page.status_code for page in both) == [200, 409]
    result = (await ended(client, run_id))["result"]
    assert result["approved"] is (both[0].status_code == 200)
    assert f"by {result['by']} on" in text_of(await client.get(bob))
    assert len(await engine.list_calls(run_id)) == 1


@pytest.mark.parametrize("event", ["a/b?c#d", "größe %2F", "<x>&"])
async def test_events_have_any_name(client: httpx.AsyncClient, engine: Engine, event: str) -> None:
    run_id = (await started(client, "approval"))["id"]
    url = await link(client, run_id, event=event)
    assert event in text_of(await client.get(url))
    assert (await sent(client, url, answer="approve")).status_code == 200
    async with asyncio.timeout(20):
        while not (events := (await engine.get_run(run_id)).events):
            await asyncio.sleep(0.005)
    assert [one.name for one in events] == [event]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"event": ""}, "name of an event"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 1e9}, "expires_in"),
        ({"title": "x" * 201}, "title is a text of up to 200 characters"),
        (
            {"schema": {"properties": {"a": {"type": "array"}}}},
            "the field 'a' has the type 'array'",
        ),
        ({"schema": {"properties": {"a": {"$ref": "#"}}}}, "type None"),
        ({"description": "x" * 2000, "schema": SCHEMA, "title": "ä" * 200, "to": "€" * 100}, ""),
    ],
)
async def test_a_link_that_cannot_be_is_not_made(
    client: httpx.AsyncClient, options: dict[str, Any], told: str
) -> None:
    run_id = (await started(client, "approval"))["id"]
    refused = await client.post(f"{API}/runs/{run_id}/links", json={"event": "word", **options})
    assert refused.status_code == 400
    assert told in refused.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"answer=maybe", b"\xff", b"&" * 1000, b"x" * 300_000])
async def test_what_is_no_answer_answers_nothing(
    client: httpx.AsyncClient, engine: Engine, body: bytes
) -> None:
    run_id, url = await asked(client)
    assert (await client.post(url, content=body, headers=FORM)).status_code in (400, 413)
    assert (await engine.get_run(run_id)).events == ()


async def test_a_task_makes_its_own_links(client: httpx.AsyncClient, engine: Engine) -> None:
    code = """
async def ask():
    url = await services.links.create("word", title="Well?", expires_in=60, to="Ada")
    print(url)
    return [url, await wait_for_event("word", timeout=60)]
"""
    await engine.store_task("ask", code, TaskConfig("ask"))
    run_id = (await started(client, "ask"))["id"]
    await until_it_waits(engine, run_id)
    url = (await engine.get_log(run_id))[0].text.strip()
    assert url.startswith(f"http://127.0.0.1:3000/approve/{run_id}/word?token=")
    assert "Well?" in text_of(await client.get(url))
    assert (await sent(client, url, answer="reject")).status_code == 200
    assert (await ended(client, run_id))["result"] == [url, {"by": "Ada", "approved": False}]


async def test_what_people_decide_is_in_the_audit_log(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    run_id, url = await asked(client, to="Ada")
    await sent(client, url, answer="approve")
    decided = [one for one in await engine.audit.list() if one.action == "approvals.decide"]
    assert [(one.actor, one.subject, one.outcome) for one in decided] == [
        ("link for Ada", f"{run_id} word", "approved")
    ]

"""The audit log, written by requests and read over HTTP."""

from typing import Any

import httpx
import pytest

from sequential.runner.engine import Engine
from sequential.web.settings import ServerSettings
from web.conftest import serving

AUDIT = "/api/v1/audit"
RUNS = "/api/v1/runs"


async def test_it_has_what_was_done(client: httpx.AsyncClient) -> None:
    run_id = (await client.post(RUNS, json={"task": "approval"})).json()["id"]
    await client.put("/api/v1/keys/crm/token", json={"value": "s3cret value"})
    await client.post(f"{RUNS}/{run_id}/cancel")
    await client.post(f"{RUNS}/{run_id}/pause")
    await client.get(RUNS)

    answer = await client.get(AUDIT)
    entries = [
        (entry["action"], entry["subject"], entry["outcome"]) for entry in answer.json()["items"]
    ]

    assert entries == [
        ("runs.pause", run_id, "409 invalid_transition"),
        ("runs.cancel", run_id, "200"),
        ("keys.set_key", "crm/token", "204"),
        ("runs.start", f"approval {run_id}", "201"),
    ]
    assert {entry["actor"] for entry in answer.json()["items"]} == {"local"}
    assert {entry["address"] for entry in answer.json()["items"]} == {"127.0.0.1"}
    assert "s3cret" not in answer.text


async def test_it_has_what_was_refused(client: httpx.AsyncClient, engine: Engine) -> None:
    await client.post(RUNS, json={"task": "no-such"})
    entry = (await engine.audit.list())[0]

    assert (entry.subject, entry.outcome) == ("no-such", "404 task_not_found")


async def test_it_is_read_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await client.post(f"{RUNS}/{number}/cancel")

    seen: list[Any] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2} | ({"before": cursor} if cursor else {})
        page = (await client.get(AUDIT, params=query)).json()
        seen += [entry["subject"] for entry in page["items"]]
        if (cursor := page["next"]) is None:
            break

    assert seen == ["4", "3", "2", "1", "0"]


async def test_a_token_made_here_is_in_it(client: httpx.AsyncClient, engine: Engine) -> None:
    made = (await client.post("/api/v1/tokens", json={"name": "ci"})).json()
    entry = (await engine.audit.list())[0]

    assert (entry.action, entry.subject) == ("tokens.create", f"ci ({made['id']}), read")


async def test_who_may_not_is_not_in_it(engine: Engine) -> None:
    _, token = await engine.tokens.create("me", "read")
    async with serving(engine) as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.post(RUNS, json={}, headers=headers)).status_code == 403
        assert (await client.post(RUNS, json={})).status_code == 401
        assert (await client.get(AUDIT, headers=headers)).status_code == 403

    assert await engine.audit.list() == []


async def test_what_was_done_stays_done_if_it_cannot_be_written(
    client: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    await client.get(RUNS)
    monkeypatch.setattr(engine.storage, "put_document", fail)
    answer = await client.post(RUNS, json={"task": "approval"})

    assert answer.status_code == 201
    assert len(await engine.list_runs("approval")) == 1


async def test_it_can_be_turned_off(engine: Engine) -> None:
    async with serving(engine, ServerSettings(audit_days=0)) as client:
        await client.post(RUNS, json={"task": "approval"})

    assert await engine.audit.list() == []

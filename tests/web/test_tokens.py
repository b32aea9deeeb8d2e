"""Tokens over HTTP."""

import httpx
import pytest

from sequential.runner.engine import Engine
from web.conftest import serving

TOKENS = "/api/v1/tokens"


async def test_a_token_is_made_used_and_revoked(engine: Engine) -> None:
    _, first = await engine.tokens.create("root", "operate")
    async with serving(engine) as client:
        root = {"Authorization": f"Bearer {first}"}
        body = {"name": "ci", "role": "operate", "expires_in": 3600, "limits": {"runs": 5}}
        made = await client.post(TOKENS, json=body, headers=root)
        record = made.json()
        token = {"Authorization": f"Bearer {record.pop('token')}"}

        assert made.status_code == 201
        assert record["limits"] == {"runs": 5}
        assert record["expires_at"] > record["created_at"]
        listed = (await client.get(TOKENS, headers=root)).json()["items"]
        assert record in listed
        assert (await client.get("/api/v1/runs", headers=token)).status_code == 200

        assert (await client.delete(f"{TOKENS}/{record['id']}", headers=root)).status_code == 204
        assert (await client.get("/api/v1/runs", headers=token)).status_code == 401
        gone = await client.delete(f"{TOKENS}/{record['id']}", headers=root)
        assert gone.json()["error"]["code"] == "token_not_found"


async def test_it_is_shown_once(client: httpx.AsyncClient, engine: Engine) -> None:
    made = await client.post(TOKENS, json={"name": "a", "role": "operate"})
    token = made.json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    shown = [(await client.get(path, headers=headers)).text for path in (TOKENS, "/api/v1/audit")]

    assert not [text for text in shown if token in text]
    assert [token for token in await engine.tokens.list() if "digest" in str(token)] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a", "role": "root"},
        {"name": "a", "expires_in": -1},
        {"name": "a", "role": "operate", "limits": {"rnus": 3}},
        {"name": "a", "role": "operate", "limits": {"runs": 0}},
        {"name": "a", "role": "read", "limits": {"runs": 1}},
    ],
)
async def test_what_cannot_be_is_not_made(
    client: httpx.AsyncClient, engine: Engine, body: dict[str, object]
) -> None:
    assert (await client.post(TOKENS, json=body)).status_code == 400
    assert await engine.tokens.list() == []

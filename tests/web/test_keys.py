"""The keystore over HTTP."""

import httpx

from sequential.runner.engine import Engine

KEYS = "/api/v1/keys"


async def test_secrets_go_in_and_never_come_out(client: httpx.AsyncClient, engine: Engine) -> None:
    put = await client.put(f"{KEYS}/google/token", json={"value": "s3cret"})
    listed = await client.get(KEYS)

    assert put.status_code == 204
    assert listed.json()["items"] == ["google/token"]
    assert await engine.keys.get("google/token") == "s3cret"
    assert (await client.get(f"{KEYS}/google/token")).status_code == 405
    assert (await client.delete(f"{KEYS}/google/token")).status_code == 204
    assert (await client.delete(f"{KEYS}/google/token")).json()["error"][
        "code"
    ] == "secret_not_found"


async def test_a_refused_secret_is_not_repeated(client: httpx.AsyncClient) -> None:
    for body in ({"value": ""}, {"value": ["s3cret"]}, {"valu": "s3cret"}):
        answer = await client.put(f"{KEYS}/token", json=body)
        assert answer.status_code == 400
        assert "s3cret" not in answer.text

"""Who is let in, and as whom."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from sequential.core.bounds import TokenLimits
from sequential.errors import ConfigError
from sequential.runner.engine import Engine
from sequential.runner.tokens import Role
from sequential.web.app import create_app
from sequential.web.auth import check_listening, presented_token
from sequential.web.settings import ServerSettings
from web.conftest import serving

RUNS = "/api/v1/runs"
PROXY = "10.1.2.3"
PROXIED = ServerSettings(
    proxy_header="X-Forwarded-User", trusted_proxies=("10.1.0.0/16",), proxy_role="operate"
)


@contextlib.asynccontextmanager
async def from_peer(
    engine: Engine,
    peer: str,
    settings: ServerSettings | None = None,
    url: str = "http://127.0.0.1:3000",
) -> AsyncIterator[httpx.AsyncClient]:
    """A client at another address."""
    app = create_app(engine, settings)
    transport = httpx.ASGITransport(cast("Any", app), client=(peer, 5000))
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        try:
            yield client
        finally:
            await app.state.house.close()


async def bearer(engine: Engine, role: Role = "read", **options: Any) -> dict[str, str]:
    _, token = await engine.tokens.create("me", role, **options)
    return {"Authorization": f"Bearer {token}"}


async def actor_of_last(engine: Engine) -> str:
    return (await engine.audit.list(limit=1))[0].actor


# --- without a token -----------------------------------------------------------------------------


async def test_programs_on_this_machine_need_no_token_while_there_is_none(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    assert (await client.get(RUNS)).status_code == 200
    assert (await client.post(RUNS, json={"task": "approval"})).status_code == 201
    assert await actor_of_last(engine) == "local"

    headers = await bearer(engine)
    assert (await client.get(RUNS)).status_code == 401
    assert (await client.get(RUNS, headers=headers)).status_code == 200

    await engine.tokens.revoke("me")
    assert (await client.get(RUNS)).status_code == 200


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.1.7", "2001:db8::1", "::ffff:10.0.0.1"])
async def test_others_do(engine: Engine, peer: str) -> None:
    async with from_peer(engine, peer) as client:
        answer = await client.get(RUNS)

    assert answer.status_code == 401
    assert "tokens create" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("url", ["http://localhost:3000", "http://[::1]:3000", "http://127.0.0.9"])
async def test_this_machine_has_several_names(engine: Engine, url: str) -> None:
    async with from_peer(engine, "::1", url=url) as client:
        assert (await client.get(RUNS)).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.nip.io", "[::1", ""],
)
async def test_a_name_that_leads_here_is_not_this_machine(engine: Engine, host: str) -> None:
    async with from_peer(engine, "127.0.0.1") as client:
        answer = await client.get(RUNS, headers={"Host": host})

    assert answer.status_code in {400, 401}


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_what_a_proxy_passes_on_is_not_from_this_machine(
    client: httpx.AsyncClient, header: str
) -> None:
    assert (await client.get(RUNS, headers={header: "127.0.0.1"})).status_code == 401


async def test_a_server_that_listens_for_others_wants_a_token_of_everybody(engine: Engine) -> None:
    async with serving(engine, ServerSettings(host="0.0.0.0")) as client:
        assert (await client.get(RUNS)).status_code == 401


async def test_what_is_public_asks_nobody(engine: Engine) -> None:
    await engine.tokens.create("a")
    async with from_peer(engine, "10.0.0.1") as client:
        for path in ("/", "/health", "/api/v1/openapi.json"):
            assert (await client.get(path, headers={"Authorization": "junk"})).status_code == 200


# --- with one ------------------------------------------------------------------------------------


async def test_roles(engine: Engine) -> None:
    async with from_peer(engine, "10.0.0.1") as client:
        reads, does = await bearer(engine), await bearer(engine, "operate")
        assert (await client.get(RUNS, headers=reads)).status_code == 200
        assert (await client.get("/api/v1/keys", headers=reads)).status_code == 403
        refused = await client.post(RUNS, json={"task": "approval"}, headers=reads)
        done = await client.post(RUNS, json={"task": "approval"}, headers=does)

    assert refused.status_code == 403
    assert "needs the role operate" in refused.json()["error"]["message"]
    assert done.status_code == 201
    assert (await actor_of_last(engine)).startswith("token me (")


async def test_a_browser_sends_it_as_a_password(engine: Engine) -> None:
    _, token = await engine.tokens.create("me")
    async with from_peer(engine, "10.0.0.1") as client:
        asked = await client.get(RUNS)
        answer = await client.get(RUNS, auth=("anybody", token))
        wrong = await client.get(RUNS, auth=(token, "anybody"))

    assert 'Basic realm="sequential-ecosystem"' in asked.headers["www-authenticate"]
    assert [answer.status_code, wrong.status_code] == [200, 401]


async def test_not_in_the_address(engine: Engine) -> None:
    _, token = await engine.tokens.create("me", "operate")
    async with from_peer(engine, "10.0.0.1") as client:
        for name in ("token", "access_token", "authorization"):
            assert (await client.get(RUNS, params={name: token})).status_code == 401
            cookie = {"Cookie": f"{name}={token}"}
            assert (await client.get(RUNS, headers=cookie)).status_code == 401


async def test_a_wrong_one_is_no_way_round_to_being_local(client: httpx.AsyncClient) -> None:
    for header in ("Bearer x", "Basic x", "Basic eA==", "Digest x", "x", ""):
        assert (await client.get(RUNS, headers={"Authorization": header})).status_code == 401


async def test_one_from_the_environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENTIAL_TOKEN", "a-long-random-text-of-mine")
    async with serving(engine) as client:
        none = await client.get(RUNS)
        right = {"Authorization": "Bearer a-long-random-text-of-mine"}
        done = await client.post(RUNS, json={"task": "approval"}, headers=right)

    assert [none.status_code, done.status_code] == [401, 201]
    assert await actor_of_last(engine) == "token SEQUENTIAL_TOKEN"


async def test_one_that_is_easily_guessed_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENTIAL_TOKEN", "secret")
    with pytest.raises(ConfigError, match="too short for a secret"):
        create_app(engine)


async def test_who_guesses_has_to_wait_and_locks_out_nobody(engine: Engine) -> None:
    async with from_peer(engine, "10.0.0.1", ServerSettings(failed_logins=3)) as client:
        right = await bearer(engine)
        assert (await client.get(RUNS, headers=right)).status_code == 200
        wrong = {"Authorization": f"Bearer seq_{'0' * 12}_{'a' * 43}"}
        statuses = [(await client.get(RUNS, headers=wrong)).status_code for _ in range(5)]
        last = await client.get(RUNS, headers=wrong)

        assert statuses == [401, 401, 401, 429, 429]
        assert last.json()["error"]["code"] == "rate_limited"
        assert int(last.headers["retry-after"]) >= 1
        assert (await client.get(RUNS, headers=right)).status_code == 200


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic dXNlcjpwYTpzcw==", "pa:ss"),
        ("Basic /w==", ""),
        ("Basic ###", ""),
        ("Token abc", ""),
    ],
)
def test_what_a_header_presents(header: str | None, token: str | None) -> None:
    assert presented_token(header) == token


# --- users of a proxy ----------------------------------------------------------------------------


async def test_a_trusted_proxy_names_the_user(engine: Engine) -> None:
    user = {"X-Forwarded-User": "ada", "X-Forwarded-For": "198.51.100.7"}
    async with from_peer(engine, PROXY, PROXIED) as client:
        done = await client.post(RUNS, json={"task": "approval"}, headers=user)
        nobody = await client.get(RUNS)
    entry = (await engine.audit.list(limit=1))[0]

    assert [done.status_code, nobody.status_code] == [201, 401]
    assert (entry.actor, entry.address) == ("user ada", "198.51.100.7")


async def test_nobody_else_does(engine: Engine) -> None:
    user = {"X-Forwarded-User": "ada"}
    for peer in ("10.2.0.1", "127.0.0.1", "testclient"):
        async with from_peer(engine, peer, PROXIED) as client:
            assert (await client.get(RUNS, headers=user)).status_code == 401


async def test_users_read_unless_the_settings_say_more(engine: Engine) -> None:
    settings = ServerSettings(proxy_header="X-User", trusted_proxies=(PROXY,))
    async with from_peer(engine, PROXY, settings) as client:
        user = {"X-User": "ada"}
        assert (await client.get(RUNS, headers=user)).status_code == 200
        assert (await client.post(RUNS, json={}, headers=user)).status_code == 403


async def test_addresses_that_a_sender_makes_up_are_not_believed(engine: Engine) -> None:
    headers = await bearer(engine, "operate")
    passed_on = {**headers, "X-Forwarded-For": "1.1.1.1, 198.51.100.7, 10.1.9.9"}
    for peer, address in ((PROXY, "198.51.100.7"), ("203.0.113.5", "203.0.113.5")):
        async with from_peer(engine, peer, PROXIED) as client:
            await client.post(RUNS, json={"task": "approval"}, headers=passed_on)
        assert (await engine.audit.list(limit=1))[0].address == address


# --- tokens with limits --------------------------------------------------------------------------


async def test_a_token_with_limits_administers_nothing(engine: Engine) -> None:
    limited = await bearer(engine, "operate", limits=TokenLimits(tasks=("approval",)))
    async with from_peer(engine, "10.0.0.1") as client:
        made = await client.post("/api/v1/tokens", json={"name": "x"}, headers=limited)
        kept = await client.put("/api/v1/keys/a", json={"value": "b"}, headers=limited)
        pruned = await client.post("/api/v1/prune", json={"older_than": 0}, headers=limited)
        started = await client.post(RUNS, json={"task": "approval"}, headers=limited)

    assert [made.status_code, kept.status_code, pruned.status_code] == [403, 403, 403]
    assert "limits" in made.json()["error"]["message"]
    assert started.status_code == 201
    assert [token.name for token in await engine.tokens.list()] == ["me"]


# --- listening -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
async def test_others_are_listened_to_only_with_a_token(engine: Engine, host: str) -> None:
    with pytest.raises(ConfigError, match="tokens create NAME --role operate"):
        await check_listening(host, engine, ServerSettings())

    await engine.tokens.create("a")
    await check_listening(host, engine, ServerSettings())


async def test_or_behind_a_proxy_or_here(engine: Engine) -> None:
    await check_listening("0.0.0.0", engine, PROXIED)
    for host in ("127.0.0.1", "localhost", "::1"):
        await check_listening(host, engine, ServerSettings())


async def test_a_proxy_that_is_no_address_is_told(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="is neither an address nor a network"):
        await check_listening("::1", engine, ServerSettings(trusted_proxies=("proxy.example",)))

"""Keys and addresses: what is refused, in one line that says what to do and never shows the key."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sequential.errors import ConfigError, StorageError
from sequential.storage.registry import create_adapter
from sequential.storage.supabase_address import Address, parse
from support import supabase_gateway
from support.supabase_gateway import SECRET_KEY, Refusal, token
from support.supabase_project import SupabaseProject

URL = "https://abc.supabase.co"
KEY = "k3y-nobody-may-see"


async def refusal(supabase: SupabaseProject, key: str) -> str:
    """What is said to somebody with this key."""
    with pytest.raises(StorageError) as caught:
        await create_adapter("supabase", url=supabase.url, key=key)
    message = str(caught.value)
    assert key not in message
    assert "\n" not in message
    assert message.startswith(supabase.url)
    return message


async def test_a_wrong_key(supabase: SupabaseProject) -> None:
    for key in (KEY, "sb_secret_wrong"):
        assert "the key is not accepted (Invalid API key ***): set SUPABASE_SERVICE_KEY" in (
            await refusal(supabase, key)
        )


async def test_a_key_of_another_project(
    supabase: SupabaseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supabase_gateway, "SECRET", "of another project, 32 characters long")
    key = token("service_role")
    supabase.gateway.keys.add(key)
    assert "the key is not accepted (JWSError" in await refusal(supabase, key)


async def test_a_key_that_has_expired(supabase: SupabaseProject) -> None:
    key = token("service_role", seconds=-3600)
    supabase.gateway.keys.add(key)
    assert "the key has expired: set SUPABASE_SERVICE_KEY" in await refusal(supabase, key)


async def test_the_key_for_everybody(supabase: SupabaseProject) -> None:
    assert "this is the anon or publishable key, which may not use the store: set SUPABASE_" in (
        await refusal(supabase, token("anon"))
    )


async def test_the_key_of_a_user_who_is_signed_in(supabase: SupabaseProject) -> None:
    assert "this is the authenticated key, which may not use the store" in (
        await refusal(supabase, token("authenticated"))
    )


async def test_a_service_role_that_lost_its_rights(supabase: SupabaseProject) -> None:
    function = "execute on function public.sequential_call(text, jsonb)"
    supabase.apply(f"revoke {function} from service_role")
    try:
        assert "apply the SQL of `python -m sequential.storage.supabase_migration` again" in (
            await refusal(supabase, supabase.key)
        )
    finally:
        supabase.apply(f"grant {function} to service_role")


async def test_a_key_of_the_new_kind_works(supabase: SupabaseProject) -> None:
    adapter = await create_adapter("supabase", url=supabase.url, key=SECRET_KEY)
    assert await adapter.list_keystore() == []
    await adapter.close()


async def test_the_environment_names_the_project(
    supabase: SupabaseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", supabase.url)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", supabase.key)
    adapter = await create_adapter("supabase")
    assert await adapter.list_keystore() == []
    await adapter.close()


async def test_a_url_that_is_not_of_supabase(supabase: SupabaseProject) -> None:
    with pytest.raises(StorageError, match="correct SUPABASE_URL, there is no data API"):
        await create_adapter("supabase", url=supabase.url + "/other", key=supabase.key)
    supabase.gateway.refusals = [Refusal(302, {}, {"Location": "https://example.com/"})]
    with pytest.raises(StorageError, match="correct SUPABASE_URL, there is no data API"):
        await create_adapter("supabase", url=supabase.url, key=supabase.key)
    supabase.gateway.refusals = [Refusal(200, {"hello": "world"})]
    with pytest.raises(StorageError, match="not as the data API of Supabase"):
        await create_adapter("supabase", url=supabase.url, key=supabase.key)


async def test_a_page_in_place_of_an_answer() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with pytest.raises(StorageError, match="answers, but not as the data API of Supabase"):
        await create_adapter("supabase", url=url, key=KEY)
    await runner.cleanup()


async def test_a_server_that_does_not_speak_https(supabase: SupabaseProject) -> None:
    url = supabase.url.replace("http:", "https:")
    with pytest.raises(StorageError, match="does not speak https as it should: correct SUPABASE"):
        await create_adapter("supabase", url=url, key=supabase.key)


async def test_a_certificate_that_nobody_has_signed(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    with pytest.raises(StorageError, match="its certificate is not trusted: correct SUPABASE_URL"):
        await create_adapter("supabase", url=url, key=KEY)
    await runner.cleanup()


def self_signed(folder: Path) -> Path:
    """A file with a key and a certificate."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, SHA256())
    )
    encoded = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(encoded + certificate.public_bytes(Encoding.PEM))
    return path


def address(location: str = "", url: str | None = None, **config: Any) -> Address:
    environment = config.pop("environment", {})
    return parse(location, url, config.pop("key", KEY), config, environment)


@pytest.mark.parametrize(
    ("location", "api"),
    [
        (URL, URL),
        (URL + "/", URL),
        (URL + "/rest/v1/", URL),
        ("http://127.0.0.1:54321", "http://127.0.0.1:54321"),
        ("http://[::1]:54321", "http://[::1]:54321"),
        ("http://kong:8000", "http://kong:8000"),
        ("https://example.com:8443/supabase", "https://example.com:8443/supabase"),
    ],
)
def test_urls_of_projects(location: str, api: str) -> None:
    assert address(location).entry == f"{api}/rest/v1/rpc/sequential_call"


def test_settings_are_in_the_query_or_given() -> None:
    found = address(URL + "?schema=mine&timeout=5")
    assert (found.options.schema, found.options.timeout) == ("mine", 5.0)
    assert found.entry.endswith("/rpc/mine_call")
    found = address("?schema=mine", environment={"SUPABASE_URL": URL})
    assert found.entry == URL + "/rest/v1/rpc/mine_call"
    assert address(url=URL, pool=3, patience=0.0).options.pool == 3


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"SUPABASE_SERVICE_KEY": "1", "SUPABASE_KEY": "2", "SUPABASE_ANON_KEY": "3"}, "1"),
        ({"SUPABASE_SERVICE_KEY": " ", "SUPABASE_KEY": "2\n", "SUPABASE_ANON_KEY": "3"}, "2"),
        ({"SUPABASE_ANON_KEY": "3"}, "3"),
    ],
)
def test_the_strongest_key_of_the_environment_counts(variables: dict[str, str], key: str) -> None:
    assert address(URL, key=None, environment=variables).key.headers()["apikey"] == key


@pytest.mark.parametrize(
    ("location", "config", "message"),
    [
        ("", {}, "is not named: set SUPABASE_URL to https://<project>.supabase.co"),
        (URL, {"key": ""}, "is missing: set SUPABASE_SERVICE_KEY"),
        (URL, {"key": "a b"}, "copy it again"),
        (URL, {"key": f"{KEY}\n"}, "copy it again"),
        (URL, {"key": "schlüssel"}, "copy it again"),
        ("abc.supabase.co", {}, "cannot be read: write https://"),
        ("https://user:secret@abc.supabase.co", {}, "cannot be read: write https://"),
        ("https://abc.supabase.co:port", {}, "cannot be read: write https://"),
        ("https://abc.supabase.co/#secret", {}, "cannot be read: write https://"),
        ("https://", {}, "cannot be read: write https://"),
        ("postgresql://postgres:secret@db/x", {}, "set DATABASE_URL to it instead"),
        ("http://abc.supabase.co", {}, "in the clear: begin its URL with https://"),
        (URL + "?schema=public", {}, "belongs to others: choose one of your own"),
        (URL + "?schema=pg_x", {}, "cannot name the schema: use small letters"),
        (URL, {"schema": 'a"; drop'}, "cannot name the schema: use small letters"),
        (URL + "?pool=0", {}, "at least 1 request must be possible"),
        (URL + "?timeout=0", {}, "give a number of seconds above 0"),
        (URL + "?timeout=soon", {}, "a setting of the Supabase project is wrong"),
        (URL + "?key=secret", {}, "there are schema, pool, timeout, patience"),
    ],
)
def test_what_cannot_be_right_is_said(location: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address(location, **config)
    assert message in str(caught.value)
    for hidden in (KEY, "secret@", "=secret", "#secret", "schlüssel"):
        assert hidden not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["x.e30.y", "x.bm90IGpzb24.y", "x.W10.y", "x.!.y", "x.eyJyb2xlIjo3LCJleHAiOiJub3cifQ.y", "..."],
)
def test_a_key_that_says_nothing_about_itself_is_tried(key: str) -> None:
    found = address(URL, key=key).key
    assert (found.role, found.has_expired(1e12)) == ("", False)
    assert found.headers()["Authorization"] == f"Bearer {key}"


def test_nothing_that_is_printed_holds_the_key() -> None:
    assert KEY not in repr(address(URL))
    assert address(URL).key.hide(f"no {KEY}!") == "no ***!"

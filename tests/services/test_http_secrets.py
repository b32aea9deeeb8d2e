"""`{{secret:name}}` in the headers of a fetch."""

from typing import Any

import pytest

from sequential.services.base import CallContext, CallError, NoSecrets
from sequential.services.http import HttpService
from sequential.services.http_request import parse_url, redirected, request_from
from sequential.services.http_secrets import with_secrets
from support.http_api import HttpApi, serve

TOKEN = "tok-{{secret:other}}-1"  # it looks like another one, and is not taken for it


class Given(NoSecrets):
    """Secrets from a dict."""

    def __init__(self, **values: str) -> None:
        self.values = values

    async def get(self, name: str) -> str:
        return self.values[name] if name in self.values else await super().get(name)


async def fetch(http: HttpService, *args: Any, **kwargs: Any) -> Any:
    secrets = Given(token=TOKEN, other="never", lines="a\nb", accented="grün")
    context = CallContext("run", "task", 0, 1, "key-1", secrets=secrets)
    return await http.call("fetch", args, kwargs, context)


async def test_they_are_filled_in_when_the_request_is_sent(
    http: HttpService, http_api: HttpApi
) -> None:
    headers = {
        "Authorization": "Bearer {{secret:token}}",
        "X-Two": "{{ secret: token }}+{{secret:accented}}",
        "X-None": "{{token}}",
    }
    await fetch(http, f"{http_api.url}/echo", headers=headers)
    sent = http_api.last.headers
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert sent["x-two"].encode("latin-1").decode() == f"{TOKEN}+grün"
    assert sent["x-none"] == "{{token}}"


@pytest.mark.parametrize(
    ("headers", "type", "said"),
    [
        ({"X": "{{secret:tokn}}"}, "LookupError", "there is no secret 'tokn'"),
        ({"X": "{{secret:lines}}"}, "ValueError", "holds a control character"),
    ],
)
async def test_what_cannot_be_filled_in_is_not_sent(
    http: HttpService, http_api: HttpApi, headers: Any, type: str, said: str
) -> None:
    with pytest.raises(CallError, match=said) as caught:
        await fetch(http, f"{http_api.url}/echo", headers=headers)
    assert caught.value.failure.type == type
    assert "a\nb" not in str(caught.value)
    assert http_api.requests == []


@pytest.mark.parametrize(
    ("path", "options", "argument"),
    [
        ("/echo?key={{secret:token}}", {}, "url"),
        ("/echo", {"params": {"key": "{{secret:token}}"}}, "params"),
        ("/echo", {"json": {"deep": [{"key": "x {{secret:token}}"}]}}, "json"),
        ("/echo", {"json": {"{{secret:token}}": 1}}, "json"),
        ("/echo", {"data": "{{secret:token}}"}, "data"),
    ],
)
async def test_elsewhere_they_are_refused(
    http: HttpService, http_api: HttpApi, path: str, options: Any, argument: str
) -> None:
    with pytest.raises(CallError, match="is filled in in headers only") as caught:
        await fetch(http, http_api.url + path, "POST", **options)
    assert caught.value.failure.type == "ValueError"
    assert str(caught.value).startswith(f"{argument}: {{{{secret:token}}}}")
    assert http_api.requests == []


async def test_another_site_is_not_told_on_a_redirect(http: HttpService, http_api: HttpApi) -> None:
    with serve() as other:
        await fetch(
            http,
            f"{http_api.url}/redirect",
            params={"to": f"{other.url}/echo"},
            headers={"X-Signature": "{{secret:token}}", "X-Plain": "seen"},
        )
        assert http_api.last.headers["x-signature"] == TOKEN
        assert "x-signature" not in other.last.headers
        assert other.last.headers["x-plain"] == "seen"
    await fetch(http, f"{http_api.url}/redirect/1", headers={"X-Signature": "{{secret:token}}"})
    assert http_api.last.path == "/json/0"
    assert http_api.last.headers["x-signature"] == TOKEN


async def test_they_follow_a_site_to_https_and_nowhere_else() -> None:
    url, key = "http://a.example/", "k"
    headers = {"X-Key": "{{secret:token}}"}
    request = request_from([url], {"headers": headers}, timeout=1.0, idempotency_key=key)
    request = await with_secrets(request, Given(token="secret-token"))
    assert ("X-Key", "secret-token") in redirected(request, 302, "https://a.example/").headers
    for there in ("https://b.example/", "http://a.example:81/", "//c.example"):
        assert redirected(request, 302, there).headers == ()
    https = await with_secrets(
        request_from(["https://a.example"], {"headers": headers}, timeout=1.0, idempotency_key=key),
        Given(token="secret-token"),
    )
    assert redirected(https, 302, url).headers == ()


async def test_a_request_without_secrets_is_left_as_it_is() -> None:
    request = request_from(["http://a.example"], {}, timeout=1.0, idempotency_key="k")
    assert await with_secrets(request, NoSecrets()) is request
    assert request.target == parse_url("http://a.example")[0]

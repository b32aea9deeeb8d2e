import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from sequential.services.address_guard import RefusedError
from sequential.services.http_request import Request, parse_url, redirected, request_from


def request(*args: Any, **kwargs: Any) -> Request:
    return request_from(args, kwargs, timeout=60.0, idempotency_key="key-1")


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTP://EXAMPLE.com:80/A?b=C#d", "http://example.com/A?b=C"),
        ("https://example.com.:8443/", "https://example.com:8443/"),
        ("  https://example.com/x \n", "https://example.com/x"),
        ("https://example.com/a b/ü", "https://example.com/a%20b/%C3%BC"),
        ("https://example.com/?q=a b&r=ü", "https://example.com/?q=a%20b&r=%C3%BC"),
        # Signed URLs depend on every escape as it was written.
        ("https://e.com/a%2Fb%7e?X=%2F%2c+%20", "https://e.com/a%2Fb%7e?X=%2F%2c+%20"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://example.com/?a[]=1", "https://example.com/?a[]=1"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://[2001:4860::8888]/", "http://[2001:4860::8888]/"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
    ],
)
def test_urls(url: str, sent: str) -> None:
    assert parse_url(url)[0].url == sent


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("example.com", "begins with http"),
        ("/path", "begins with http"),
        ("ftp://example.com", "begins with http"),
        ("file:///etc/passwd", "begins with http"),
        ("javascript:alert(1)", "begins with http"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://:80/", "names no host"),
        ("http://::1/", "names no host|not valid"),
        ("http://good.com\\@evil.com/", "names no host"),
        ("http://evil.com\\.good.com/", "names no host"),
        ("https://example.com:0/", "no valid port"),
        ("https://example.com:99999/", "[Pp]ort"),
        ("https://example.com:x/", "[Pp]ort"),
        ("https://exam\nple.com/", "control character"),
        ("https://example.com/a\r\nX: y", "control character"),
        ("https://example.com/a\tb", "control character"),
        ("https://example.com/\x00", "control character"),
        ("https://exa mple.com/", "host name"),
        ("https://[::1/", "not valid"),
        ("https://[::1]x/", "IPv6|not valid"),
        ("http://127.1/", "write 127.0.0.1"),
        ("http://2130706433/", "write 127.0.0.1"),
        ("", "begins with http"),
    ],
)
def test_wrong_urls(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(url)


def test_no_message_tells_a_password_or_a_query() -> None:
    for url in ("ftp://me:secret@h/?token=secret", "http://me:secret@h:x/?token=secret"):
        with pytest.raises(ValueError) as error:
            parse_url(url)
        assert "secret" not in str(error.value)
    shown = str(request("https://me:secret@example.com/a?token=secret&n=secret", "POST"))
    assert shown == "POST https://example.com/a?token=...&n=..."


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"a": 1, "b": "x y"}, "q=0&a=1&b=x+y"),
        ({"tag": ["a", "b"], "no": None}, "q=0&tag=a&tag=b"),
        ({"flag": True, "price": Decimal("1.10")}, "q=0&flag=true&price=1.10"),
        ({"ü": "&="}, "q=0&%C3%BC=%26%3D"),
        ([["a", 1], ["a", 2]], "q=0&a=1&a=2"),
        ({}, "q=0"),
        (None, "q=0"),
    ],
)
def test_params_join_the_query(params: Any, query: str) -> None:
    assert request("https://example.com/?q=0", params=params).target.query == query


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({}, None, None),
        ({"json": {"a": [1, "ü"]}}, '{"a":[1,"ü"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"json": 0}, b"0", "application/json"),
        ({"json": (1, 2)}, b"[1,2]", "application/json"),
        ({"data": "grüße"}, "grüße".encode(), "text/plain; charset=utf-8"),
        ({"data": b"\x00\xff"}, b"\x00\xff", "application/octet-stream"),
        ({"data": ""}, b"", "text/plain; charset=utf-8"),
        (
            {"data": {"a": "1 2", "b": ["x", "y"]}},
            b"a=1+2&b=x&b=y",
            "application/x-www-form-urlencoded",
        ),
        ({"data": "<a/>", "headers": {"content-type": "text/xml"}}, b"<a/>", "text/xml"),
    ],
)
def test_bodies(options: dict[str, Any], body: bytes | None, kind: str | None) -> None:
    made = request("https://example.com", "PUT", **options)
    assert made.body == body
    kinds = [value for name, value in made.headers if name.lower() == "content-type"]
    assert kinds == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("kwargs", "kind", "says"),
    [
        ({"url": 5}, TypeError, "url must be text"),
        ({"uri": "x"}, TypeError, "no option 'uri'; it knows url, method"),
        ({}, TypeError, "needs a url"),
        ({"method": "G T"}, ValueError, "method"),
        ({"method": "GET\r\nX: y"}, ValueError, "method"),
        ({"method": "CONNECT"}, ValueError, "method"),
        ({"method": ""}, ValueError, "method"),
        ({"method": 1}, TypeError, "method"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, ValueError, "line break"),
        ({"headers": {"X-A": "a\x00"}}, ValueError, "control"),
        ({"headers": {"X A": "a"}}, ValueError, "header name"),
        ({"headers": {"": "a"}}, ValueError, "header name"),
        ({"headers": {1: "a"}}, ValueError, "header name"),
        ({"headers": {"X-A": ["a"]}}, TypeError, "must be text, not list"),
        ({"headers": "X-A: b"}, TypeError, "must be a dict"),
        ({"headers": {"Host": "other"}}, ValueError, "set by the client"),
        ({"headers": {"content-length": "5"}}, ValueError, "set by the client"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError, "set by the client"),
        ({"headers": {"Connection": "upgrade"}}, ValueError, "set by the client"),
        ({"params": "a=1"}, TypeError, "params must be a dict"),
        ({"params": {"a": {"b": 1}}}, TypeError, "params: 'a'"),
        ({"json": {"at": datetime(2026, 1, 1)}}, TypeError, "json: .*datetime"),
        ({"json": float("nan")}, ValueError, "json: "),
        ({"json": {}, "data": "x"}, ValueError, "not both"),
        ({"data": 5}, TypeError, "data must be text"),
        ({"data": ["a"]}, TypeError, "data must be text"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("inf")}, ValueError, "timeout"),
        ({"timeout": "5"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": 1.5}, TypeError, "retries"),
        ({"follow_redirects": "no"}, TypeError, "follow_redirects"),
    ],
)
def test_wrong_options(kwargs: dict[str, Any], kind: type[Exception], says: str) -> None:
    if kwargs and "uri" not in kwargs:
        kwargs = {"url": "https://example.com", **kwargs}
    with pytest.raises(kind, match=says):
        request(**kwargs)


def test_arguments_by_place() -> None:
    made = request("https://example.com", "delete", {"X-A": 1})
    assert (made.method, made.headers) == ("DELETE", (("X-A", "1"),))
    with pytest.raises(TypeError, match="twice"):
        request("https://example.com", url="https://example.com")
    with pytest.raises(TypeError, match="9 arguments"):
        request(*["https://example.com"] * 10)


@pytest.mark.parametrize(
    ("method", "headers", "key", "repeatable"),
    [
        ("GET", {}, None, True),
        ("PUT", {}, None, True),
        ("DELETE", {}, None, True),
        ("POST", {}, "key-1", True),
        ("PATCH", {}, "key-1", True),
        ("POST", {"idempotency-KEY": "mine"}, "mine", True),
        ("POST", {"Idempotency-Key": None}, None, False),
        ("LOCK", {}, None, False),
        ("LOCK", {"Idempotency-Key": "mine"}, "mine", True),
    ],
)
def test_the_idempotency_key(
    method: str, headers: dict[str, str | None], key: str | None, repeatable: bool
) -> None:
    made = request("https://example.com", method, headers)
    keys = [value for name, value in made.headers if name.lower() == "idempotency-key"]
    assert keys == ([key] if key else [])
    assert made.repeatable is repeatable


def test_user_and_password_become_a_header() -> None:
    made = request("https://me:p%40ss@example.com/")
    assert made.headers == (("Authorization", "Basic bWU6cEBzcw=="),)
    assert made.target.url == "https://example.com/"
    mine = request("https://me:x@example.com/", headers={"authorization": "Bearer t"})
    assert mine.headers == (("authorization", "Bearer t"),)


SECRETS = {"Authorization": "a", "Cookie": "c", "Proxy-Authorization": "p", "X-Api-Key": "k"}


@pytest.mark.parametrize(
    ("start", "location", "kept"),
    [
        ("https://a.com/x", "/y", True),
        ("https://a.com/x", "https://a.com:443/y", True),
        ("https://a.com/x", "//a.com/y", True),
        ("http://a.com/x", "https://a.com/y", True),
        ("http://a.com/x", "https://a.com:8443/y", False),
        ("https://a.com/x", "http://a.com/y", False),
        ("https://a.com/x", "https://a.com:8443/y", False),
        ("https://a.com/x", "https://sub.a.com/y", False),
        ("https://a.com/x", "https://b.com/y", False),
    ],
)
def test_secrets_stay_with_their_origin(start: str, location: str, kept: bool) -> None:
    after = redirected(request(start, headers={**SECRETS, "X-Other": "1"}), 302, location)
    names = {name for name, _ in after.headers}
    assert names == ({*SECRETS, "X-Other"} if kept else {"X-Other"})


@pytest.mark.parametrize(
    ("method", "status", "becomes", "with_body"),
    [
        ("POST", 301, "GET", False),
        ("POST", 302, "GET", False),
        ("POST", 303, "GET", False),
        ("PUT", 303, "GET", False),
        ("PUT", 302, "PUT", True),
        ("POST", 307, "POST", True),
        ("POST", 308, "POST", True),
        ("HEAD", 303, "HEAD", True),
    ],
)
def test_methods_after_a_redirect(method: str, status: int, becomes: str, with_body: bool) -> None:
    after = redirected(request("https://a.com/", method, json={"a": 1}), status, "/next")
    assert after.method == becomes
    names = {name.lower() for name, _ in after.headers}
    assert ("content-type" in names, after.body is not None) == (with_body, with_body)
    assert ("idempotency-key" in names) is (becomes in ("POST", "PATCH"))


def test_a_body_is_not_sent_again_in_the_clear() -> None:
    posted = request("https://a.com/", "POST", json=1)
    with pytest.raises(RefusedError, match="would not be encrypted"):
        redirected(posted, 307, "http://a.com/")
    assert redirected(posted, 302, "http://a.com/").body is None


def test_a_redirect_is_read_as_a_url() -> None:
    start = request("https://a.com/x/y?z=1", "POST", data="d", timeout=5, retries=2)
    after = redirected(start, 307, "../ü?q=1#f")
    assert after.target.url == "https://a.com/%C3%BC?q=1"
    assert (after.timeout, after.retries, after.body) == (5, 2, b"d")
    for location in ("ftp://a.com/", "javascript:x", "http://", "http://127.1/"):
        with pytest.raises(ValueError):
            redirected(start, 302, location)


def test_json_keeps_large_numbers() -> None:
    body = request("https://a.com", json=10**30).body
    assert body is not None
    assert json.loads(body) == 10**30


NASTY = [*"abz019.-_:/@?#[]%\\&=;!~ü。① ", "http", "https", "://", "//", "127.0.0.1", "0x7f", "::1"]
NASTY += ["[::1]", "localhost", "evil.com", "%00", "%2f", "%40", "\t", "\n", "xn--", "\u202e"]


@given(st.lists(st.sampled_from(NASTY), max_size=12).map("".join))
def test_the_host_that_is_checked_is_the_host_that_is_called(rest: str) -> None:
    """Whatever is written: the client reads the URL as the guard did, or never gets it."""
    try:
        target, _ = parse_url("http://" + rest)
    except ValueError:
        return
    sent = URL(target.url, encoded=True)
    assert (sent.scheme, sent.raw_host, sent.port) == (target.scheme, target.host, target.port)
    assert (sent.raw_path, sent.raw_query_string) == (target.path, target.query)
    assert sent.user is None
    assert target.url.isascii()
    assert parse_url(target.url)[0] == target

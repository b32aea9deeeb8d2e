from datetime import UTC, datetime
from typing import Any

import pytest

from sequential.core.values import from_json, to_json
from sequential.services.http_response import Answer, retry_after

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def value(body: bytes, charset: str | None = None) -> dict[str, Any]:
    return Answer(200, (), "https://a.com/", body, charset).value()


@pytest.mark.parametrize(
    ("body", "charset", "text", "encoding"),
    [
        ("grüße".encode(), None, "grüße", "utf-8"),
        ("grüße".encode(), "UTF-8", "grüße", "utf-8"),
        ("grüße".encode("latin-1"), "iso-8859-1", "grüße", "iso8859-1"),
        ("日本".encode("shift_jis"), "shift_jis", "日本", "shift_jis"),
        (b"", None, "", "utf-8"),
        (b"\xef\xbb\xbf{}", None, "\ufeff{}", "utf-8"),
        (b"ok", "no-such-charset", "ok", "utf-8"),
        (b"ok", "zlib", "ok", "utf-8"),
        (b"ok", "rot13", "ok", "utf-8"),
        (b"ok", "idna", "ok", "utf-8"),
        (b"ok", "punycode", "ok", "utf-8"),
        (b"\\u0041", "unicode_escape", "\\u0041", "utf-8"),
        (b"ok", "a\x00b", "ok", "utf-8"),
    ],
)
def test_text(body: bytes, charset: str | None, text: str, encoding: str) -> None:
    content = {} if encoding == "utf-8" else {"content": body}
    assert value(body, charset) == {
        "status": 200, "headers": [], "url": "https://a.com/", "text": text, "encoding": encoding,
        **content,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        (b"\xff\xfe\x00", None),
        (b"\x89PNG\r\n\x1a\n", None),
        ("grüße".encode("latin-1"), "utf-8"),
        (b"\xff\xfeh\x00i", "utf-16"),  # odd length
        (b"\x00h\x00i", "utf-16"),  # has no mark, would come back with one
        (b"\x00\xd8", "utf-16-le"),  # half of a pair
    ],
)
def test_what_would_not_come_back_the_same_is_content(body: bytes, charset: str | None) -> None:
    made = value(body, charset)
    assert made["content"] == body
    assert "text" not in made


def test_an_answer_can_be_stored() -> None:
    headers = (("Set-Cookie", "a"), ("Set-Cookie", "b"))
    for body in (b"text", b"\xff\x00"):
        made = Answer(200, headers, "https://a.com/", body).value()
        assert made["headers"] == [["Set-Cookie", "a"], ["Set-Cookie", "b"]]
        assert from_json(to_json(made)) == made


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"retry-after": "0"}, 0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": " 7 "}, 7),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "9"}, 9),
        ({"Retry-After": "Fri, 01 May 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Friday, 01-May-26 12:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 01 May 2026 11:00:00 GMT"}, 0),
        (
            {
                "Retry-After": "Fri, 01 May 2026 15:00:30 GMT",
                "Date": "Fri, 01 May 2026 15:00:00 GMT",
            },
            30,
        ),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e400"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "Fri, 99 May 2026 12:00:30 GMT"}, None),
        ({"Retry-After": ""}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(tuple(headers.items()), NOW) == seconds

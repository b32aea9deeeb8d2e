"""HTTP/1.1 as libraries write it: in any pieces, in any spelling, and nonsense."""

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.runtimes.native.http_message import Answer, Request
from sequential.runtimes.native.http_wire import Wire, written

ORIGIN = "https://api.example.com"


def in_pieces(raw: bytes, size: int) -> Request | None:
    """What is read when the bytes come in pieces of a size."""
    wire = Wire(ORIGIN)
    found = [wire.feed(raw[at : at + size]) for at in range(0, len(raw), size)]
    assert found[:-1] == [None] * (len(found) - 1)
    return found[-1]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_body_of_a_known_length(size: int) -> None:
    raw = b"POST /a?b=c HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello"

    request = in_pieces(raw, size)

    assert request is not None
    assert (request.method, request.url) == ("POST", "https://api.example.com/a?b=c")
    assert request.headers == [("Host", "api.example.com"), ("Content-Length", "5")]
    assert request.body == b"hello"


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("trailer", [b"", b"Checksum: 1\r\n"])
def test_a_body_in_chunks(size: int, trailer: bytes) -> None:
    raw = (
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\n" + trailer + b"\r\n"
    )

    request = in_pieces(raw, size)

    assert request is not None
    assert request.body == b"abc0123456789"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 50))
def test_any_body_in_any_chunks_and_pieces(chunks: list[bytes], size: int) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"

    request = in_pieces(raw, size)

    assert request is not None
    assert request.body == b"".join(chunks)


def test_several_requests_on_one_connection() -> None:
    wire = Wire(ORIGIN)
    one = wire.feed(b"GET /1 HTTP/1.1\r\n\r\n")
    two = wire.feed(b"POST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
    three = wire.feed(b"GET /3 HTTP/1.1\r\n\r\n")

    assert [(r.url[-1], r.body) for r in (one, two, three) if r] == [
        ("1", b""),
        ("2", b"x"),
        ("3", b""),
    ]


def test_what_proxies_are_told_and_folded_headers() -> None:
    request = in_pieces(b"GET http://other.example/x HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", 1000)

    assert request is not None
    assert (request.url, request.headers) == ("http://other.example/x", [("A", "b c")])


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / extra HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    ],
)
def test_what_is_no_request(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"first line|many|-1|xyz|-5|size"):
        Wire(ORIGIN).feed(raw)


class _Socket:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._raw))


def read(answer: Answer) -> http.client.HTTPResponse:
    """What the standard library makes of a written answer."""
    response = http.client.HTTPResponse(_Socket(written(answer)))  # type: ignore[arg-type]
    response.begin()
    return response


def test_an_answer_is_written_as_servers_do() -> None:
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "3")]
    response = read(Answer(404, headers, b"abc"))

    assert (response.status, response.reason, response.read()) == (404, "Not Found", b"abc")
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.will_close


def test_a_recorded_header_cannot_become_another_one() -> None:
    response = read(Answer(299, [("A", "b\r\nInjected: yes"), ("Content-Length", "0")], b""))

    assert (response.status, response.reason) == (299, "")
    assert response.headers["A"] == "b Injected: yes"
    assert "Injected" not in response.headers

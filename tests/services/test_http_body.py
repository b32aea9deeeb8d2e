import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.services.http_body import Body, BodyTooLargeError


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "X-GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": bytes,  # not ours to unpack: it stays as it came
}


def read(encoding: str, data: bytes, limit: int = 10**9, piece: int = 65536) -> bytes:
    body = Body(encoding, limit)
    for at in range(0, len(data), piece):
        body.feed(data[at : at + piece])
    return body.end()


@given(st.binary(max_size=3000), st.sampled_from(sorted(PACKERS)), st.integers(1, 5000))
def test_any_body_in_pieces_of_any_size(data: bytes, encoding: str, piece: int) -> None:
    packed = PACKERS[encoding](data)
    assert read(encoding, packed, limit=len(data), piece=piece) == data
    if data:
        with pytest.raises(BodyTooLargeError):
            read(encoding, packed, limit=len(data) - 1, piece=piece)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_gzip_file_of_several_parts_and_padding(piece: int) -> None:
    data = b"".join(gzip.compress(part, mtime=0) for part in (b"one ", b"", b"two"))
    assert read("gzip", data, piece=piece) == b"one two"
    assert read("gzip", data + b"\0" * 50, piece=piece) == b"one two"


def test_an_empty_body_with_an_encoding() -> None:
    assert read("gzip", b"") == b""  # of a HEAD, or a 304


@pytest.mark.parametrize(
    ("encoding", "data", "says"),
    [
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:-4], "breaks off"),
        ("deflate", zlib.compress(b"x" * 100)[:-1], "breaks off"),
        ("gzip", b"not gzip", "damaged"),
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:-8] + b"\0" * 8, "damaged"),
        ("deflate", b"\xff\xff\xff", "damaged"),
        ("gzip", gzip.compress(b"", mtime=0) * 1001, "too many parts"),
    ],
)
def test_damaged_bodies(encoding: str, data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(encoding, data)

"""An envelope that does not match in every point is no snapshot; and it is never an exception."""

import hashlib
import hmac
from collections.abc import Callable

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sequential.core.snapshot import Head, seal, source_hash, unseal

KEY = b"k" * 32
HEAD = Head(run="r", turn=7, runtime="sandbox", version="1.4.0/2", source=source_hash("x = 1"))
STATE = b"the state of a program, " * 4
SEALED = seal(HEAD, STATE, KEY)


def test_a_state_comes_back() -> None:
    assert unseal(SEALED, HEAD, KEY) == STATE


@given(st.binary(max_size=1000), st.binary(max_size=80))
def test_any_state_comes_back_with_any_key(state: bytes, key: bytes) -> None:
    assert unseal(seal(HEAD, state, key), HEAD, key) == state


def test_a_large_state_becomes_small() -> None:
    state = bytes(10 << 20)
    sealed = seal(HEAD, state, KEY)
    assert len(sealed) < 10_000
    assert unseal(sealed, HEAD, KEY) == state


@pytest.mark.parametrize("change", [1, 0x80, 0xFF])
def test_no_byte_can_be_changed(change: int) -> None:
    for position in range(len(SEALED)):
        damaged = bytearray(SEALED)
        damaged[position] ^= change
        assert unseal(bytes(damaged), HEAD, KEY) is None, position


def test_no_part_of_it_is_enough() -> None:
    for length in range(len(SEALED)):
        assert unseal(SEALED[:length], HEAD, KEY) is None, length
        assert unseal(SEALED[-length:] if length else b"", HEAD, KEY) is None, length


@given(st.binary(min_size=1, max_size=100))
def test_nothing_can_be_added(more: bytes) -> None:
    assert unseal(SEALED + more, HEAD, KEY) is None
    assert unseal(more + SEALED, HEAD, KEY) is None


@given(st.binary(max_size=300))
def test_noise_is_no_snapshot(noise: bytes) -> None:
    assert unseal(noise, HEAD, KEY) is None
    assert unseal(b"SEQSNAP1" + noise, HEAD, KEY) is None


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"x" * 32, b"k" * 32 + b"x"])
def test_another_key_does_not_open_it(key: bytes) -> None:
    assert unseal(SEALED, HEAD, key) is None


@pytest.mark.parametrize(
    "other",
    [
        {"run": "another"},
        {"turn": 8},
        {"runtime": "native"},
        {"version": "1.4.1/2"},
        {"source": source_hash("x = 2")},
        {"codec": "none"},
    ],
)
def test_it_must_belong_to_what_is_resumed(other: dict[str, object]) -> None:
    expected = msgspec.structs.replace(HEAD, **other)
    assert unseal(SEALED, expected, KEY) is None
    assert unseal(seal(expected, STATE, KEY), expected, KEY) == STATE


def forged(head: bytes, body: bytes, *, length: int | None = None) -> bytes:
    """An envelope as somebody who has the key could make it."""
    size = (len(head) if length is None else length).to_bytes(4, "big")
    message = b"SEQSNAP1" + size + head + body
    return message + hmac.digest(KEY, message, "sha256")


def a_head(size: int = len(STATE), digest: str | None = None) -> bytes:
    digest = hashlib.sha256(STATE).hexdigest() if digest is None else digest
    return msgspec.json.encode(msgspec.structs.replace(HEAD, size=size, sha256=digest))


def squeezed(state: bytes, *, with_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=with_size).compress(state)


BODY = squeezed(STATE)
BOMB = squeezed(bytes(64 << 20))


def test_the_forger_of_this_test_is_good() -> None:
    assert unseal(forged(a_head(), BODY), HEAD, KEY) == STATE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: forged(a_head(), b""), id="no body"),
        pytest.param(lambda: forged(a_head(), STATE), id="a body that is not compressed"),
        pytest.param(lambda: forged(a_head(), BODY[:-1]), id="half a body"),
        pytest.param(lambda: forged(a_head(), BODY + b"x"), id="more after the body"),
        pytest.param(lambda: forged(a_head(), BODY + BODY), id="two bodies"),
        pytest.param(lambda: forged(a_head(), squeezed(b"x")), id="another body"),
        pytest.param(lambda: forged(a_head(), BOMB), id="a bomb"),
        pytest.param(
            lambda: forged(a_head(), squeezed(STATE, with_size=False)), id="a body without a size"
        ),
        pytest.param(lambda: forged(a_head(len(STATE) - 1), BODY), id="a size too small"),
        pytest.param(lambda: forged(a_head(len(STATE) + 1), BODY), id="a size too large"),
        pytest.param(lambda: forged(a_head(-1), BODY), id="a negative size"),
        pytest.param(lambda: forged(a_head(2**62), BODY), id="a huge size"),
        pytest.param(lambda: forged(a_head(digest="0" * 64), BODY), id="another digest"),
        pytest.param(lambda: forged(a_head(digest=""), BODY), id="no digest"),
        pytest.param(lambda: forged(b"", BODY), id="no head"),
        pytest.param(lambda: forged(b"{}", BODY), id="an empty head"),
        pytest.param(lambda: forged(b"[" * 100_000, BODY), id="a deep head"),
        pytest.param(
            lambda: forged(b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", BODY),
            id="a deep field that is unknown",
        ),
        pytest.param(lambda: forged(b"\xff\xfe", BODY), id="a head that is not text"),
        pytest.param(
            lambda: forged(a_head().replace(b'"r"', b'"\xff"'), BODY), id="a head that is not UTF-8"
        ),
        pytest.param(lambda: forged(a_head(), BODY, length=2**32 - 1), id="a head without end"),
        pytest.param(lambda: forged(a_head(), BODY, length=0), id="a head of no length"),
        pytest.param(lambda: forged(b"", b"")[:8], id="a magic only"),
    ],
)
def test_even_a_signed_one_is_not_trusted(data: Callable[[], bytes]) -> None:
    assert unseal(data(), HEAD, KEY) is None


def test_a_signed_one_without_the_magic_is_no_snapshot() -> None:
    message = b"SEQSNAP2" + forged(a_head(), BODY)[8:-32]
    assert unseal(message + hmac.digest(KEY, message, "sha256"), HEAD, KEY) is None


def test_more_than_the_largest_state_is_not_unpacked() -> None:
    size = (256 << 20) + 1
    # Only the header of a frame that promises so much: it must not even be asked for its bytes.
    frame = bytes.fromhex("28b52ffd") + b"\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(frame) == size
    assert unseal(forged(a_head(size), frame), HEAD, KEY) is None


def test_a_source_is_hashed_byte_by_byte() -> None:
    assert source_hash("a") == hashlib.sha256(b"a").hexdigest()
    assert source_hash("a") != source_hash("a\n")
    assert source_hash("\ud800") != source_hash("\ud801")

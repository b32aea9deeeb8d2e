"""The envelope around a stored snapshot.

A snapshot is a cache, so an envelope that does not match in every point is simply no snapshot: it
was made by another version, for another run or source, it is damaged, or somebody without the key
made it. Loading a state from an untrusted store would let its author attack the machine that
restores it, hence the signature over everything.

Layout: magic, length of the head (4 bytes, big endian), head (JSON), body (zstd), HMAC-SHA256.
"""

import hashlib
import hmac

import msgspec
import zstandard

_MAGIC = b"SEQSNAP1"
_TAG_SIZE = 32
_LARGEST = 256 << 20


class Head(msgspec.Struct, frozen=True):
    """What a snapshot belongs to. All of it must match before the body is used."""

    run: str
    turn: int
    runtime: str
    version: str  # of the virtual machine, with its dump format
    source: str  # `source_hash` of the run's code
    codec: str = "zstd"
    size: int = 0
    sha256: str = ""


def source_hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def seal(head: Head, state: bytes, key: bytes) -> bytes:
    """The bytes to store for a program's state. `key` is secret; the same opens it again."""
    head = msgspec.structs.replace(head, size=len(state), sha256=hashlib.sha256(state).hexdigest())
    encoded = msgspec.json.encode(head)
    body = zstandard.ZstdCompressor(level=1).compress(state)
    message = _MAGIC + len(encoded).to_bytes(4, "big") + encoded + body
    return message + hmac.digest(key, message, "sha256")


def unseal(data: bytes, expected: Head, key: bytes) -> bytes | None:
    """The state, or None: there is no snapshot that could be used, replay the journal.

    `expected` is compared in everything but size and digest.
    """
    message, tag = data[:-_TAG_SIZE], data[-_TAG_SIZE:]
    signed = hmac.compare_digest(tag, hmac.digest(key, message, "sha256"))
    if not signed or not message.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + 4
    end = start + int.from_bytes(message[len(_MAGIC) : start], "big")
    try:
        head = msgspec.json.decode(message[start:end], type=Head)
        belongs = msgspec.structs.replace(head, size=0, sha256="") == expected
        if not belongs or head.size > _LARGEST:
            return None
        body = message[end:]
        if zstandard.frame_content_size(body) != head.size:  # so much would be allocated
            return None
        state = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zstandard.ZstdError):
        return None
    return state if hashlib.sha256(state).hexdigest() == head.sha256 else None

"""The body of an answer, unpacked while it arrives and never beyond its limit.

The limit is why this is not left to the HTTP client: what a piece of 64 KiB unpacks to can be a
thousand times as much, and whether clients bound it differs from release to release.
"""

import zlib

ACCEPTED = "gzip, deflate"

_GZIP_BEGIN = 0x1F
_MOST_MEMBERS = 1000  # parts of one gzip file; honest servers send one


class BodyTooLargeError(Exception):
    """The body has more bytes than its limit."""


class Body:
    """Collects a body. Encodings other than gzip and deflate stay as they came."""

    def __init__(self, encoding: str, limit: int) -> None:
        coding = encoding.strip().lower()
        self._gzip = coding in ("gzip", "x-gzip")
        self._packed = self._gzip or coding == "deflate"
        self._left = limit
        self._pieces: list[bytes] = []
        self._unpacker: zlib._Decompress | None = None
        self._members = 0
        self._padded = False

    def feed(self, data: bytes) -> None:
        """Take the next piece; raises `BodyTooLargeError`, or `ValueError` if it is damaged."""
        if not self._packed:
            self._keep(data)
            return
        while data:
            unpacker = self._unpacker or self._begin(data)
            if unpacker.eof:
                if self._padded or not self._gzip or data[0] != _GZIP_BEGIN:
                    self._padded = True  # which everybody ignores
                    return
                unpacker = self._begin(data)
            try:
                # One byte more than there may be is enough to know.
                self._keep(unpacker.decompress(data, self._left + 1))
            except zlib.error as error:
                raise ValueError(f"its compressed body is damaged: {error}") from None
            data = unpacker.unused_data or unpacker.unconsumed_tail

    def end(self) -> bytes:
        """The whole body; `ValueError` if something is missing."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise ValueError("its compressed body breaks off")
        return b"".join(self._pieces)

    def _begin(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise ValueError("its compressed body has too many parts")
        if self._gzip:
            bits = 16 + zlib.MAX_WBITS
        else:  # "deflate" means a zlib header, yet some servers send none
            bits = zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS
        self._unpacker = zlib.decompressobj(bits)
        return self._unpacker

    def _keep(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise BodyTooLargeError
        self._pieces.append(piece)

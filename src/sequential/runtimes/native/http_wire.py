"""HTTP/1.1 as bytes: what a library writes to a connection is read here, and answered in kind.

For libraries that are best met at their connection: all above it is theirs and works as ever,
status lines, cookies, streams and all.
"""

from collections.abc import Callable

from sequential.runtimes.native.http_message import Answer, Headers, Request

_END_OF_HEAD = b"\r\n\r\n"
_LINE = b"\r\n"


class Wire:
    """Collects what is written until it is a whole request.

    `origin` is where the connection leads, as in `https://api.example.com`.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._unread = bytearray()
        self._head: tuple[str, str, Headers] | None = None
        self._body = bytearray()
        self._read_body: Callable[[], bool] = self._no_body
        self._left = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Request | None:
        """Take some bytes; the request as soon as it is complete. `ValueError` if it is none."""
        self._unread += data
        if self._head is None and not self._begin():
            return None
        if not self._read_body():
            return None
        assert self._head is not None
        method, url, headers = self._head
        request = Request(method, url, headers, bytes(self._body))
        self._head = None
        self._body.clear()
        return request

    @property
    def is_inside(self) -> bool:
        """Whether the head of a request is there, and its body is not."""
        return self._head is not None

    def _begin(self) -> bool:
        head, found, rest = bytes(self._unread).partition(_END_OF_HEAD)
        if not found:
            return False
        self._unread = bytearray(rest)
        first, *lines = _decoded(head).replace("\r\n\t", " ").replace("\r\n ", " ").split("\r\n")
        try:
            method, target, _ = first.split(" ")
        except ValueError:
            raise ValueError(f"{first[:80]!r} is not the first line of a request") from None
        pairs = [line.partition(":") for line in lines]
        headers = [(name, value.strip(" \t")) for name, _, value in pairs]
        is_absolute = target.startswith(("http://", "https://"))  # as proxies are told
        self._head = method, target if is_absolute else self._origin + target, headers
        self._frame({name.lower(): value for name, value in headers})
        return True

    def _frame(self, headers: dict[str, str]) -> None:
        """Choose how the body is delimited."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._read_body = self._chunks
            self._left = -1
        elif "content-length" in headers:
            self._read_body = self._counted
            self._left = _size(headers["content-length"], 10)
        else:
            self._read_body = self._no_body

    def _no_body(self) -> bool:
        return True

    def _counted(self) -> bool:
        self._take()
        return self._left == 0

    def _take(self) -> None:
        piece = self._unread[: self._left]
        del self._unread[: len(piece)]
        self._body += piece
        self._left -= len(piece)

    def _chunks(self) -> bool:
        """`_left` is what misses of a chunk, -1 where the line with its size comes next."""
        while True:
            if self._left > 0:
                self._take()
                if self._left > 0:
                    return False
            if self._left == 0:  # the end of a line behind each chunk
                if len(self._unread) < len(_LINE):
                    return False
                del self._unread[: len(_LINE)]
                self._left = -1
            line, found, _ = self._unread.partition(_LINE)
            if not found:
                return False
            size = _size(line.partition(b";")[0].decode("latin-1"), 16)
            if size == 0:
                return self._trailer(len(line) + len(_LINE))
            del self._unread[: len(line) + len(_LINE)]
            self._left = size

    def _trailer(self, start: int) -> bool:
        """Skip the headers behind the last chunk, of which there are none as a rule."""
        rest = self._unread[start:]
        at = 0 if rest.startswith(_LINE) else rest.find(_END_OF_HEAD)
        if at < 0:
            return False
        size = len(_LINE) if at == 0 else at + len(_END_OF_HEAD)
        del self._unread[: start + size]
        return True


def written(answer: Answer) -> bytes:
    """An answer as a server writes it that closes the connection afterwards."""
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    headers = [*answer.headers, ("Connection", "close")]
    lines += [f"{name}: {' '.join(value.splitlines())}" for name, value in headers]
    return "\r\n".join(lines).encode() + _END_OF_HEAD + answer.body


def _size(text: str, base: int) -> int:
    size = int(text, base)
    if size < 0:
        raise ValueError(f"{text!r} is not the size of a body")
    return size


def _decoded(head: bytes) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError:
        return head.decode("latin-1")

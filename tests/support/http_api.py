"""A small HTTP API on this machine, for tests: it answers, misbehaves on request, and takes notes.

/json/<n>              {"n": n}
/echo                  the request as JSON: method, path, query, headers, body
/mirror                the headers of the request as headers, reason and JSON; ?status=, and with
                       ?to=<url> a redirect there with the header Authorization as its path
/status/<code>         that status; ?retry_after=, ?retry_after_ms= add headers
/flaky/<name>/<k>      503 for the first k requests, then 200; ?status=, ?retry_after=
/slow/<seconds>        200 after a while
/bytes/<n>             n bytes that are no text
/big/<n>               n times "x"; ?gzip=1 compresses them, ?chunked=1 does not tell the length
/redirect?to=<url>     302; ?status= chooses another one
/redirect/<n>          n redirects, then {"n": 0}
/drop                  closes the connection without an answer
/cut                   closes it in the middle of the body
/nonsense              an answer that is not HTTP
/text                  ?charset=, ?body=<hex> (else "grüße")
/cookie                sets a cookie
"""

import json
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived. `headers` has lower-case names, `connection` the client's port."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpApi:
    """The running server. `requests` is in the order of arrival."""

    port: int
    host: str = "127.0.0.1"
    connections: int = 0  # accepted so far
    requests: list[Recorded] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)  # per Idempotency-Key

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    def count(self, path: str) -> int:
        return self.paths[path]


@contextmanager
def serve(handler: "type[Handler] | None" = None) -> Iterator[HttpApi]:
    """Serve on a free port of 127.0.0.1 until the block is left."""
    server = _Server(("127.0.0.1", 0), handler or Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="http-api")
    thread.start()
    try:
        yield server.api
    finally:
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them and no socket is left open
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.api = HttpApi(port=self.server_address[1])
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self._connections.add(request)
            self.api.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep alive."""
        self.closing.set()
        with self.lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of many tests."""


class Handler(BaseHTTPRequestHandler):
    """Answers; a test adds methods `route_<first part of the path>` for an API of its own."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query))
        self.body = self._read_body()
        self._record(parts.path, parts.query)
        name, *rest = parts.path.strip("/").split("/")
        route = getattr(self, f"route_{name}", None)
        if route is None:
            self.reply(404, b'{"error": "no such route"}', "application/json")
        else:
            route(*rest)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def reply(
        self, status: int, body: bytes = b"", kind: str | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        for name in ("retry_after", "retry_after_ms"):
            if name in self.query:
                self.send_header(name.replace("_", "-").title(), self.query[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply_json(self, value: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), "application/json")

    def route_json(self, n: str) -> None:
        self.reply_json({"n": int(n)})

    def route_echo(self) -> None:
        last = self.server.api.last
        self.reply_json(
            {
                "method": last.method,
                "path": last.path,
                "query": last.query,
                "headers": last.headers,
                "body": last.body.decode("latin-1"),
            }
        )

    def route_mirror(self) -> None:
        given = self.server.api.last.headers
        own = {"host", "connection", "content-length", "accept", "accept-encoding"}
        status = int(self.query.get("status", 302 if "to" in self.query else 200))
        self.send_response(status, given.get("authorization"))
        for name, value in given.items():
            if name not in own:
                self.send_header(f"Was-{name}", value)
        if "to" in self.query:
            self.send_header("Location", self.query["to"] + quote(given["authorization"]))
        body = json.dumps(given).encode()
        self.send_header("Content-Type", self.query.get("kind", "application/json"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def route_status(self, code: str) -> None:
        self.reply(int(code), b"" if code in ("204", "304") else f"status {code}".encode())

    def route_flaky(self, name: str, times: str) -> None:
        seen = self.server.api.count(f"/flaky/{name}/{times}")
        if seen <= int(times):
            self.reply_json({"attempt": seen}, int(self.query.get("status", 503)))
        else:
            self.query.clear()
            self.reply_json({"attempt": seen})

    def route_slow(self, seconds: str) -> None:
        self.server.closing.wait(float(seconds))
        self.reply_json({"slept": float(seconds)})

    def route_bytes(self, n: str) -> None:
        body = (bytes(range(256)) * (int(n) // 256 + 1))[: int(n)]
        self.reply(200, body[::-1], "application/octet-stream")

    def route_big(self, n: str) -> None:
        if "gzip" in self.query:
            self.reply(200, _zipped(int(n)), "text/plain", Content_Encoding="gzip")
            return
        body = b"x" * int(n)
        if "chunked" in self.query:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 65536):
                piece = body[start : start + 65536]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.reply(200, body, "text/plain")

    def route_redirect(self, n: str = "") -> None:
        there = f"/redirect/{int(n) - 1}" if n not in ("", "1") else "/json/0"
        if "to" in self.query:
            there = self.query["to"]
        self.reply(int(self.query.get("status", 302)), b"elsewhere", Location=there)

    def route_drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def route_cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"only this")
        self.close_connection = True

    def route_nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-server\r\n\r\n")
        self.close_connection = True

    def route_text(self) -> None:
        charset = self.query.get("charset")
        text = self.query.get("body")
        body = "grüße".encode(charset or "utf-8") if text is None else bytes.fromhex(text)
        self.reply(200, body, f"text/plain; charset={charset}" if charset else "text/plain")

    def route_cookie(self) -> None:
        self.reply(200, b"{}", "application/json", Set_Cookie="session=1; Path=/")

    def log_message(self, format: str, *args: Any) -> None:
        """The tests look at `requests` instead."""

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _record(self, path: str, query: str) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        recorded = Recorded(
            method=self.command,
            path=unquote(path),
            query=query,
            headers=headers,
            body=self.body,
            connection=self.client_address[1],
            at=time.monotonic(),
        )
        api = self.server.api
        with self.server.lock:
            api.requests.append(recorded)
            api.paths[recorded.path] += 1
            if key := headers.get("idempotency-key"):
                api.keys[key] += 1


def _zipped(n: int) -> bytes:
    """What n times "x" is in gzip, made without ever holding all of them."""
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(b"x" * min(65536, n - at)) for at in range(0, n, 65536)]
    return b"".join([*pieces, packer.flush()])

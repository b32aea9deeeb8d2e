"""An HTTP server on a real socket that answers as a test has written down, request by request."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

Reply = Callable[["Handler"], None]


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int  # of the other side: one for each connection

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Gives the replies one after the other, the last one again and again; `requests` came in."""

    def __init__(self, *replies: Reply) -> None:
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._replies = list(replies)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.script = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def next_reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ScriptedServer

    def _answer(self) -> None:
        self.script = self.server.script  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        port = self.client_address[1]
        request = Request(self.command, self.path, dict(self.headers.items()), body, port)
        self.script.next_reply(request)(self)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        pass


def reply(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Reply:
    """A whole answer; `Retry_After="1"` is the header Retry-After."""

    def send(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def told(status: int, tree: Any, **headers: str) -> Reply:
    """An answer in JSON."""
    return reply(status, json.dumps(tree).encode(), **headers)


def refused(status: int, code: str, message: str, hint: str = "", **headers: str) -> Reply:
    """An error as the API has it."""
    detail = {"code": code, "message": message, "hint": hint}
    return told(status, {"error": detail}, **headers)


def cut(handler: Handler) -> None:
    """No answer, the connection ends."""
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """No answer, the connection is reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


def broken_off(handler: Handler) -> None:
    """Half of an answer, then the connection ends."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"items": [')
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """Nothing until the server ends."""
    handler.script.ended.wait(30)
    handler.close_connection = True


def endless(handler: Handler) -> None:
    """More and more, as long as somebody reads."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(10_000):
            handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    except OSError:
        handler.close_connection = True


def slowly(seconds: float, then: Reply) -> Reply:
    def send(handler: Handler) -> None:
        time.sleep(seconds)
        then(handler)

    return send

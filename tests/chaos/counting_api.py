"""The HTTP server under test: it takes notes of every request and its idempotency key.

/count/<x>      {"key", "n"}: which request with this key it was
/unsteady/<x>   the same, but 503 for the first request with each key
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SLOW = 0.02  # seconds that an answer takes, so that processes die while they wait for it


class Request(NamedTuple):
    """A request that arrived, and when it was answered, by the clock `time.monotonic`."""

    path: str
    begun: float
    ended: float


class CountingApi:
    """The notes: the requests of each key, in the order in which they arrived."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: dict[str, list[Request]] = {}
        self._lock = threading.Lock()

    def note(self, key: str, path: str) -> int:
        """Which request with this key it is, from 1."""
        with self._lock:
            begun = time.monotonic()
            noted = self.requests.setdefault(key, [])
            noted.append(Request(path, begun, begun + SLOW))
            return len(noted)


@contextmanager
def serve() -> Iterator[CountingApi]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            key = self.headers.get("Idempotency-Key") or "none"
            number = api.note(key, self.path)
            time.sleep(SLOW)
            refuse = self.path.startswith("/unsteady/") and number == 1
            body = json.dumps({"key": key, "n": number}).encode()
            self.send_response(503 if refuse else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    api = CountingApi(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()

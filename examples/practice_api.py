"""A small HTTP API for the examples: an inbox, a shop, a chat model, webhooks, all made up.

    python3 examples/practice_api.py              serves on http://127.0.0.1:8000
    python3 examples/practice_api.py --slow 1     takes a second for every answer

It needs nothing but Python. On standard output it prints a line for each request it has answered.
"""

import argparse
import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SUBJECTS = [
    *("Invoice 1041", "Lunch on Friday?", "Your invoice is overdue", "Holiday photos"),
    *("Invoice 1042", "Minutes of the meeting", "Re: minutes", "A parcel is on its way"),
    *("Last invoice of the year", "Happy new year"),
]
PRICES = {"corner": 12.5, "market": 9.9, "online": 11.0}
PAGE_SIZE = 4


class PracticeApi(ThreadingHTTPServer):
    """The server. `requests` and `keys` count what arrived, by "METHOD /path" and by key."""

    daemon_threads = True

    def __init__(self, port: int = 0, *, slow: float = 0.0, talk: bool = False) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.slow = slow
        self.talk = talk
        self.requests: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.deliveries: dict[str, int] = {}
        self.bodies: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: PracticeApi

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.body = self._body()
        self.server.requests[f"{self.command} {url.path}"] += 1
        self.key = self.headers.get("Idempotency-Key", "")
        if self.key:
            self.server.keys[self.key] += 1
        time.sleep(self.server.slow)
        name, *rest = url.path.strip("/").split("/")
        route = getattr(self, f"route_{name}", None)
        if route is None:
            self.reply({"error": f"there is nothing at {url.path}"}, 404)
        else:
            route(*rest)
        if self.server.talk:
            print(self.command, self.path, flush=True)

    do_GET = do_POST = answer  # noqa: N815 - the names that the standard library calls

    def route_messages(self, number: str = "") -> None:
        if number:
            subject = SUBJECTS[int(number)]
            self.reply({"id": int(number), "subject": subject, "body": f"About: {subject}"})
            return
        page = int(self.query.get("page", 1))
        start, end = (page - 1) * PAGE_SIZE, page * PAGE_SIZE
        listed = [{"id": i, "subject": SUBJECTS[i]} for i in range(len(SUBJECTS))[start:end]]
        self.reply({"messages": listed, "next": page + 1 if end < len(SUBJECTS) else None})

    def route_busy(self) -> None:
        """Busy for the first two requests."""
        seen = self.server.requests["GET /busy"]
        self.reply({"served": seen} if seen > 2 else {"error": "busy"}, 200 if seen > 2 else 503)

    def route_products(self, name: str, what: str = "") -> None:
        self.reply({"count": 7} if what == "stock" else {"name": name.title()})

    def route_shops(self, name: str, _: str) -> None:
        if name in PRICES:
            self.reply({"price": PRICES[name]})
        else:
            self.reply({"error": "closed"}, 410)

    def route_sales(self) -> None:
        total = 100 + int(self.query["day"].replace("-", "")) % 100
        self.reply({"total": total, "orders": [total // 2, total - total // 2]})

    def route_reports(self) -> None:
        self.server.bodies.append(self.body)
        self.reply({"id": f"report-{len(self.server.bodies)}"}, 201)

    def route_v1(self, *_: str) -> None:
        """A chat model that first says more than it was asked for."""
        messages = self.body["messages"]
        assert isinstance(messages, list)
        ready = any(message["role"] == "assistant" for message in messages)
        text = '{"queue": "billing", "urgent": true}' if ready else "Sure! It is about billing."
        self.reply({"choices": [{"message": {"role": "assistant", "content": text}}]})

    def route_files(self, name: str) -> None:
        self.send(name.encode() * 20_000, "application/octet-stream")

    def route_hooks(self, name: str) -> None:
        """The same key is one delivery; the first request for "orders" finds the server busy."""
        busy = name == "orders" and self.server.requests["POST /hooks/orders"] == 1
        if busy:
            self.reply({"error": "busy"}, 503, retry_after="0")
            return
        number = self.server.deliveries.setdefault(self.key, len(self.server.deliveries) + 1)
        self.reply({"delivery": number})

    def reply(self, value: object, status: int = 200, retry_after: str = "") -> None:
        self.send(json.dumps(value).encode(), "application/json", status, retry_after)

    def send(self, body: bytes, kind: str, status: int = 200, retry_after: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """One line per answer is printed above; the default would print to standard error."""

    def _body(self) -> dict[str, object]:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(text) if text else {}
        assert isinstance(body, dict)
        return body


def main() -> None:
    parser = argparse.ArgumentParser(description="A small HTTP API for the examples")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds an answer takes")
    options = parser.parse_args()
    server = PracticeApi(options.port, slow=options.slow, talk=True)
    print(f"serving {server.url}, stop with Ctrl-C", flush=True)
    try:
        server.serve_forever(poll_interval=0.05)
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()

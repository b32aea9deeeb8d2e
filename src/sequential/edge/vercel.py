"""For Vercel, whose Python runtime looks for `app` or `handler` in a file under `api/`.

app = sequential.edge.vercel.application(edge)       ASGI
handler = sequential.edge.vercel.handler(edge)       a class made of the standard library's
"""

import contextlib
import os
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from sequential.edge import asgi
from sequential.edge.handler import Edge
from sequential.edge.message import Request, Response, query_of, refusal


def application(edge: Edge) -> asgi.Application:
    """An ASGI application that knows where Vercel serves it."""
    return asgi.application(edge, base_url=deployment_url())


def handler(edge: Edge) -> type[BaseHTTPRequestHandler]:
    """A handler class that knows where Vercel serves it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self._respond()

        def do_POST(self) -> None:
            """Answer."""
            self._respond()

        def log_message(self, format: str, *args: object) -> None:
            """The platform has a log of its own."""

        def _respond(self) -> None:
            response = _response(edge, self)
            with contextlib.suppress(ConnectionError):  # functions do not wait for the answer
                self._send(response)

        def _send(self, response: Response) -> None:
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

    return Handler


def deployment_url() -> str:
    """Where this deployment is served, as Vercel says; empty elsewhere."""
    is_production = os.environ.get("VERCEL_ENV") == "production"
    production = os.environ.get("VERCEL_PROJECT_PRODUCTION_URL", "") if is_production else ""
    host = production or os.environ.get("VERCEL_URL", "")
    return f"https://{host}" if host else ""


def _response(edge: Edge, asked: BaseHTTPRequestHandler) -> Response:
    length = asked.headers.get("Content-Length", "0")
    if not length.isdecimal():
        return refusal(400, "invalid_input", "the header Content-Length is no number")
    url = urlsplit(asked.path)
    try:
        query = query_of(url.query)
    except ValueError:
        return refusal(400, "invalid_input", "the query has too many fields")
    # One byte more than is allowed shows that there is too much.
    body = asked.rfile.read(min(int(length), edge.largest_body + 1))
    headers = {name.lower(): value for name, value in asked.headers.items()}
    path = unquote(url.path)
    request = Request(asked.command, path, headers, query, body, deployment_url())
    return edge.handle_sync(request)

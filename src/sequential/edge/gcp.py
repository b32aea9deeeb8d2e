"""For Google Cloud Functions and Cloud Run: functions as `functions-framework` calls them.

handler = sequential.edge.gcp.handler(edge)        --target handler --signature-type http
on_event = sequential.edge.gcp.event_handler(edge)  --target on_event --signature-type cloudevent
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from sequential.edge.handler import Edge
from sequential.edge.message import Event, Request, event_from, query_of, refusal

Answer = tuple[bytes, int, Mapping[str, str]]


def handler(edge: Edge) -> Callable[[Any], Answer]:
    """The function that is called with a Flask request; Flask understands what it returns."""

    def handle(request: Any) -> Answer:
        # One byte more than is allowed shows that there is too much.
        body = request.stream.read(edge.largest_body + 1)
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers.setdefault("x-forwarded-proto", request.scheme)
        try:
            query = query_of(request.query_string.decode("latin-1"))
        except ValueError:
            response = refusal(400, "invalid_input", "the query has too many fields")
        else:
            response = edge.handle_sync(Request(request.method, request.path, headers, query, body))
        return response.body, response.status, response.headers

    return handle


def event_handler(edge: Edge) -> Callable[[Any], None]:
    """The function that is called with an event: a message of Pub/Sub, or of a timer.

    A message `{"resume": "<run>"}` names the run to go on with; any other event means to go on with
    what is due. What is raised makes Google deliver the event again.
    """

    def handle(event: Any) -> None:
        data = event.data if isinstance(event.data, Mapping) else {}
        message = data.get("message") or {}
        text = base64.b64decode(message.get("data") or "")
        edge.handle_event_sync(event_from(text) if text.startswith(b"{") else Event())

    return handle

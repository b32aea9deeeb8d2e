"""For AWS Lambda: `handler = sequential.edge.aws.handler(edge)`.

It takes what an HTTP API, a function URL, a REST API or a load balancer sends; messages of an SQS
queue, `{"resume": "<run>"}` each; the same as an event of its own; and everything else that a timer
sends (EventBridge) as the wish to go on with what is due.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlencode

from sequential.edge.handler import Edge
from sequential.edge.message import Event, Request, Response, event_from, query_of, refusal

log = logging.getLogger("sequential.edge")


def handler(edge: Edge) -> Callable[[Mapping[str, Any], Any], Any]:
    """The function that Lambda calls with an event and its context."""

    def handle(event: Mapping[str, Any], context: Any) -> Any:
        seconds_left = context.get_remaining_time_in_millis() / 1000 if context else None
        if "requestContext" in event:
            try:
                request = _request(event, seconds_left)
            except (ValueError, binascii.Error):
                return _answer(refusal(400, "invalid_input", "the request cannot be read"))
            return _answer(edge.handle_sync(request))
        if "Records" in event:
            return _queue(edge, event["Records"], seconds_left)
        return {"resumed": edge.handle_event_sync(_wish(event), seconds_left)}

    return handle


def _wish(event: Mapping[str, Any]) -> Event:
    return Event(resume=event.get("resume"))


def _queue(edge: Edge, records: list[Mapping[str, Any]], seconds_left: float | None) -> Any:
    """Do what each message asks for; those that failed are delivered again, if the queue is told.

    The mapping of the queue to the function needs `ReportBatchItemFailures` for that.
    """
    failed = []
    for record in records:
        try:
            edge.handle_event_sync(event_from(record["body"]), seconds_left)
        except Exception:  # whatever it is, the message has to come again
            log.exception("message %s was not done", record.get("messageId"))
            failed.append({"itemIdentifier": record.get("messageId")})
    return {"batchItemFailures": failed}


def _request(event: Mapping[str, Any], seconds_left: float | None) -> Request:
    context = event["requestContext"]
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        content = base64.b64decode(body, validate=True)
    else:
        content = body.encode("utf-8", "surrogatepass")
    domain, stage = context.get("domainName", ""), context.get("stage", "")
    if "http" in context:  # HTTP API, function URL
        method, path = context["http"]["method"], event["rawPath"]
        query = query_of(event.get("rawQueryString") or "")
        headers.setdefault("cookie", "; ".join(event.get("cookies") or ()))
        prefix = "" if stage in ("", "$default") else f"/{stage}"
        path = path.removeprefix(prefix)
    else:  # REST API, load balancer
        method, path = event["httpMethod"], event["path"]
        query = query_of(urlencode(event.get("queryStringParameters") or {}))
        # The path of the request before the API has taken off what it is mounted at.
        prefix = context.get("path", path).removesuffix(path)
    base_url = f"https://{domain}{prefix}" if domain else ""
    return Request(method, unquote(path), headers, query, content, base_url, seconds_left)


def _answer(response: Response) -> dict[str, Any]:
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }

"""Sending what Google's client has made ready, and reading what comes back."""

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from sequential.services.gapi_catalog import Method
from sequential.services.gapi_credentials import Key, Token, Tokens
from sequential.services.http_response import Answer
from sequential.services.outgoing import Outgoing, nonsense, refused

if TYPE_CHECKING:
    from googleapiclient.http import HttpRequest  # type: ignore[import-untyped]

LARGE = 1024 * 1024  # bytes; larger answers are read beside the event loop
LONGEST_URL = 2048  # characters; longer ones are sent as a form
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


class Access:
    """The right to make calls: as whom, for what, and the token for it."""

    def __init__(self, tokens: Tokens, key: Key, subject: str | None, scope: str) -> None:
        self._tokens = tokens
        self._key = key
        self._subject = subject
        self._scopes = (scope,)

    async def token(self, operation: str) -> Token:
        """A token that is good for some minutes."""
        return await self._tokens.get(operation, self._key, self._subject, self._scopes)

    def forget(self, token: Token) -> None:
        """It was not accepted: the next one has to be a new one."""
        self._tokens.forget(token)

    def redacted(self, text: str, token: Token) -> str:
        """The words of a server that repeats what it was sent."""
        return self._key.redacted(text.replace(token.text, "(hidden)"))


class Sender:
    """Sends requests over connections of its own."""

    def __init__(self, timeout: float) -> None:
        self._outgoing = Outgoing(timeout)

    async def perform(self, method: Method, request: "HttpRequest", access: Access) -> Any:
        """The value of one call, or the error that the task sees."""
        if request.resumable is not None:
            place = await self._begin_upload(method, request, access)
            content = request.resumable.getbytes(0, request.resumable.size())
            headers = {"Content-Type": request.resumable.mimetype()}
            answer = await self._send(method, "PUT", place, headers, content, access)
        else:
            verb, url, headers, body = _as_sent(request)
            answer = await self._send(method, verb, url, headers, body, access)
        if len(answer.body) > LARGE:
            return await asyncio.to_thread(_value, method, request, answer)
        return _value(method, request, answer)

    async def close(self) -> None:
        """Give back the connections."""
        await self._outgoing.close()

    async def _begin_upload(self, method: Method, request: "HttpRequest", access: Access) -> str:
        """Where the content of a large upload is to be put."""
        verb, url, headers, body = _as_sent(request)
        headers["X-Upload-Content-Type"] = request.resumable.mimetype()
        headers["X-Upload-Content-Length"] = str(request.resumable.size())
        answer = await self._send(method, verb, url, headers, body, access)
        place = answer.header("location") or ""
        # The token goes with it, so it has to be Google's, or where the request itself went.
        parts = urlsplit(place)
        is_of_google = parts.scheme == "https" and parts.netloc.endswith(".googleapis.com")
        if not is_of_google and parts[:2] != urlsplit(url)[:2]:
            raise nonsense(method.operation, "it was not told where to put the content")
        return place

    async def _send(
        self,
        method: Method,
        verb: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        access: Access,
    ) -> Answer:
        operation, repeatable = method.operation, method.is_repeatable
        for attempt in (1, 2):
            token = await access.token(operation)
            with_token = {**headers, "Authorization": f"Bearer {token.text}"}
            answer = await self._outgoing.send(
                operation, verb, url, headers=with_token, body=body, repeatable=repeatable
            )
            if answer.status != 401 or attempt == 2:
                break
            access.forget(token)  # withdrawn before its time
        if answer.status < 300:
            return answer
        reason, told = _told(answer)
        text = access.redacted(f"{reason}: {told}" if reason else told, token)
        again = True if answer.status == 403 and reason in _TOO_FAST else None
        raise refused(
            operation, answer.status, text, answer.headers, again=again, repeatable=repeatable
        )


def _as_sent(request: "HttpRequest") -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, URL, headers and body; the connection's own headers are not ours to set."""
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in ("accept-encoding", "content-length")
    }
    body = request.body.encode() if isinstance(request.body, str) else request.body
    if request.method == "GET" and len(request.uri) > LONGEST_URL:
        parts = urlsplit(request.uri)
        headers["X-HTTP-Method-Override"] = "GET"
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = urlunsplit(parts._replace(query="", fragment=""))
        return "POST", url, headers, parts.query.encode()
    return request.method, request.uri, headers, body


def _value(method: Method, request: "HttpRequest", answer: Answer) -> Any:
    import httplib2  # type: ignore[import-untyped]  # noqa: PLC0415 - the client's own answers

    if answer.status == 204:
        return None
    try:
        value = request.postproc(httplib2.Response({"status": str(answer.status)}), answer.body)
    except ValueError:
        value = None
    if isinstance(value, bytes):  # of a file, or of a method that answers nothing
        return value or (value if method.path[-1].endswith("_media") else None)
    if not isinstance(value, dict):
        kind = answer.header("content-type") or "nothing that can be named"
        raise nonsense(method.operation, f"the answer is no JSON but {kind}")
    return value


def _told(answer: Answer) -> tuple[str, str]:
    """Reason and message of an error of Google's, in any of the forms they have."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return "", "the answer is no JSON"
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        described = body.get("error_description", "") if isinstance(body, dict) else ""
        return str(error), str(described)
    errors = error.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else {}
    reason = (first.get("reason") if isinstance(first, dict) else "") or error.get("status", "")
    return str(reason), str(error.get("message", ""))

"""What the caller brings back from a request, made into what `fetch` gives to the program.

An answer is `{"status", "headers", "url", and "body", "text", "json" or "content"}` with an integer
status and nothing else, or a response object of httpx or requests. `{"error": message}` is a
request that failed: `OSError` for the program, or another exception of the network named by
`type`. Everything else is a value, falsy ones included: an answer with status 200 and this JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from sequential.core import values
from sequential.core.model import Failure, Limits, Outcome
from sequential.errors import InvalidInputError, ValueNotSupportedError

LARGEST = Limits().memory_mb << 18  # bytes of JSON; a larger answer would end the program
_BODIES = ("json", "text", "content", "body")
_KEYS = {"status", "headers", "url", *_BODIES, "ok", "status_text", "statusText", "encoding"}
_ERRORS = ("OSError", "ConnectionError", "TimeoutError", "PermissionError")
_JSON = ("Content-Type", "application/json")


def outcome_of(response: Any, url: str) -> Outcome:
    """The outcome of a request to `url`; raises `InvalidInputError` for what is no answer."""
    if isinstance(response, Mapping) and set(response) in ({"error"}, {"error", "type"}):
        return Outcome(error=_failure(response))
    if all(hasattr(response, name) for name in ("status_code", "headers", "content")):
        response = {
            "status": response.status_code,
            "headers": dict(response.headers),
            "url": str(getattr(response, "url", url)),
            "content": response.content,
        }
    try:
        tree = values.to_json(_answer(response, url), "the response")
    except ValueNotSupportedError as error:
        raise InvalidInputError(str(error)) from error
    if (size := len(values.dumps(tree))) > LARGEST:
        raise InvalidInputError(
            f"the response has {size >> 20} MiB, a program can take {LARGEST >> 20} MiB: "
            "keep it elsewhere and answer with its address"
        )
    return Outcome(value=tree)


def _failure(response: Mapping[str, Any]) -> Failure:
    kind = response.get("type", "OSError")
    if kind not in _ERRORS:
        raise InvalidInputError(
            f"the type of an error is one of {', '.join(_ERRORS)}, not {ascii(kind)[:60]}"
        )
    message = str(response["error"]).encode("utf-8", "replace").decode()
    known = "OSError" if kind == "ConnectionError" else kind
    return Failure(type=known, message=message, code="network")


def _answer(response: Any, url: str) -> dict[str, Any]:
    if not _is_answer(response):
        return {"status": 200, "headers": [_JSON], "url": url, "text": _text_of(response)}
    given = [name for name in _BODIES if response.get(name) is not None]
    if len(given) > 1:
        raise InvalidInputError(
            f"the response has {' and '.join(given)}: give the body once, as json, text or content"
        )
    answer = {
        "status": response["status"],
        "headers": _headers(response.get("headers")),
        "url": str(response.get("url") or url),
    }
    if "json" in response and not set(given) - {"json"}:
        return _with_json(answer, response["json"])
    return _with_body(answer, response[given[0]] if given else "")


def _is_answer(response: Any) -> bool:
    if not isinstance(response, Mapping) or not _KEYS.issuperset(response):
        return False
    status = response.get("status")
    return type(status) is int and 100 <= status <= 599


def _with_body(answer: dict[str, Any], body: Any) -> dict[str, Any]:
    if isinstance(body, Mapping) and set(body) == {"$bytes"}:
        body = values.from_json(dict(body))  # an answer that came as JSON
    if isinstance(body, bytearray | memoryview):
        body = bytes(body)
    if isinstance(body, bytes):
        try:
            return {**answer, "text": body.decode()}
        except UnicodeDecodeError:
            return {**answer, "content": body}
    return {**answer, "text": body} if isinstance(body, str) else _with_json(answer, body)


def _with_json(answer: dict[str, Any], value: Any) -> dict[str, Any]:
    headers = answer["headers"]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers = [*headers, _JSON]
    return {**answer, "headers": headers, "text": _text_of(value)}


def _text_of(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the response cannot be written as JSON: {error}; give {{'status', 'headers', 'text'}}"
        ) from error


def _headers(given: Any) -> list[tuple[str, str]]:
    pairs: list[Any] = [given]  # as wrong as such a list
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif given is None or isinstance(given, list | tuple):
        pairs = list(given or ())
    for pair in pairs:
        fits = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        if not fits or not isinstance(pair[1], str | int | float):
            raise InvalidInputError(
                "the headers of a response are a dict, or a list of pairs, of text"
            )
    return [(name, str(value)) for name, value in pairs]

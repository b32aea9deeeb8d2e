"""What a server says becomes the exception that an engine would have raised."""

from typing import Any

import pytest

from sequential import errors
from sequential.client.errors import (
    AnswerTimeoutError,
    BadAnswerError,
    NoAnswerError,
    RemoteError,
    ServiceError,
    engine_error,
    service_error,
)
from sequential.errors import SequentialError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SequentialError) and kind is not SequentialError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_engine_comes_back_as_itself(kind: type[SequentialError]) -> None:
    error = kind("what happened")
    body = {"error": {"code": error.code, "message": str(error), "hint": "look here"}}
    back = engine_error(error.http_status, body)
    assert (type(back), str(back)) == (kind, "what happened")


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (
            401,
            {"error": {"code": "unauthorized", "message": "no", "hint": "h"}},
            "unauthorized",
            "no: h",
        ),
        (
            403,
            {"error": {"code": "forbidden", "message": "no h", "hint": "h"}},
            "forbidden",
            "no h",
        ),
        (404, {"error": "text"}, "http_404", "text"),
        (404, {"error": 5}, "http_404", "the server answered 404 Not Found"),
        (404, {"error": {"code": 7, "message": None}}, "7", "the server answered 404 Not Found"),
        (599, [], "http_599", "the server answered 599"),
        (502, " with text/html", "http_502", "the server answered 502 Bad Gateway with text/html"),
    ],
)
def test_all_else_is_a_remote_error(status: int, body: Any, code: str, words: str) -> None:
    error = engine_error(status, body)
    assert isinstance(error, RemoteError)
    assert (error.code, error.status, str(error)) == (code, status, words)
    assert RemoteError.code == "remote_error"


def test_an_error_of_a_service_keeps_what_the_service_says() -> None:
    told = {"message": "no", "code": "C", "status": 418, "name": "Teapot"}
    error = service_error(400, {"error": told})
    assert isinstance(error, ServiceError)
    assert (str(error), error.code, error.status, error.name) == ("no", "C", 418, "Teapot")
    odd = service_error(400, {"error": {"status": True, "name": 5}})
    assert (odd.status, odd.name) == (400, "")


@pytest.mark.parametrize(
    ("kind", "usual"), [(NoAnswerError, ConnectionError), (AnswerTimeoutError, TimeoutError)]
)
def test_python_s_own_words_work_too(kind: type[SequentialError], usual: type[OSError]) -> None:
    with pytest.raises(usual, match=r"^what happened$"):
        raise kind("what happened")
    with pytest.raises(SequentialError, match="server"):
        raise kind


def test_codes_are_stable() -> None:
    codes = {kind.code for kind in (NoAnswerError, AnswerTimeoutError, BadAnswerError)}
    assert codes == {"no_answer", "answer_timeout", "bad_answer"}

from typing import Any

import pytest
from litestar.connection import ASGIConnection
from litestar.testing import RequestFactory

from sequential.errors import ConfigError
from sequential.web.door import Door, check_door, is_loopback
from sequential.web.errors import Refused


def asking(**headers: str) -> ASGIConnection[Any, Any, Any, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestFactory().get("/services", headers={"host": "127.0.0.1:3100", **named})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:3100"},
        {"host": "[::1]:3100"},
        {"host": "127.0.0.53"},
        {"origin": "http://127.0.0.1:3100", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_without_a_token_programs_here_are_let_in(headers: dict[str, str]) -> None:
    Door().admit(asking(**headers), "operate")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},  # a name that leads to this machine
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8080"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_without_a_token_pages_of_others_are_not(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="answers programs on its machine only") as error:
        Door().admit(asking(**headers), "read")
    assert error.value.status == 403
    Door().admit(asking(**headers), "public")


def test_with_a_token_it_alone_counts() -> None:
    door = Door("open sesame")
    door.admit(asking(host="api.example", authorization="bearer open sesame"), "operate")
    for given in ("", "Bearer", "Bearer guessed", "Basic open sesame", "Bearer \xff"):
        with pytest.raises(Refused, match="send Authorization: Bearer <token>"):
            door.admit(asking(authorization=given), "read")


def test_where_a_server_may_listen() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert is_loopback(host)
        check_door(host, "")
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com", ""):
        assert not is_loopback(host)
        check_door(host, "token")
        with pytest.raises(ConfigError, match="set SEQUENTIAL_TOKEN or --token, or listen on 127"):
            check_door(host, "")

from collections.abc import AsyncIterator, Iterator

import pytest

from sequential.services.base import CallError, TryAgain
from sequential.services.outgoing import Outgoing, address_if_any, refused, secret_if_any
from support.http_api import HttpApi, serve
from support.kept_secrets import KeptSecrets

TOKEN = {"Authorization": "Bearer t"}


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as api:
        yield api


@pytest.fixture
async def outgoing() -> AsyncIterator[Outgoing]:
    outgoing = Outgoing(timeout=5)
    yield outgoing
    await outgoing.close()


async def test_a_token_follows_redirects_within_a_site_only(
    outgoing: Outgoing, api: HttpApi
) -> None:
    with serve() as other:
        for target in (api, other):
            place = f"{api.url}/redirect?to={target.url}/echo"
            answer = await outgoing.send("x.y", "GET", place, headers=TOKEN, repeatable=True)
            assert answer.status == 200
    assert api.last.headers["authorization"] == "Bearer t"
    assert "authorization" not in other.last.headers


async def test_redirects_without_end(outgoing: Outgoing, api: HttpApi) -> None:
    answer = await outgoing.send(
        "x.y", "GET", f"{api.url}/redirect/50", headers={}, repeatable=True
    )
    assert answer.status == 302
    assert len(api.requests) == 10


@pytest.mark.parametrize("place", ["drop", "cut", "nonsense"])
async def test_connections_that_break(outgoing: Outgoing, api: HttpApi, place: str) -> None:
    url = f"{api.url}/{place}"
    with pytest.raises(TryAgain, match=r"OSError: x.y: "):
        await outgoing.send("x.y", "GET", url, headers={}, repeatable=True)
    with pytest.raises(CallError, match=r"x.y: "):  # it may have been done
        await outgoing.send("x.y", "POST", url, headers={}, body=b"", repeatable=False)
    assert len([one for one in api.requests if one.method == "POST"]) == 1


@pytest.mark.parametrize(
    ("status", "repeatable", "again", "expected"),
    [
        (429, False, None, True),
        (503, True, None, True),
        (503, False, None, False),
        (404, True, None, False),
        (503, True, False, False),
        (403, False, True, True),
    ],
)
def test_which_statuses_are_worth_another_attempt(
    status: int, repeatable: bool, again: bool | None, expected: bool
) -> None:
    error = refused(
        "x.y", status, "no\n good", [("Retry-After", "4")], again=again, repeatable=repeatable
    )
    assert isinstance(error, TryAgain) is expected
    assert f"x.y: HTTP {status}: no good" in str(error)
    if isinstance(error, TryAgain):
        assert error.retry_after == 4


def test_long_messages_are_cut() -> None:
    assert len(str(refused("x.y", 400, "word " * 1000, repeatable=False))) < 600


async def test_secrets_that_may_be_missing() -> None:
    secrets = KeptSecrets({"a": " value\n", "b": "hidden"}, refuse={"b"})
    for read in (secret_if_any, address_if_any):
        assert await read(secrets, "a") == "value"
        assert await read(secrets, "b") is None
        assert await read(secrets, "c") is None


class Plain(KeptSecrets):
    """Tells apart what is read as a secret and what is not."""

    def __init__(self, kept: dict[str, str]) -> None:
        super().__init__(kept)
        self.hidden: list[str] = []

    async def get(self, name: str) -> str:
        self.hidden.append(name)
        return await super().get(name)

    async def get_plain(self, name: str) -> str:
        return await super().get(name)


async def test_an_address_is_a_secret_only_with_a_password() -> None:
    secrets = Plain({"mail": "a@x.org", "url": "https://x.org", "both": "https://u:p@x.org"})
    for name in ("mail", "url", "both"):
        assert await address_if_any(secrets, name)
    assert secrets.hidden == ["both"]

"""The address guard on real connections: what a stricter task cannot reach, however it tries.

Names are faked by the `resolve` of `HttpService`, the documented seam. Nothing else is.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from sequential.core.model import Allow
from sequential.services.address_guard import Clearance, RefusedError
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.http import HttpService, HttpSettings
from support.http_api import HttpApi

HOME = ["127.0.0.1"]
Make = Callable[..., HttpService]


class Names:
    """A DNS: what each name is, answer by answer; the last one stays."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        await asyncio.sleep(0)
        return list(answers.pop(0) if len(answers) > 1 else answers[0])


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[HttpService] = []

    def make(names: Names | None = None, **settings: Any) -> HttpService:
        made.append(HttpService(HttpSettings(**settings), resolve=names))
        return made[-1]

    yield make
    for http in made:
        await http.close()


async def fetch(
    http: HttpService, url: str, hosts: Sequence[str] | None = None, **options: Any
) -> Any:
    allow = Allow(hosts=None if hosts is None else tuple(hosts))
    context = CallContext("run", "task", 0, 1, "key-1", allow)
    return await http.call("fetch", [url], options, context)


async def refusal(
    http: HttpService, url: str, hosts: Sequence[str] | None = None, **options: Any
) -> str:
    with pytest.raises(CallError) as error:
        await fetch(http, url, hosts, **options)
    assert (error.value.failure.type, error.value.failure.code) == ("PermissionError", "refused")
    return str(error.value)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.0.0.2"],
)
async def test_this_machine_is_not_reached(make: Make, http_api: HttpApi, host: str) -> None:
    said = await refusal(make(), f"http://{host}:{http_api.port}/json/1")
    assert said.startswith(
        f"GET http://{host}:{http_api.port}/json/1: ".replace(
            "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"
        )
    )
    assert not http_api.connections


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "①②⑦.0.0.1:1@127.1"]
)
async def test_odd_spellings_of_it_are_not_reached(
    make: Make, http_api: HttpApi, host: str
) -> None:
    http = make(allow_loopback=True)
    with pytest.raises(CallError, match=r"write 127\.0\.0\.1") as error:
        await fetch(http, f"http://{host}:{http_api.port}/json/1")
    assert error.value.failure.type == "ValueError"
    assert not http_api.connections


async def test_unicode_digits_are_the_address_they_look_like(make: Make, http_api: HttpApi) -> None:
    url = f"http://①②⑦。0。0。1:{http_api.port}/json/1"
    await refusal(make(), url)
    assert (await fetch(make(allow_loopback=True), url))["status"] == 200


async def test_what_a_name_resolves_to_counts(make: Make, http_api: HttpApi) -> None:
    names = Names(inner_example=[HOME], lan_example=[["10.0.0.1", "fd00::1"]])
    for host in ("inner.example", "lan.example"):
        said = await refusal(make(names), f"http://{host}:{http_api.port}/json/1")
        assert "10.0.0.1" not in said
    assert "a private address" in said
    assert not http_api.connections


async def test_only_the_permitted_addresses_of_a_name_are_tried(
    make: Make, http_api: HttpApi
) -> None:
    # A connection to any of the others would hang or fail.
    names = Names(mixed_example=[["10.255.255.1", "169.254.169.254", *HOME, "0.0.0.0"]])
    http = make(names, allow_loopback=True)
    url = f"http://mixed.example:{http_api.port}/json/1"
    assert (await fetch(http, url, timeout=5))["status"] == 200
    assert names.asked == ["mixed.example"]


async def test_a_host_named_in_full_may_be_here_one_with_a_wildcard_not(
    make: Make, http_api: HttpApi
) -> None:
    http = make(Names(api_inner_example=[HOME]))
    url = f"http://API.inner.example.:{http_api.port}/json/1"
    await refusal(http, url, ["*.inner.example"])
    await refusal(http, url, ["api.inner.example:1"])
    await refusal(http, url, ["*"])
    assert (await fetch(http, url, ["Api.Inner.Example."]))["status"] == 200
    assert (await fetch(http, url, [f"api.inner.example:{http_api.port}"]))["status"] == 200
    assert (await fetch(http, http_api.url + "/json/1", ["127.0.0.1"]))["status"] == 200


async def test_a_host_that_is_not_listed_is_not_even_resolved(make: Make) -> None:
    names = Names()
    said = await refusal(make(names), "https://secret-in-a-name.evil.example/", ["a.example"])
    assert "secret-in-a-name.evil.example:443 is not in the task's allow.hosts (a.example)" in said
    assert names.asked == []


async def test_redirects_are_checked_too(make: Make, http_api: HttpApi) -> None:
    names = Names(ok_example=[HOME], inner_example=[HOME], lan_example=[["10.0.0.1"]])
    http = make(names)
    start = f"http://ok.example:{http_api.port}/redirect?to="
    for there in (
        f"http://inner.example:{http_api.port}/json/1?token=secret",
        "http://lan.example/",
        f"http://127.0.0.1:{http_api.port}/json/1",
        f"//127.0.0.1:{http_api.port}/json/1",
        "http://169.254.169.254/latest/meta-data/",
        f"http://[::ffff:7f00:1]:{http_api.port}/json/1",
    ):
        for status in (301, 302, 303, 307, 308):
            said = await refusal(http, f"{start}{there}&status={status}", ["ok.example"])
            assert "it redirects to http://" in said
            assert "secret" not in said
    assert http_api.count("/json/1") == 0
    answer = await fetch(
        http, f"{start}http://inner.example:{http_api.port}/json/1", ["ok.example", "inner.example"]
    )
    assert answer["status"] == 200


async def test_a_redirect_to_a_forbidden_address_from_an_open_task(
    make: Make, http_api: HttpApi
) -> None:
    http = make(allow_loopback=True)
    said = await refusal(http, f"{http_api.url}/redirect?to=http://10.0.0.1/")
    assert "it redirects to http://10.0.0.1/, but 10.0.0.1 is a private address" in said


async def test_what_was_checked_is_what_is_connected_to(make: Make, http_api: HttpApi) -> None:
    """DNS that changes its mind: permitted when asked first, private ever after."""
    names = Names(rebind_example=[HOME, ["10.255.255.1"]])
    http = make(names, allow_loopback=True)
    url = f"http://rebind.example:{http_api.port}/json/1"
    assert (await fetch(http, url, timeout=5))["status"] == 200
    assert names.asked == ["rebind.example"]  # a second look would have got the other address

    await http.close()  # a new connection has to look again, and is refused
    await refusal(http, url)
    assert names.asked == ["rebind.example", "rebind.example"]
    assert http_api.count("/json/1") == 1


async def test_rebinding_in_the_other_direction(make: Make, http_api: HttpApi) -> None:
    names = Names(rebind_example=[["10.0.0.1"], HOME])
    http = make(names, allow_loopback=True)
    await refusal(http, f"http://rebind.example:{http_api.port}/json/1")
    assert not http_api.connections


async def test_rebinding_between_redirects_to_the_same_name(make: Make, http_api: HttpApi) -> None:
    names = Names(rebind_example=[HOME, ["10.0.0.1"]])
    http = make(names, allow_loopback=True)
    start = f"http://rebind.example:{http_api.port}"
    other = f"{start.replace('http', 'https')}/"  # another connection, another look
    await refusal(http, f"{start}/redirect?to={other}")


async def test_a_connection_of_a_freer_task_is_no_loophole(make: Make, http_api: HttpApi) -> None:
    """The pool is shared: a kept connection to this machine must not serve a stricter task."""
    names = Names(inner_example=[HOME])
    http = make(names)
    url = f"http://inner.example:{http_api.port}/json/1"
    for _ in range(3):
        await fetch(http, url, ["inner.example"])
    assert len({request.connection for request in http_api.requests}) == 1  # it is kept alive
    await refusal(http, url)
    await refusal(http, url, ["*.example"])
    await refusal(http, url, ["other.example"])
    assert len(http_api.requests) == 3
    assert (await fetch(http, url, ["inner.example"]))["status"] == 200


async def test_many_kept_connections_and_many_tasks_at_a_time(
    make: Make, http_api: HttpApi
) -> None:
    http = make(Names(inner_example=[HOME]))
    url = f"http://inner.example:{http_api.port}/slow/0.05"

    async def strict() -> str:
        return await refusal(http, url)

    free = [fetch(http, url, ["inner.example"]) for _ in range(10)]
    await asyncio.gather(*free)  # ten connections in the pool
    mixed = [strict() if n % 2 else fetch(http, url, ["inner.example"]) for n in range(20)]
    await asyncio.gather(*mixed)
    assert http_api.count("/slow/0.05") == 20


async def test_a_stricter_task_uses_the_public_address_of_the_same_name(
    make: Make, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name has an address inside and one outside; each task gets to where it may go."""
    outside = "127.0.0.2"  # any server here has an address of this machine, so call it public
    real = Clearance.permits
    monkeypatch.setattr(Clearance, "permits", lambda s, a: a == outside or real(s, a))
    http = make(Names(split_example=[HOME, [*HOME, outside]]))
    url = f"http://split.example:{http_api.port}/json/1"
    await fetch(http, url, ["split.example"])
    with pytest.raises(TryAgain, match="cannot connect"):  # nobody listens there
        await fetch(http, url)
    assert len(http_api.requests) == 1


async def test_there_is_no_dns_cache_to_poison(make: Make, http_api: HttpApi) -> None:
    names = Names(inner_example=[HOME])
    http = make(names)
    url = f"http://inner.example:{http_api.port}/drop"
    for _ in range(2):
        with pytest.raises(TryAgain):
            await fetch(http, url, ["inner.example"], method="POST")
        await refusal(http, url)
    assert len(names.asked) == 4


async def test_without_a_clearance_nothing_is_connected_to(http_api: HttpApi) -> None:
    from sequential.services.http_pool import Pool
    from sequential.services.http_request import request_from

    pool = Pool(HttpSettings(allow_private=True))
    request = request_from([f"{http_api.url}/json/1"], {}, timeout=5, idempotency_key="k")
    with pytest.raises(RefusedError):
        await pool.send(request, Clearance("other.example", None))
    with pytest.raises(RefusedError):
        await pool.send(request, Clearance("127.0.0.1", frozenset(("public",))))
    with pytest.raises(RefusedError):
        await pool._session.get(f"{http_api.url}/json/1")
    await pool.close()
    assert not http_api.connections

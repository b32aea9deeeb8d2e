"""How much a server takes."""

import httpx
import pytest

from sequential.runner.engine import Engine
from sequential.web.limits import MOST_SENDERS, Rate, sender_of
from sequential.web.settings import ServerSettings
from web.conftest import serving
from web.test_auth import bearer, from_peer

RUNS = "/api/v1/runs"


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_so_many_a_second() -> None:
    watch = Watch()
    rate = Rate(watch)

    assert [rate.wait("a", 10, 3) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    watch.now += 0.1
    assert rate.wait("a", 10, 3) == 0
    assert rate.wait("a", 10, 3) == pytest.approx(0.1)
    watch.now += 60
    assert [rate.wait("a", 10, 3) > 0 for _ in range(4)] == [False, False, False, True]


def test_senders_do_not_share_and_are_forgotten() -> None:
    rate = Rate(Watch())
    for number in range(MOST_SENDERS):
        rate.wait(str(number), 1, 1)

    assert rate.wait("0", 1, 1) > 0
    rate.wait("new", 1, 1)
    assert rate.wait("1", 1, 1) == 0
    assert len(rate._buckets) == MOST_SENDERS


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_who_counts_as_one(address: str, sender: str) -> None:
    assert sender_of(address) == sender


async def test_too_many_requests_have_to_wait(engine: Engine) -> None:
    settings = ServerSettings(rate=0.5, burst=3)
    async with from_peer(engine, "10.0.0.1", settings) as client:
        statuses = [(await client.get("/health")).status_code for _ in range(5)]
        last = await client.get("/nowhere")

    assert statuses == [200, 200, 200, 429, 429]
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) in {1, 2}
    assert last.json()["error"]["code"] == "rate_limited"


async def test_a_token_is_counted_wherever_it_is_used(engine: Engine) -> None:
    settings = ServerSettings(rate=0.5, burst=4, trusted_proxies=("10.0.0.1",))
    async with from_peer(engine, "10.0.0.1", settings) as client:
        headers = await bearer(engine)
        statuses = []
        for number in range(6):
            place = {"X-Forwarded-For": f"198.51.100.{number}"}
            statuses.append((await client.get(RUNS, headers={**headers, **place})).status_code)

    assert statuses == [200, 200, 200, 200, 429, 429]


async def test_this_machine_does_not_wait(engine: Engine) -> None:
    async with serving(engine, ServerSettings(rate=0.5, burst=1)) as client:
        assert {(await client.get(RUNS)).status_code for _ in range(10)} == {200}


async def test_addresses_and_headers_have_an_end(client: httpx.AsyncClient) -> None:
    long = await client.get(RUNS, params={"task": "x" * 9000})
    large = await client.get(RUNS, headers={"X-Large": "x" * 40_000})

    assert [long.status_code, large.status_code] == [414, 431]
    assert {answer.json()["error"]["code"] for answer in (long, large)} == {"too_large"}


async def test_the_size_of_a_body_is_the_operators_to_set(engine: Engine) -> None:
    task = {"code": "async def main():\n    return 1\n#" + "x" * 50_000}
    for largest, status in ((10_000, 413), (100_000, 201)):
        async with serving(engine, ServerSettings(largest_body=largest)) as client:
            answer = await client.put("/api/v1/tasks/large", json=task)
        assert answer.status_code == status


async def test_a_length_that_is_no_number(client: httpx.AsyncClient) -> None:
    for length in ("-1", "1e9", "9" * 40):
        answer = await client.post(RUNS, content=b"{}", headers={"Content-Length": length})
        assert 400 <= answer.status_code < 500

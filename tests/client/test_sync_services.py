"""Services on a server for programs that are not asynchronous."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sequential.client import ServiceError, sync_service_proxy
from sequential.client.sync_services import SyncServiceProxy
from sequential.errors import ConfigError
from support.live_services import TOKEN, live_services
from support.server_thread import QUICK


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("services"))
        with live_services() as address:
            yield address


@pytest.fixture
def crm(url: str) -> Iterator[SyncServiceProxy]:
    with sync_service_proxy("crm", base_url=url, token=TOKEN, retry=QUICK) as made:
        yield made


def threads() -> int:
    return sum(thread.name == "sequential" for thread in threading.enumerate())


def test_a_call_gives_its_result(crm: SyncServiceProxy) -> None:
    assert crm.users.list(customer="Ada") == ["Ada"]
    with pytest.raises(ServiceError, match="no such customer") as raised:
        crm.refuse()
    assert raised.value.code == "gone"


def test_chains_are_sent_by_empty_brackets(url: str) -> None:
    with sync_service_proxy("crm", base_url=url, token=TOKEN, dialect="chain") as crm:
        steps = crm.from_("x").select("*")()
        assert [step["property"] for step in steps] == ["from", "select"]
        assert crm.users.list("Ada")() == ["Ada"]
        with pytest.raises(ConfigError, match="only a name can be called"):
            crm.users()("x")


async def test_it_works_where_an_event_loop_is_running(crm: SyncServiceProxy) -> None:
    assert crm.users.list("Ada") == ["Ada"]


def test_several_threads_use_one_proxy(crm: SyncServiceProxy) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda number: crm.users.list(str(number)), range(30))
    assert [one for (one,) in found] == [str(number) for number in range(30)]


def test_it_leaves_nothing_behind(url: str) -> None:
    before = threads()
    forgotten = sync_service_proxy("crm", base_url=url, token=TOKEN)
    assert forgotten.users.list("Ada") == ["Ada"]
    assert threads() == before + 1
    del forgotten
    gc.collect()
    assert threads() == before
    with sync_service_proxy("crm", base_url=url, token=TOKEN) as closed:
        closed.users.list("Ada")
    assert threads() == before
    assert closed.users.list("Bob") == ["Bob"]  # it begins anew
    del closed
    gc.collect()
    assert threads() == before
    with sync_service_proxy("crm", base_url=url):
        assert threads() == before

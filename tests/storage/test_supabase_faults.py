"""A project that is away, busy or slow: nothing is done twice, and each error is one line."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.errors import (
    DocumentChangedError,
    LeaseLostError,
    RunExistsError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from sequential.storage.registry import create_adapter
from sequential.storage.supabase import SupabaseAdapter, create
from sequential.testing.storage_contract import LATER, NOW, SOON, new_call, new_run
from support.fault_proxy import FaultProxy
from support.supabase_gateway import Refusal
from support.supabase_project import SupabaseProject

Step = Callable[[SupabaseAdapter, TaskRun], Awaitable[Any]]


@pytest.fixture
async def proxy(supabase: SupabaseProject) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(supabase.gateway.socket) as proxy:
        yield proxy


@pytest.fixture
async def adapter(supabase: SupabaseProject, proxy: FaultProxy) -> AsyncIterator[SupabaseAdapter]:
    adapter = create(f"http://127.0.0.1:{proxy.port}", key=supabase.key)
    await adapter.init()
    yield adapter
    await adapter.close()


async def commit(adapter: SupabaseAdapter, run: TaskRun) -> None:
    step = Commit(evolve(run, turn=1), "token", (new_call(run, 0),), log="printed")
    await adapter.commit(step)
    assert [line.text for line in await adapter.get_log(run.id)] == ["printed"]
    assert len(await adapter.load_calls(run.id)) == 1


async def commit_the_end(adapter: SupabaseAdapter, run: TaskRun) -> None:
    end = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(end, "token", log="end"))
    assert await adapter.get_task_run(run.id) == end
    assert len(await adapter.get_log(run.id)) == 1


async def claim(adapter: SupabaseAdapter, run: TaskRun) -> None:
    claimed = await adapter.claim(run.id, "next", LATER, "2027")
    assert await adapter.get_task_run(run.id) == claimed


async def claim_due(adapter: SupabaseAdapter, run: TaskRun) -> None:
    (claimed,) = await adapter.claim_due("next", LATER, "2027", 5)
    assert claimed.id == run.id


async def create_run(adapter: SupabaseAdapter, run: TaskRun) -> None:
    made = await adapter.create_task_run(new_run(5))
    assert await adapter.get_task_run(made.id) == made
    with pytest.raises(RunExistsError):
        await adapter.create_task_run(made)


async def amend(adapter: SupabaseAdapter, run: TaskRun) -> None:
    old = await adapter._get(run.id)
    event = RunEvent("e", "approval", NOW)
    await adapter.amend(old, Amendment(evolve(old, events=(event,), answers=1)))
    assert (await adapter._get(run.id)).events == (event,)


async def append_log(adapter: SupabaseAdapter, run: TaskRun) -> None:
    await adapter.append_log(run.id, LogLine(NOW, "once"))
    assert len(await adapter.get_log(run.id)) == 1


async def delete_run(adapter: SupabaseAdapter, run: TaskRun) -> None:
    await adapter.release(run.id, "token")
    await adapter.delete_task_run(run.id)
    assert await adapter.query_task_runs() == []


async def delete_task(adapter: SupabaseAdapter, run: TaskRun) -> None:
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    await adapter.release(run.id, "token")
    assert await adapter.delete_task("my-task") == 1


async def delete_key(adapter: SupabaseAdapter, run: TaskRun) -> None:
    await adapter.set_keystore("name", "value")
    assert await adapter.delete_keystore("name")


async def use_documents(adapter: SupabaseAdapter, run: TaskRun) -> None:
    one = await adapter.put_document("tokens", "a", 1, if_version=0)
    two = await adapter.put_document("tokens", "a", 2)
    three = await adapter.put_document("tokens", "a", 3, if_version=2)
    assert [one.version, two.version, three.version] == [1, 2, 3]
    with pytest.raises(DocumentChangedError, match="tokens/a has version 3 now"):
        await adapter.put_document("tokens", "a", 4, if_version=2)
    assert await adapter.list_documents("tokens") == [three]
    assert await adapter.delete_document("tokens", "a") is True
    assert await adapter.delete_document("tokens", "a") is False
    await adapter.put_document("tokens", "b", 1)
    assert await adapter.prune_documents("tokens", "z") == 1
    assert await adapter.prune_documents("tokens", "z") == 0


STEPS: list[Step] = [
    *(commit, commit_the_end, claim, claim_due, create_run),
    *(amend, append_log, delete_run, delete_task, delete_key, use_documents),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_what_was_done_before_its_answer_was_lost_is_not_done_again(
    supabase: SupabaseProject, adapter: SupabaseAdapter, proxy: FaultProxy, step: Step
) -> None:
    run = await started(adapter)
    proxy.lose_answers = 1
    supabase.gateway.losses = [504]
    await step(adapter, run)
    assert (proxy.lose_answers, supabase.gateway.losses) == (0, [])


async def started(adapter: SupabaseAdapter) -> TaskRun:
    run = await adapter.create_task_run(new_run())
    return await adapter.claim(run.id, "token", NOW, SOON)


async def test_each_answer_of_many_steps_may_be_lost(
    supabase: SupabaseProject, adapter: SupabaseAdapter, proxy: FaultProxy
) -> None:
    run = await started(adapter)
    for number in range(8):
        proxy.lose_answers, proxy.lose_requests = number % 2, number // 2 % 2
        supabase.gateway.losses = [500, 502][: number // 4]
        call = new_call(run, number)
        run = evolve(run, turn=number + 1)
        await adapter.commit(Commit(run, "token", (call,), log=f"{number}"))
    assert [line.text for line in await adapter.get_log(run.id)] == [f"{n}" for n in range(8)]
    assert [call.sequence for call in await adapter.load_calls(run.id)] == [*range(8)]
    assert await adapter.get_task_run(run.id) == run


async def test_a_commit_that_was_late_does_not_count_when_the_lease_is_gone(
    supabase: SupabaseProject, adapter: SupabaseAdapter, proxy: FaultProxy
) -> None:
    run = await started(adapter)
    other = create(supabase.url, key=supabase.key)
    await other.init()
    proxy.is_refusing = True
    proxy.cut()
    late = asyncio.create_task(adapter.commit(Commit(evolve(run, turn=1), "token", log="late")))
    await other.claim(run.id, "other", LATER, "2027")
    proxy.is_refusing = False
    with pytest.raises(LeaseLostError):
        await late
    assert await other.get_log(run.id) == []
    await other.close()


async def test_postgrest_may_die_and_come_back(
    supabase: SupabaseProject, adapter: SupabaseAdapter
) -> None:
    run = await started(adapter)
    supabase.api.kill()
    step = asyncio.create_task(adapter.commit(Commit(evolve(run, turn=1), "token", log="on")))
    await several_requests(supabase)
    supabase.api.start()
    await step
    assert [line.text for line in await adapter.get_log(run.id)] == ["on"]


async def test_the_database_may_be_restarted(
    supabase: SupabaseProject, adapter: SupabaseAdapter
) -> None:
    run = await started(adapter)
    await adapter.commit(Commit(evolve(run, turn=1), "token", log="1"))
    supabase.postgres.stop()
    step = asyncio.create_task(adapter.commit(Commit(evolve(run, turn=2), "token", log="2")))
    await several_requests(supabase)
    supabase.postgres.start()
    await step
    assert [line.text for line in await adapter.get_log(run.id)] == ["1", "2"]


async def several_requests(supabase: SupabaseProject) -> None:
    """Return when some requests have been made, which failed."""
    wanted = supabase.gateway.requests + 3
    async with asyncio.timeout(10):
        while supabase.gateway.requests < wanted:
            await asyncio.sleep(0.01)


async def test_a_project_that_asks_for_a_pause_gets_it(
    supabase: SupabaseProject, adapter: SupabaseAdapter
) -> None:
    supabase.gateway.refusals = [
        Refusal(429, headers={"Retry-After": "1"}),
        Refusal(429, headers={"Retry-After": "soon"}),
    ]
    before = supabase.gateway.requests
    begin = time.monotonic()
    assert await adapter.list_keystore() == []
    assert time.monotonic() - begin >= 1
    assert supabase.gateway.requests - before == 3


async def test_a_project_that_is_busy_is_not_asked_for_ever(supabase: SupabaseProject) -> None:
    adapter = create(supabase.url, key=supabase.key, patience=0.5)
    await adapter.init()
    before = supabase.gateway.requests
    supabase.gateway.refusals = [Refusal(503, headers={"Retry-After": "3600"})] * 50
    with pytest.raises(StorageError, match=r"does not answer now \(not now\): try again"):
        await adapter.list_keystore()
    assert 2 <= supabase.gateway.requests - before <= 10
    supabase.gateway.refusals = []
    assert await adapter.list_keystore() == []
    await adapter.close()


async def test_a_project_may_be_busy_for_a_moment_when_it_is_opened(
    supabase: SupabaseProject,
) -> None:
    supabase.gateway.refusals = [Refusal(503), Refusal(429)]
    adapter = await create_adapter("supabase", url=supabase.url, key=supabase.key)
    await adapter.close()
    assert supabase.gateway.refusals == []


async def test_a_paused_project_is_not_waited_for(
    supabase: SupabaseProject, adapter: SupabaseAdapter
) -> None:
    supabase.gateway.refusals = [Refusal(540)]
    with pytest.raises(StorageError, match="is paused: restore the project in its dashboard"):
        await adapter.list_keystore()


async def test_a_silent_project_is_given_up(supabase: SupabaseProject, proxy: FaultProxy) -> None:
    adapter = create(f"http://127.0.0.1:{proxy.port}?timeout=0.3", key=supabase.key)
    await adapter.init()
    proxy.is_silent = True
    with pytest.raises(StorageError, match=r"did not answer within 0\.3 seconds"):
        await adapter.list_keystore()
    proxy.is_silent = False
    proxy.cut()
    assert await adapter.list_keystore() == []
    await adapter.close()


async def test_a_project_that_is_not_there_is_said_at_once(supabase: SupabaseProject) -> None:
    begin = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached: check SUPABASE_URL"):
        await create_adapter("supabase", url="http://127.0.0.1:9", key=supabase.key)
    assert time.monotonic() - begin < 2


async def test_a_host_that_does_not_exist_is_said(supabase: SupabaseProject) -> None:
    with pytest.raises(StorageError, match="SUPABASE_URL"):
        await create_adapter("supabase", url="https://no-such.invalid", key=supabase.key)


@pytest.fixture
def hurried_role(supabase: SupabaseProject) -> Iterator[None]:
    supabase.limit_role("200ms")
    yield
    supabase.limit_role("8s")


async def test_a_request_may_take_longer_than_the_role_of_the_api_allows(
    supabase: SupabaseProject, hurried_role: None, adapter: SupabaseAdapter
) -> None:
    with locked(supabase) as blocker:
        step = asyncio.create_task(adapter.set_keystore("name", "value"))
        await waiting_in(supabase, 1)
        await asyncio.sleep(0.4)
        blocker.rollback()
    await step


@pytest.fixture
def hurried_function(supabase: SupabaseProject) -> Iterator[None]:
    supabase.limit_function("200ms")
    yield
    supabase.limit_function("55s")


async def test_a_request_that_takes_too_long_is_not_tried_again(
    supabase: SupabaseProject, hurried_function: None, adapter: SupabaseAdapter
) -> None:
    with (
        locked(supabase),
        pytest.raises(StorageError, match="it took too long: give the database more power"),
    ):
        await adapter.set_keystore("name", "value")
    assert await adapter.list_keystore() == []


@contextlib.contextmanager
def locked(supabase: SupabaseProject) -> "Iterator[psycopg.Connection[Any]]":
    """A table that nobody else can use."""
    with supabase.connect() as blocker:
        blocker.autocommit = False
        blocker.execute("lock table sequential.keystore in access exclusive mode")
        yield blocker


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (
            Refusal(405, {"code": "25006", "message": "no"}),
            StorageReadOnlyError,
            "is read-only: no: see",
        ),
        (
            Refusal(503, {"code": "53100", "message": "full"}),
            StorageFullError,
            "full: make room for the",
        ),
        (
            Refusal(500, {"code": "54000", "message": "no"}),
            StorageError,
            "no: a value is too large",
        ),
        (Refusal(500, {"code": "XX000", "message": "odd"}), StorageError, "odd"),
        (Refusal(413, {"message": "too big"}), StorageError, "too big: a value is too large"),
        (
            Refusal(400, {"code": "22003", "message": "no"}),
            StorageError,
            "no: a number does not fit into",
        ),
        (
            Refusal(406, {"code": "PGRST106", "message": "no"}),
            StorageError,
            "expose the schema public in",
        ),
        (Refusal(400, {"code": 7, "message": None}), StorageError, "HTTP status 400"),
        (
            Refusal(302, {}, {"Location": "http://127.0.0.1:9/"}),
            StorageError,
            "HTTP status 302: correct SUPABASE_URL, there is no data API",
        ),
    ],
)
async def test_what_a_project_refuses_is_said_at_once_in_one_line(
    supabase: SupabaseProject,
    adapter: SupabaseAdapter,
    refusal: Refusal,
    kind: type[StorageError],
    message: str,
) -> None:
    supabase.gateway.refusals = [refusal]
    with pytest.raises(StorageError) as caught:
        await adapter.set_keystore("name", "value")
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["57P01", "40001", "40P01", "PGRST002", "PGRST003", "53300"])
async def test_what_passes_is_tried_again(
    supabase: SupabaseProject, adapter: SupabaseAdapter, code: str
) -> None:
    supabase.gateway.refusals = [Refusal(503, {"code": code, "message": "in a moment"})]
    assert await adapter.list_keystore() == []


async def test_closing_gives_leases_back_and_does_not_wait_for_a_project_that_is_away(
    supabase: SupabaseProject, proxy: FaultProxy
) -> None:
    adapter = create(f"http://127.0.0.1:{proxy.port}", key=supabase.key)
    await adapter.init()
    run = await started(adapter)
    await adapter.close()
    assert (await read(supabase, run.id)).lease_token is None

    await adapter.init()
    await adapter.claim(run.id, "token", NOW, SOON)
    proxy.is_refusing = True
    proxy.cut()
    begin = time.monotonic()
    await adapter.close()
    assert time.monotonic() - begin < 2
    assert (await read(supabase, run.id)).lease_token == "token"


async def read(supabase: SupabaseProject, run_id: str) -> TaskRun:
    adapter = create(supabase.url, key=supabase.key)
    await adapter.init()
    run = await adapter._get(run_id)
    await adapter.close()
    return run


async def test_a_forked_process_is_told_to_open_the_store_again(adapter: SupabaseAdapter) -> None:
    assert adapter._open
    adapter._open = adapter._open[0], os.getpid() + 1
    with pytest.raises(StorageError, match="forked from: open it again"):
        await adapter.list_keystore()
    adapter._open = adapter._open[0], os.getpid()


async def test_no_more_requests_are_under_way_than_the_pool_allows(
    supabase: SupabaseProject,
) -> None:
    adapter = create(f"{supabase.url}?pool=2", key=supabase.key)
    await adapter.init()
    with locked(supabase) as blocker:
        waiting = [asyncio.create_task(adapter.list_keystore()) for _ in range(6)]
        assert await waiting_in(supabase, 2) == 2
        blocker.rollback()
    assert await asyncio.gather(*waiting) == [[]] * 6
    await adapter.close()


async def waiting_in(supabase: SupabaseProject, wanted: int) -> int:
    """How many statements wait for a lock, once it is so many."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    with supabase.connect("postgres") as connection:
        async with asyncio.timeout(10):
            while (row := connection.execute(query).fetchone()) and row[0] < wanted:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # more might come
        row = connection.execute(query).fetchone()
    assert row
    return int(row[0])

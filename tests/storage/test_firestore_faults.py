"""What happens when the service fails, answers late, or refuses; and how the errors read."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from sequential.core.model import Commit, LogLine, TaskConfig, TaskFunction, evolve
from sequential.errors import (
    ConfigError,
    DamagedRunError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from sequential.storage import firestore_parts
from sequential.storage.firestore import FirestoreAdapter
from sequential.storage.firestore_place import Place
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.firestore_server import Code, FirestoreServer, Refused
from support.killing import RUN, commits

_numbers = itertools.count()
LARGE = {"text": "ä" * 2_500_000}  # more than one commit carries


@pytest.fixture(scope="module")
def shared() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture
def server(shared: FirestoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FirestoreServer]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", shared.address)
    quiet = shared.on_call
    yield shared
    shared.on_call = quiet


def new_place() -> Place:
    return Place("demo", "(default)", f"faults{next(_numbers)}")


@pytest_asyncio.fixture
async def adapter(server: FirestoreServer) -> AsyncIterator[FirestoreAdapter]:
    adapter = FirestoreAdapter(new_place(), patience=0.3)
    await adapter.init()
    yield adapter
    await adapter.close()


class Fault:
    """Lets one request fail, before or after it is done: the `number`-th of these methods."""

    def __init__(self, number: int, code: Any, *, done: bool) -> None:
        self.number = number
        self.count = 0
        self._code, self._done = code, done

    def __call__(self, method: str, request: Any, done: bool) -> None:
        if done is self._done:
            self.count += 1
            if self.count == self.number:
                raise Refused(self._code, "injected")


async def life(adapter: FirestoreAdapter) -> Any:
    """Most of what a store does, and what is there at the end."""
    function = TaskFunction("my-task", "1", TaskConfig("my-task"))
    await adapter.store_task_function(function)
    await adapter.set_keystore("key", "value")
    await adapter.put_document("tokens", "b", "one", if_version=0)
    await adapter.put_document("tokens", "b", "two")
    await adapter.put_document("tokens", "b", "three", if_version=2)
    await adapter.put_document("tokens", "c", "deleted")
    assert await adapter.delete_document("tokens", "c") is True
    await adapter.create_task_run(RUN)
    claimed = await adapter.claim(RUN.id, "token", NOW, SOON)
    await adapter.renew(RUN.id, "token", LATER)
    for commit in commits(claimed):
        await adapter.commit(commit)
    await adapter.append_log(RUN.id, LogLine(LATER, "later"))
    answered = await adapter.answer(RUN.id, None, SOON)
    other = await adapter.create_task_run(new_run(id=RUN.id[:-1] + "2"))
    assert await adapter.wakeups(LATER) == [other.id, RUN.id]
    await adapter.delete_task_run(other.id)
    assert await adapter.delete_keystore("key") is True
    calls = await adapter.query_stack_runs(task_run_id=RUN.id)
    snapshot = await adapter.get_snapshot(RUN.id)
    everything = await adapter.query_task_runs()
    documents = await adapter.list_documents("tokens")
    return answered, calls, snapshot, await adapter.get_log(RUN.id), everything, documents


@pytest.mark.parametrize(
    ("code", "done"),
    [
        (Code.ABORTED, False),
        (Code.UNAVAILABLE, False),
        (Code.UNAVAILABLE, True),
        (Code.DEADLINE_EXCEEDED, True),
        (Code.INTERNAL, True),
        (Code.RESOURCE_EXHAUSTED, False),
    ],
)
async def test_a_request_that_fails_once_changes_nothing_about_the_outcome(
    server: FirestoreServer, code: Any, done: bool
) -> None:
    async def lived() -> Any:
        adapter = FirestoreAdapter(new_place())
        await adapter.init()
        result = await life(adapter)
        await adapter.close()
        return result

    server.on_call = counting = Fault(0, code, done=done)
    expected = await lived()
    assert counting.count > 25
    for number in range(1, counting.count + 1):
        server.on_call = fault = Fault(number, code, done=done)
        assert await lived() == expected, number
        assert fault.count > number


async def test_an_answer_that_is_lost_does_not_hide_who_was_first(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    server.on_call = Fault(1, Code.UNAVAILABLE, done=True)
    run = await adapter.create_task_run(new_run())
    with pytest.raises(RunExistsError):
        await adapter.create_task_run(run)
    server.on_call = Fault(2, Code.UNAVAILABLE, done=True)
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    with pytest.raises(RunBusyError):
        await adapter.claim(run.id, "another", NOW, SOON)
    server.on_call = Fault(1, Code.DEADLINE_EXCEEDED, done=True)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),), log="x"))
    assert len(await adapter.get_log(run.id)) == 1


async def test_a_claim_that_is_cancelled_is_given_back(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def arrive(method: str, request: Any, done: bool) -> None:
        if method == "Commit" and not done:
            loop.call_soon_threadsafe(arrived.set)

    server.on_call = arrive
    claiming = asyncio.ensure_future(adapter.claim(run.id, "token", NOW, LATER))
    await arrived.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    for _ in range(200):
        stored = await adapter.get_task_run(run.id)
        if stored and stored.started_at and stored.lease_token is None:
            break
        await asyncio.sleep(0.01)
    await adapter.claim(run.id, "another", NOW, LATER)


async def test_a_service_that_comes_back_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FirestoreServer()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", first.address)
    adapter = FirestoreAdapter(new_place())
    await adapter.init()
    run = await adapter.create_task_run(new_run())
    first.close()
    claiming = asyncio.ensure_future(adapter.claim(run.id, "token", NOW, SOON))
    await asyncio.wait([claiming], timeout=0.3)
    assert not claiming.done()
    second = FirestoreServer(first.documents, int(first.address.rpartition(":")[2]))
    assert (await claiming).lease_token == "token"
    await adapter.close()
    second.close()


# --- what does not pass by itself ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Code.UNAUTHENTICATED, "application-default login"),
        (Code.PERMISSION_DENIED, "roles/datastore.user"),
        (Code.NOT_FOUND, "gcloud firestore databases create"),
        (Code.RESOURCE_EXHAUSTED, "quota"),
        (Code.DEADLINE_EXCEEDED, "did not answer in time"),
        (Code.ABORTED, "at once"),
        (Code.UNAVAILABLE, "no Firestore emulator answers at"),
        (Code.INVALID_ARGUMENT, "refuses: INVALID_ARGUMENT"),
    ],
)
async def test_an_error_says_what_to_do_in_one_line(
    server: FirestoreServer, adapter: FirestoreAdapter, code: Any, text: str
) -> None:
    def refuse(method: str, request: Any, done: bool) -> None:
        raise Refused(code, "as\n injected")

    server.on_call = refuse
    for attempt in (adapter.get_task_run(RUN.id), adapter.set_keystore("a", "b")):
        with pytest.raises(StorageError) as caught:
            await attempt
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_an_emulator_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    with pytest.raises(StorageError, match=r"answers at 127\.0\.0\.1:1: start it"):
        await create_adapter("firestore://demo", patience=0.1)


async def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    with pytest.raises(StorageError, match="needs credentials: run `gcloud auth"):
        await create_adapter("firestore://demo")


async def test_a_missing_index_is_named(server: FirestoreServer) -> None:
    adapter = FirestoreAdapter(new_place())
    await adapter.init()
    declared, server._indexes = server._indexes, set()
    try:
        with pytest.raises(StorageError, match=r"lacks an index: deploy docs/firestore.indexes"):
            await adapter.wakeups(NOW, tasks=["a"])
        assert await adapter.wakeups(NOW) == []
    finally:
        server._indexes = declared
        await adapter.close()


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("firestore://demo", ("demo", "(default)", "sequential")),
        ("firestore://demo/", ("demo", "(default)", "sequential")),
        ("firestore://demo/flows", ("demo", "(default)", "flows")),
        ("firestore://demo/teams/one/flows", ("demo", "(default)", "teams/one/flows")),
        ("firestore://demo?database=second", ("demo", "second", "sequential")),
        ("firestore:demo", ("demo", "(default)", "sequential")),
        ("firestore:", ("surroundings", "(default)", "sequential")),
    ],
)
async def test_an_address_names_project_collection_and_database(
    server: FirestoreServer,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
    place: tuple[str, str, str],
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "surroundings")
    adapter = await create_adapter(location)
    await adapter.set_keystore("key", "value")
    project, database, prefix = place
    above, _, last = prefix.rpartition("/")
    start = f"projects/{project}/databases/{database}/documents/{above}{above and '/'}"
    assert any(name.startswith(f"{start}{last}_keystore/") for name in server.documents)
    await adapter.delete_keystore("key")
    await adapter.close()


@pytest.mark.parametrize(
    "location",
    [
        "firestore://Not A Project/x",
        "firestore://demo/a/b",
        "firestore://demo/..",
        "firestore://demo/a//b",
        "firestore://demo/__x__",
        "firestore://demo/x?datbase=y",
    ],
)
async def test_an_address_that_makes_no_sense_is_refused(location: str) -> None:
    with pytest.raises(ConfigError):
        await create_adapter(location)


async def test_without_a_project_the_address_is_asked_for(
    server: FirestoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(ConfigError, match="set GOOGLE_CLOUD_PROJECT"):
        await create_adapter("firestore:")


# --- what is left over ---------------------------------------------------------------------------


def names(server: FirestoreServer, place: Place, kind: str) -> list[str]:
    return [name for name in server.documents if f"/{place.collection(kind)}/" in name]


async def test_a_commit_that_dies_on_its_way_leaves_nothing_for_long(
    server: FirestoreServer, adapter: FirestoreAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    before = dict(server.documents)

    def refuse(method: str, request: Any, done: bool) -> None:
        if method == "Commit" and any("_runs/" in write.update.name for write in request.writes):
            raise Refused(Code.PERMISSION_DENIED, "injected")

    server.on_call = refuse
    with pytest.raises(StorageError):
        await adapter.commit(Commit(evolve(claimed, turn=1, result=LARGE), "token"))
    assert len(names(server, adapter.place, "parts")) > 5
    server.on_call = lambda *_: None
    await firestore_parts.remove_left(adapter._connection)
    assert len(names(server, adapter.place, "parts")) > 5, "the commit may still come"
    monkeypatch.setattr(firestore_parts, "LEFT_AFTER", -1.0)
    other = FirestoreAdapter(adapter.place)
    await other.init()
    await other.close()
    assert server.documents == before
    await adapter.commit(Commit(evolve(claimed, turn=1, result=LARGE), "token"))
    assert (await adapter.get_task_run(run.id)) == evolve(claimed, turn=1, result=LARGE)


async def test_what_a_deleted_run_leaves_is_removed_by_the_next_who_opens(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run(input=LARGE))

    def refuse(method: str, request: Any, done: bool) -> None:
        if method == "RunQuery":
            raise Refused(Code.PERMISSION_DENIED, "injected")

    server.on_call = refuse
    with pytest.raises(StorageError):
        await adapter.delete_task_run(run.id)
    server.on_call = lambda *_: None
    assert await adapter.get_task_run(run.id) is None
    assert len(names(server, adapter.place, "parts")) > 5
    other = FirestoreAdapter(adapter.place)
    await other.init()
    await other.close()
    parts = names(server, adapter.place, "parts")
    assert [name.rpartition("/")[2][:8] for name in parts] == ["program-"]
    assert names(server, adapter.place, "left") == []


async def test_a_value_that_is_replaced_is_removed(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run(input=LARGE))
    call = await adapter.create_stack_run(new_call(run, 0, input=LARGE))
    await adapter.update_stack_run(call.id, input=1, result=LARGE)
    await adapter.update_stack_run(call.id, result=None)
    await adapter.update_task_run(run.id, input=None, result=LARGE)
    await adapter.update_task_run(run.id, result="small")
    assert len(names(server, adapter.place, "parts")) == 1  # the program
    await adapter.delete_task_run(run.id)
    with pytest.raises(RunNotFoundError):
        await adapter.delete_task_run(run.id)


async def test_a_damaged_document_is_told_of_and_hides_no_other(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    good = await adapter.create_task_run(new_run(0))
    bad = await adapter.create_task_run(new_run(1, input="x" * 100_000))
    [part] = [name for name in names(server, adapter.place, "parts") if bad.id in name]
    gone = server.documents.pop(part)
    with pytest.raises(DamagedRunError, match="its part cannot be read"):
        await adapter.get_task_run(bad.id)
    server.documents[part] = gone
    document = next(d for n, d in server.documents.items() if n.endswith("_runs/" + _name(bad.id)))
    document.fields["record"].string_value = "{"
    for attempt in (adapter.get_task_run(bad.id), adapter.claim(bad.id, "token", NOW, SOON)):
        with pytest.raises(DamagedRunError, match="its record cannot be read"):
            await attempt
    assert await adapter.query_task_runs() == [good]
    [line] = await adapter.damaged()
    assert bad.id in line


def _name(run_id: str) -> str:
    return "".join(f"{15 - int(c, 16):x}" if c != "-" else c for c in run_id)


# --- shapes of runs ------------------------------------------------------------------------------


async def test_a_thousand_calls_at_once_fit_and_are_delivered(adapter: FirestoreAdapter) -> None:
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    calls = [new_call(run, i, requested_turn=1) for i in range(1000)]
    run = evolve(run, turn=1)
    await adapter.commit(Commit(run, "token", tuple(calls)))
    assert await adapter.load_calls(run.id, 1) == calls
    for turn, first in enumerate(range(0, 1000, 250), 2):
        done = [
            delivered(call, turn, result="x" * 20_000) for call in calls[first : first + 250 : 2]
        ]
        run = evolve(run, turn=turn)
        await adapter.commit(Commit(run, "token", updated=tuple(done)))
        calls[first : first + 250 : 2] = done
    assert await adapter.query_stack_runs(task_run_id=run.id) == calls
    assert await adapter.load_calls(run.id, 5) == calls[1::2]
    assert await adapter.query_stack_runs(status="in_progress") == calls[1::2]


async def test_a_long_journal_and_a_long_log_keep_their_order(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    calls = [new_call(run, 0, requested_turn=1)]
    await adapter.commit(Commit(run := evolve(run, turn=1), "token", (calls[0],)))
    for turn in range(2, 500):
        calls[-1] = delivered(calls[-1], turn)
        calls.append(new_call(run, turn - 1, requested_turn=turn))
        run = evolve(run, turn=turn)
        step = Commit(run, "token", (calls[-1],), (calls[-2],), log=f"turn {turn} " + "." * 300)
        await adapter.commit(step)
    assert await adapter.query_stack_runs(task_run_id=run.id) == calls
    server.reset_counts()
    assert await adapter.load_calls(run.id, 499) == calls[-1:]
    assert server.counts["reads"] == 1
    log = [line.text.split()[1] for line in await adapter.get_log(run.id)]
    assert log == [str(turn) for turn in range(2, 500)]
    changed = await adapter.update_stack_run(calls[3].id, attempts=7)
    assert await adapter.get_stack_run(calls[3].id) == changed
    await adapter.delete_stack_run(calls[4].id)
    assert await adapter.get_stack_run(calls[4].id) is None
    await adapter.commit(Commit(evolve(run, turn=500), "token"))


async def test_an_error_and_a_task_of_any_size_are_kept(adapter: FirestoreAdapter) -> None:
    config = TaskConfig("my-task", "x" * 2_000_000)
    function = TaskFunction("my-task", "#" * 2_000_000, config, 1, NOW, NOW)
    assert await adapter.store_task_function(function) == function
    assert await adapter.list_task_functions() == [function]
    run = await adapter.create_task_run(new_run(code="#" * 2_000_000, config=config))
    call = new_call(run, 0, operation="x" * 2_000_000)
    await adapter.create_stack_run(call)
    run = await adapter.update_task_run(run.id, parent_run_id="x" * 1000, deadline="x" * 2_000_000)
    assert await adapter.get_task_run(run.id) == run
    assert await adapter.query_stack_runs(task_run_id=run.id) == [call]
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    with pytest.raises(LeaseLostError):
        await adapter.commit(Commit(claimed, "another"))
    with pytest.raises(StorageError, match="too long"):
        await adapter.set_keystore("key", "x" * 1_000_000)

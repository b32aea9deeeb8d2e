"""What every storage of flows keeps, on real servers."""

import asyncio
import collections
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.errors import (
    ConfigError,
    InvalidNameError,
    RunBusyError,
    RunNotFoundError,
    StorageError,
)
from sequential.flow import (
    FirestoreStepStorage,
    FolderStepStorage,
    RedisStepStorage,
    SQLStepStorage,
    StepStorage,
    create_flow_executor,
)
from sequential.flow.executor_storage import safe_name
from support.firestore_server import FirestoreServer
from support.postgres_server import PostgresServer, postgres_server
from support.step_storages import NAMES, SHARED, StorageOpener, opening
from support.valkey_server import shared_valkey

__all__ = ["shared_valkey"]

HOSTILE = [
    "../../etc/passwd",
    "a/b",
    ".",
    "..",
    "a:1",
    "a",
    "A",
    "__id__",
    "%2e%2e",
    "'; DROP TABLE executions; --",
    "ключ",
    "💥" * 60,
    "x" * 200,
    "x" * 199 + "y",
    "con",
    "*",
    "$1",
]
TREE: dict[str, Any] = {
    "text": 'quote " and \u0000 and 💥',
    "numbers": [1, -1.5, 1e300, 10**30],
    "$tagged": None,
    "nested": {"a": [{"b": []}]},
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def firestore_server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture
async def opened(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageOpener]:
    async for opener in opening(tmp_path, request):
        yield opener


@pytest.fixture(params=NAMES)
async def storage(opened: StorageOpener, request: pytest.FixtureRequest) -> StepStorage:
    return await opened(request.param)


async def test_what_was_stored_comes_back(storage: StepStorage) -> None:
    assert await storage.get("exec-1") is None

    assert await storage.swap("exec-1", None, {"step": 0, "driver": "a"}, (-1, {"input": TREE}))
    assert await storage.swap(
        "exec-1", {"step": 0, "driver": "a"}, {"step": 1}, (0, {"value": TREE})
    )

    assert await storage.get("exec-1") == {"step": 1}
    assert await storage.get_result("exec-1", -1) == {"input": TREE}
    assert await storage.get_result("exec-1", 0) == {"value": TREE}
    assert await storage.get_result("exec-1", 1) is None


async def test_the_five_methods_are_enough_to_use_it_by_hand(storage: StepStorage) -> None:
    await storage.set("exec-1", {"step": 0})
    await storage.set_result("exec-1", 0, {"n": 1})
    await storage.set_result("exec-1", 0, {"n": 2})
    await storage.set("exec-1", {"step": 1})

    assert await storage.get("exec-1") == {"step": 1}
    assert await storage.get_result("exec-1", 0) == {"n": 2}

    await storage.delete("exec-1")
    await storage.delete("exec-1")
    assert await storage.get("exec-1") is None
    assert await storage.get_result("exec-1", 0) is None


async def test_a_state_that_has_changed_is_not_replaced(storage: StepStorage) -> None:
    await storage.swap("exec-1", None, {"step": 0}, (-1, {"input": 1}))

    assert not await storage.swap("exec-1", None, {"step": 0, "late": 1}, (-1, {"input": 2}))
    assert not await storage.swap("exec-1", {"step": 7}, {"step": 8}, (0, {"late": 1}))
    assert not await storage.swap("never", {"step": 7}, {"step": 8}, (0, {"late": 1}))

    assert await storage.get("exec-1") == {"step": 0}
    assert await storage.get_result("exec-1", -1) == {"input": 1}
    assert await storage.get_result("exec-1", 0) is None
    assert await storage.get("never") is None


async def test_deleting_takes_all_results_with_it(storage: StepStorage) -> None:
    state: dict[str, Any] | None = None
    for step in range(5):
        new = {"step": step + 1}
        assert await storage.swap("exec-1", state, new, (step, {"n": step}))
        state = new
    await storage.swap("exec-2", None, {"step": 0}, (-1, {"input": "other"}))

    await storage.delete("exec-1")

    assert [await storage.get_result("exec-1", step) for step in range(-1, 6)] == [None] * 7
    assert await storage.get_result("exec-2", -1) == {"input": "other"}


async def test_ids_are_told_apart_whatever_they_hold(storage: StepStorage) -> None:
    for n, one in enumerate(HOSTILE):
        assert await storage.swap(one, None, {"step": 0, "n": n}, (-1, {"input": n})), one
    for n, one in enumerate(HOSTILE):
        assert await storage.swap(one, {"step": 0, "n": n}, {"step": 1, "n": n}, (0, {}))

    for n, one in enumerate(HOSTILE):
        assert await storage.get(one) == {"step": 1, "n": n}
        assert await storage.get_result(one, -1) == {"input": n}
    await storage.delete(HOSTILE[0])
    assert await storage.get(HOSTILE[1]) == {"step": 1, "n": 1}


@pytest.mark.parametrize("id", ["", "a\nb", "x" * 201, "\x00", 7, "\ud800"])
async def test_ids_that_cannot_be_shown_are_refused(id: Any, tmp_path: Path) -> None:
    flow = create_flow_executor(FolderStepStorage(tmp_path / "exec"))

    with pytest.raises(InvalidNameError, match="1 to 200 printable characters"):
        await flow.execute(lambda: iter(()), id)

    assert not (tmp_path / "exec").exists()


@pytest.mark.parametrize("name", SHARED)
async def test_of_many_that_swap_at_once_one_gets_on(name: str, opened: StorageOpener) -> None:
    """As claims are taken: what only the winner knows guards the result that it writes."""
    storages = [await opened(name) for _ in range(4)]
    state: dict[str, Any] | None = None
    for step in range(5):
        claimed = [{"step": step, "driver": n} for n in range(4)]
        swaps = [one.swap("exec-1", state, claimed[n]) for n, one in enumerate(storages)]
        done = await asyncio.gather(*swaps)
        assert sum(done) == 1
        winner = done.index(True)
        state = {"step": step + 1}
        swaps = [
            one.swap("exec-1", claimed[n], {**state, "by": n} if n != winner else state, (step, n))
            for n, one in enumerate(storages)
        ]

        assert await asyncio.gather(*swaps) == done
        assert await storages[0].get("exec-1") == state
        assert await storages[0].get_result("exec-1", step) == winner


async def test_a_whole_workflow_on_every_storage(storage: StepStorage) -> None:
    def workflow(input: Any) -> Any:
        seen = []
        for n in range(input["n"]):
            seen.append((yield {"__tool": ["api", "step", {"n": n, "all": TREE}]}))
            yield {"__save": True}
        return seen

    flow = create_flow_executor(storage, call=lambda category, name, given: given)
    paused = [await flow.execute(workflow, "exec-1", {"n": 3}) for _ in range(6)]
    result = await flow.execute(workflow, "exec-1")

    assert paused == [{"paused": "exec-1", "step": n} for n in range(6)]
    assert result == [{"n": n, "all": TREE} for n in range(3)]
    assert await storage.get("exec-1") is None


@pytest.mark.parametrize("name", [*SHARED, "custom"])
async def test_many_deliveries_at_once_perform_each_call_once(
    name: str, opened: StorageOpener
) -> None:
    performed: collections.Counter[int] = collections.Counter()
    results: list[Any] = []

    async def count(category: str, name: str, given: Any) -> Any:
        performed[given] += 1
        await asyncio.sleep(0)
        return given

    def workflow() -> Any:
        seen = []
        for n in range(8):
            seen.append((yield {"__tool": ["api", "count", n]}))
        return seen

    async def deliver(storage: StepStorage) -> None:
        flow = create_flow_executor(storage, call=count)
        step = 0
        while not results:
            try:
                result = await flow.execute(workflow, "flow", step=step)
            except (RunBusyError, RunNotFoundError):
                await asyncio.sleep(0)
                continue
            if isinstance(result, dict):
                step = result["step"]
            else:
                results.append(result)

    storages = [await opened(name) for _ in range(4)]
    await create_flow_executor(storages[0], call=count).execute(workflow, "flow")
    await asyncio.gather(*(deliver(storage) for storage in storages))

    assert results == [[*range(8)]]
    assert performed == dict.fromkeys(range(8), 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "firestore"])
async def test_results_of_several_megabytes(name: str, opened: StorageOpener) -> None:
    storage = await opened(name)
    flow = create_flow_executor(storage, call=lambda *request: "é" * 2_000_000)

    def workflow(given: Any) -> Any:
        first = yield {"__tool": ["api", "large", {"text": "x" * 100_000}]}
        yield {"__save": True}
        return len(first), len(given)

    await flow.execute(workflow, "large", "y" * 2_000_000)
    await flow.execute(workflow, "large")
    assert await flow.execute(workflow, "large") == (2_000_000, 2_000_000)


async def test_a_folder_keeps_nothing_of_a_process_that_died(tmp_path: Path) -> None:
    storage = FolderStepStorage(tmp_path)
    await storage.swap("exec-1", None, {"step": 0}, (-1, {}))
    for left in (tmp_path / "exec-1" / ".new-half", tmp_path / "exec-1" / "state.json.x.tmp"):
        left.write_text("half")
    (tmp_path / ".gone-half").mkdir()

    await storage.delete("exec-1")

    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


async def test_the_layouts_are_those_that_are_documented(
    opened: StorageOpener, tmp_path: Path
) -> None:
    def workflow() -> Any:
        yield {"__tool": ["api", "user", {"id": 1}]}
        yield {"__tool": ["api", "posts", {"id": 1}]}

    folder, redis, sqlite = [await opened(name) for name in ("folder", "redis", "sqlite")]
    for storage in (folder, redis, sqlite):
        flow = create_flow_executor(storage, call=lambda *request: {"name": "Ada"})
        await flow.execute(workflow, "exec-1")

    files = {file.name for file in (tmp_path / "exec" / "exec-1").iterdir()}
    assert files == {"state.json", "input.json", "step-0.json"}
    stored = json.loads((tmp_path / "exec" / "exec-1" / "step-0.json").read_text())
    assert stored["operation"] == "api.user"
    assert stored["result"] == {"name": "Ada"}
    assert isinstance(redis, RedisStepStorage)
    prefix = redis._prefix
    keys = sorted([key.decode() async for key in redis._client.scan_iter(f"{prefix}*")])
    assert keys == [f"{prefix}exec-1", f"{prefix}exec-1:-1", f"{prefix}exec-1:0"]
    assert isinstance(sqlite, SQLStepStorage)
    assert sqlite._connection
    rows = sqlite._connection.execute("SELECT id, step FROM executions").fetchall()
    assert rows == [("exec-1", 1)]
    rows = sqlite._connection.execute("SELECT exec_id, step FROM results ORDER BY step").fetchall()
    assert rows == [("exec-1", -1), ("exec-1", 0)]


async def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    storage = FolderStepStorage(tmp_path)
    await storage.set("exec-1", {"step": 0})
    (tmp_path / "exec-1" / "state.json").write_text('{"step": ')

    with pytest.raises(StorageError, match=r"state\.json is damaged"):
        await storage.get("exec-1")


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    storage = FolderStepStorage(tmp_path)
    await storage.set("exec-1", {"step": 0})
    (tmp_path / "secret").write_text('{"step": 3}')
    (tmp_path / "exec-1" / "step-0.json").symlink_to(tmp_path / "secret")

    with pytest.raises(StorageError, match="symbolic link"):
        await storage.get_result("exec-1", 0)


async def test_firestore_says_what_to_do_with_a_large_result(opened: StorageOpener) -> None:
    storage = await opened("firestore")
    assert isinstance(storage, FirestoreStepStorage)

    with pytest.raises(StorageError, match="store it elsewhere"):
        await storage.swap("exec-1", None, {"step": 0}, (0, {"text": "x" * 2_000_000}))

    assert await storage.get("exec-1") is None


async def test_sql_wants_a_connection_or_a_function() -> None:
    with pytest.raises(ConfigError, match="neither a DB-API connection nor a function"):
        SQLStepStorage("sqlite:flows.db")


@pytest.mark.parametrize("id", HOSTILE)
def test_names_are_safe_and_short(id: str) -> None:
    name = safe_name(id)

    assert len(name) <= 150
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_%~")
    assert not name.startswith("_")


def test_names_differ() -> None:
    assert len({safe_name(one) for one in HOSTILE}) == len(HOSTILE)
    assert safe_name("exec-1_b") == "exec-1_b"

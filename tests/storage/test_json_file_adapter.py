"""The adapter among the examples, written with the simple methods alone, keeps the contract."""

from pathlib import Path
from typing import Any

import pytest
from json_file_adapter import JsonFileAdapter

from sequential import Engine, Settings, Status, TaskConfig, create_adapter, register_adapter
from sequential.core.model import Amendment, Commit, evolve
from sequential.errors import LeaseLostError, RunChangedError, StorageError
from sequential.storage import registry
from sequential.testing.storage_contract import LATER, NOW, StorageContract, new_call, new_run

CODE = "async def add(input):\n    return input['a'] + input['b']\n"


async def opened(path: Path) -> JsonFileAdapter:
    adapter = JsonFileAdapter(str(path))
    await adapter.init()
    return adapter


class TestJsonFileAdapter(StorageContract):
    tells_others = True  # those in this process: it is for one

    @pytest.fixture
    def open_adapter(self, tmp_path: Path) -> Any:
        adapters: list[JsonFileAdapter] = []

        async def open_adapter() -> Any:
            if not adapters:
                adapters.append(await opened(tmp_path / "store.json"))
            return adapters[0]

        return open_adapter


async def test_what_it_wrote_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    adapter = await opened(tmp_path / "store.json")
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    call = new_call(run, 0)
    await adapter.commit(Commit(claimed, "token", (call,), log="printed"))
    again = await opened(tmp_path / "store.json")
    assert await again.get_task_run(run.id) == claimed
    assert await again.load_calls(run.id) == [call]
    assert [line.text for line in await again.get_log(run.id)] == ["printed"]


async def test_a_step_is_in_the_file_in_full_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    adapter = await opened(path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    before = path.read_bytes()
    asked, unknown = new_call(run, 0), new_call(run, 9)
    with pytest.raises(StorageError, match="there is no call"):
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (asked,), (unknown,)))
    with pytest.raises(LeaseLostError):
        await adapter.commit(Commit(evolve(claimed, turn=1), "another", (asked,)))
    with pytest.raises(RunChangedError):
        await adapter.amend(run, Amendment(evolve(run, turn=9)))
    assert path.read_bytes() == before
    assert await adapter.load_calls(run.id) == []
    assert await adapter.get_task_run(run.id) == claimed


async def test_an_engine_runs_tasks_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    register_adapter("json", JsonFileAdapter)
    settings = Settings(project=tmp_path, adaptor=f"json:{tmp_path}/store.json")
    async with Engine(settings=settings) as engine:
        await engine.store_task("add", CODE, TaskConfig("add"))
        run = await engine.run("add", {"a": 2, "b": 3})
        assert (run.status, run.value) == (Status.COMPLETED, 5)
    adapter = await create_adapter(f"json:{tmp_path}/store.json")
    assert await adapter.query_task_runs(status="completed") == [run]

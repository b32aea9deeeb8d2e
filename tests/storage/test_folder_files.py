"""What the folder looks like to a person, and what a person may do to it."""

import json
import os
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Commit, Snapshot, Status, TaskConfig, TaskFunction, evolve
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTaskError,
    RunBusyError,
    StorageError,
)
from sequential.storage import folder_inbox
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_inbox import Request
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import (
    LATER,
    NOW,
    SOON,
    answer,
    delivered,
    new_call,
    new_run,
)


@pytest.fixture
async def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FolderAdapter]:
    monkeypatch.chdir(tmp_path)
    adapter = FolderAdapter("tasks")
    yield adapter
    await adapter.close()


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return tmp_path / "tasks"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_nothing_is_created_before_something_is_stored(
    adapter: FolderAdapter, tasks: Path
) -> None:
    await adapter.init()
    assert await adapter.query_task_runs() == []
    assert await adapter.list_task_functions() == []
    assert await adapter.find_run_ids("") == []
    assert await adapter.damaged() == []
    assert not tasks.exists()


async def test_the_files_of_a_task_and_its_run(adapter: FolderAdapter, tasks: Path) -> None:
    await adapter.store_task_function(TaskFunction("my-task", "x = 1", TaskConfig("my-task")))
    run = await adapter.create_task_run(new_run(input={"text": "x" * 70_000}))
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    parked = evolve(claimed, turn=1, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    step = Commit(parked, "token", (new_call(run, 0),), snapshot=Snapshot(run.id, 1, b"x"))
    await adapter.commit(step)
    data = f"my-task/runs/run-{run.id}.data"
    (payload,) = [name for name in names(tasks) if name.startswith(data)]
    assert re.fullmatch(r"run-input-[0-9a-f]{16}\.json", payload.removeprefix(data + "/"))
    assert names(tasks) == sorted(
        [
            "my-task/code.py",
            "my-task/config.json",
            "my-task/meta.json",
            payload,
            f"my-task/runs/run-{run.id}.journal",
            f"my-task/runs/run-{run.id}.json",
            f"my-task/runs/run-{run.id}.snapshot",
        ]
    )
    view = (tasks / f"my-task/runs/run-{run.id}.json").read_text()
    assert view.startswith(f'{{\n  "id": "{run.id}",\n  "task_identifier": "my-task"')
    shown = json.loads(view)
    assert shown["status"] == "suspended"
    assert shown["code"] == run.code
    assert [call["operation"] for call in shown["waiting_for"]] == ["http.fetch"]
    journal = (tasks / f"my-task/runs/run-{run.id}.journal").read_bytes()
    assert shown["journal"] == {"bytes": len(journal), "turn": 1}


async def test_the_journal_is_lines_of_json_that_end_in_a_checksum(
    adapter: FolderAdapter, tasks: Path
) -> None:
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    call = new_call(run, 0)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,), log="hello"))
    done = delivered(call, 2, updated_at=call.updated_at)
    await adapter.commit(Commit(evolve(claimed, turn=2, updated_at=SOON), "token", (), (done,)))
    text = (tasks / f"my-task/runs/run-{run.id}.journal").read_bytes()
    lines = text.splitlines(keepends=True)
    for line in lines:
        body, check = line.split(b',"crc":"')
        assert check == f'{zlib.crc32(body):08x}"}}\n'.encode()
    created, claim, asked, answered = [json.loads(line) for line in lines]
    assert created["created"]["code"] == run.code
    assert created["format"] == 2
    assert set(claim["run"]) >= {"status", "lease_token", "lease_until", "started_at"}
    assert asked["run"] == {"turn": 1}
    assert asked["log"] == "hello"
    assert [asked["id"] for asked in asked["requested"]] == [call.id]
    assert answered["run"] == {"turn": 2, "updated_at": SOON}
    assert (answered["at"], answered["turn"]) == (SOON, 2)
    (changes,) = answered["updated"]
    assert changes == {
        "sequence": 0,
        "status": "completed",
        "result": {"status": 200},
        "attempts": 1,
        "duration": 0.25,
        "delivered_turn": 2,
        "delivered_order": 0,
        "delivered_at": NOW,
    }


async def test_a_file_by_hand_is_a_task(adapter: FolderAdapter, tasks: Path) -> None:
    for name in ("by-hand", "1st", ".hidden", "empty", "con", "with space"):
        (tasks / name).mkdir(parents=True)
        if name != "empty":
            (tasks / name / "code.py").write_text("x = 1\n")
    (tasks / "file").write_text("")
    (function,) = await adapter.list_task_functions()
    assert function.identifier == "by-hand"
    assert function.config == TaskConfig("by-hand")
    assert function.version == 1
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z", function.created_at)
    assert await adapter.get_task_function("empty") is None
    stored = await adapter.store_task_function(evolve(function, updated_at=LATER))
    assert stored.version == 1
    assert await adapter.get_task_function("by-hand") == stored
    meta = json.loads((tasks / "by-hand/meta.json").read_text())
    assert meta == {"created": function.created_at, "updated": LATER, "version": 1}


async def test_a_javascript_task_is_kept_under_its_name(
    adapter: FolderAdapter, tasks: Path
) -> None:
    function = TaskFunction("js", "1", TaskConfig("js"), 1, NOW, NOW, "code.js")
    await adapter.store_task_function(function)
    assert await adapter.get_task_function("js") == function
    assert (tasks / "js/code.js").read_text() == "1"
    for filename in ("../x.py", "config.json", "a/b.py", ""):
        with pytest.raises(InvalidNameError):
            await adapter.store_task_function(evolve(function, filename=filename))


BAD_CONFIGS = {
    '{"name": "a", "descripton": ""}': r"contains unknown field `descripton` - at `\$`",
    '{"description": "x"}': r"missing required field `name` - at `\$`",
    '{"name": "a", "inputs": [{"name": 1}]}': r"Expected `str`.* - at `\$.inputs\[0\].name`",
    '{"name": "a",}': r"malformed.*\(byte 13\)",
    '{"name": "a"': r"truncated \(byte 12\)",
    "": r"truncated \(byte 0\)",
    b'{"name": "\xff"}': r"not UTF-8 text \(byte 10\)",
}


@pytest.mark.parametrize("text", BAD_CONFIGS)
async def test_a_mistake_in_a_config_is_shown_with_its_place(
    adapter: FolderAdapter, tasks: Path, text: str | bytes
) -> None:
    for name in ("bad", "good"):
        (tasks / name).mkdir(parents=True)
        (tasks / name / "code.py").write_text("x = 1\n")
    config = tasks / "bad/config.json"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=BAD_CONFIGS[text]) as caught:
        await adapter.get_task_function("bad")
    assert str(caught.value).startswith("tasks/bad/config.json: ")
    assert "correct it, or delete the file" in str(caught.value)
    assert [task.identifier for task in await adapter.list_task_functions()] == ["good"]
    assert await adapter.damaged() == [str(caught.value)]


async def test_other_files_of_a_task_can_be_wrong_too(adapter: FolderAdapter, tasks: Path) -> None:
    (tasks / "bad").mkdir(parents=True)
    (tasks / "bad/code.py").write_bytes(b"x = '\xe4'")
    with pytest.raises(InvalidTaskError, match=r"tasks/bad/code\.py is not UTF-8 text \(byte 5\)"):
        await adapter.get_task_function("bad")
    (tasks / "bad/code.py").write_text("x = 1")
    for meta, problem in (("[]", "Expected"), ('{"program": "../x.py"}', "`$.program`")):
        (tasks / "bad/meta.json").write_text(meta)
        with pytest.raises(ConfigError, match=re.escape(problem)):
            await adapter.get_task_function("bad")


async def test_a_change_of_directory_does_not_move_the_folder(
    adapter: FolderAdapter, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = await adapter.create_task_run(new_run())
    assert (tasks / f"my-task/runs/run-{run.id}.journal").exists()


async def test_links_out_of_the_folder_are_not_followed(
    adapter: FolderAdapter, tasks: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    other = FolderAdapter(outside)
    await other.store_task_function(TaskFunction("stolen", "secret", TaskConfig("stolen")))
    run = await other.create_task_run(new_run(task_identifier="stolen"))
    await other.close()
    tasks.mkdir()
    (tasks / "stolen").symlink_to(outside / "stolen")
    (tasks / "half").mkdir()
    (tasks / "half/code.py").symlink_to(outside / "stolen/code.py")
    (tasks / "half/runs").symlink_to(outside / "stolen/runs")
    before = names(outside)
    assert await adapter.query_task_runs() == []
    assert await adapter.get_task_run(run.id) is None
    assert await adapter.get_task_function("stolen") is None
    with pytest.raises(StorageError, match=r"tasks/half/code\.py is a symbolic link"):
        await adapter.get_task_function("half")
    for attempt in (
        adapter.create_task_run(new_run(1, task_identifier="half")),
        adapter.create_task_run(new_run(2, task_identifier="stolen")),
        adapter.store_task_function(TaskFunction("stolen", "x", TaskConfig("stolen"))),
    ):
        with pytest.raises(StorageError, match=r"leads out of tasks, which is not followed"):
            await attempt
    assert names(outside) == before


async def test_linked_files_of_a_run_are_not_followed(
    adapter: FolderAdapter, tasks: Path, tmp_path: Path
) -> None:
    run = await adapter.create_task_run(new_run())
    kept = await adapter.create_task_run(new_run(1))
    journal = tasks / f"my-task/runs/run-{run.id}.journal"
    secret = tmp_path / "secret"
    journal.rename(secret)
    journal.symlink_to(secret)
    before = secret.read_bytes()
    for attempt in (adapter.claim(run.id, "t", NOW, SOON), adapter.get_task_run(run.id)):
        with pytest.raises(StorageError, match="is a symbolic link, which is not followed"):
            await attempt
    assert await adapter.query_task_runs() == [kept]
    (report,) = await adapter.damaged()
    assert f"run-{run.id}.journal is a symbolic link" in report
    assert secret.read_bytes() == before
    view = tasks / f"my-task/runs/run-{kept.id}.json"
    view.unlink()
    view.symlink_to(secret)
    with pytest.raises(StorageError, match=r"\.json is a symbolic link"):
        await adapter.get_task_run(kept.id)


async def test_a_linked_data_folder_is_not_written_to(
    adapter: FolderAdapter, tasks: Path, tmp_path: Path
) -> None:
    run = await adapter.create_task_run(new_run())
    (tmp_path / "outside").mkdir()
    (tasks / f"my-task/runs/run-{run.id}.data").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="leads out of tasks"):
        await adapter.update_task_run(run.id, result="x" * 70_000)
    assert names(tmp_path / "outside") == []


async def test_a_task_linked_within_the_folder_is_one(adapter: FolderAdapter, tasks: Path) -> None:
    (tasks / "shared").mkdir(parents=True)
    (tasks / "shared/code.py").write_text("x = 1")
    (tasks / "alias").symlink_to("shared")
    found = [task.identifier for task in await adapter.list_task_functions()]
    assert found == ["alias", "shared"]


async def test_a_journal_of_a_newer_version_is_left_alone(
    adapter: FolderAdapter, tasks: Path
) -> None:
    run = await adapter.create_task_run(new_run())
    journal = tasks / f"my-task/runs/run-{run.id}.journal"
    body = journal.read_bytes().rpartition(b',"crc"')[0].replace(b'"format":2', b'"format":9')
    journal.write_bytes(b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body)))
    (tasks / f"my-task/runs/run-{run.id}.json").unlink()
    with pytest.raises(StorageError, match="written by a newer version"):
        await adapter.get_task_run(run.id)
    assert len(await adapter.damaged()) == 1


async def test_a_journal_of_the_first_format_is_read_and_goes_on(
    adapter: FolderAdapter, tasks: Path
) -> None:
    run = await adapter.create_task_run(new_run())
    journal = tasks / f"my-task/runs/run-{run.id}.journal"
    body = journal.read_bytes().rpartition(b',"crc"')[0].replace(b'"format":2', b'"format":1')
    journal.write_bytes(b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body)))
    (tasks / f"my-task/runs/run-{run.id}.json").unlink()
    assert await adapter.get_task_run(run.id) == run
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),)))
    await adapter.answer(run.id, answer(1), NOW)
    await adapter.delete_stack_run(f"{run.id}:0")
    formats = [json.loads(line).get("format") for line in journal.read_bytes().splitlines()]
    assert formats == [1, None, None, 2, 2]  # what a program of the first would not understand
    (tasks / f"my-task/runs/run-{run.id}.json").unlink()
    reader = FolderAdapter("tasks")
    found = await reader.get_task_run(run.id)
    assert found
    assert (found.turn, found.answers, found.events) == (1, 1, (answer(1),))
    assert await reader.load_calls(run.id) == []
    await reader.close()


async def test_nothing_of_a_deleted_run_is_left(adapter: FolderAdapter, tasks: Path) -> None:
    run = await adapter.create_task_run(new_run(input={"text": "x" * 70_000}))
    kept = await adapter.create_task_run(new_run(1))
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    await adapter.store_snapshot(Snapshot(run.id, 0, b"state"))
    for one in (run, kept):
        folder_inbox.post(adapter.places.existing(one.id), Request(one.id, NOW))
    with pytest.raises(RunBusyError):
        await adapter.delete_task_run(run.id)
    assert await adapter.get_task_run(run.id)
    await adapter.release(run.id, "token")
    folder_inbox.post(adapter.places.existing(run.id), Request(run.id, NOW))
    assert claimed.id == run.id
    await adapter.delete_task_run(run.id)
    left = [path.name for path in tasks.rglob("run-*")]
    assert len(left) == 3
    assert all(name.startswith(f"run-{kept.id}.") for name in left)


async def test_a_damaged_run_can_be_deleted(adapter: FolderAdapter, tasks: Path) -> None:
    run = await adapter.create_task_run(new_run())
    (tasks / f"my-task/runs/run-{run.id}.journal").write_bytes(b"?\n")
    assert len(await adapter.damaged()) == 1
    await adapter.delete_task_run(run.id)
    assert await adapter.damaged() == []


async def test_a_run_can_be_carried_to_another_folder(
    adapter: FolderAdapter, tasks: Path, tmp_path: Path
) -> None:
    run = await adapter.create_task_run(new_run(input={"text": "x" * 70_000}))
    await adapter.create_stack_run(call := new_call(run, 0))
    target = tmp_path / "others" / "any-task" / "runs"
    target.parent.mkdir(parents=True)
    os.rename(tasks / "my-task/runs", target)
    other = FolderAdapter(tmp_path / "others")
    assert await other.get_task_run(run.id) == run
    assert (await other.claim(run.id, "t", NOW, SOON)).input == run.input
    assert await other.load_calls(run.id) == [call]
    await other.close()


async def test_a_view_of_another_run_is_noticed(adapter: FolderAdapter, tasks: Path) -> None:
    one, two = [await adapter.create_task_run(new_run(i)) for i in range(2)]
    runs = tasks / "my-task/runs"
    (runs / f"run-{one.id}.json").write_bytes((runs / f"run-{two.id}.json").read_bytes())
    with pytest.raises(StorageError, match=f"is {two.id}: it belongs to another run"):
        await adapter.get_task_run(one.id)


@pytest.mark.parametrize("data", [b"", b"x", b"\n", b"12", b"-1\nx", b'{"turn":1,"journal":{}}\nx'])
async def test_a_snapshot_that_cannot_be_read_is_no_snapshot(
    adapter: FolderAdapter, tasks: Path, data: Any
) -> None:
    run = await adapter.create_task_run(new_run())
    path = tasks / f"my-task/runs/run-{run.id}.snapshot"
    path.write_bytes(data)
    assert await adapter.get_snapshot(run.id) is None
    path.unlink()
    path.mkdir()
    assert await adapter.get_snapshot(run.id) is None


async def test_text_that_is_not_unicode_is_refused_and_changes_nothing(
    adapter: FolderAdapter,
) -> None:
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    for attempt in (
        adapter.commit(Commit(evolve(claimed, turn=1), "token", log="\ud800")),
        adapter.commit(Commit(evolve(claimed, result={"a": "\ud800"}), "token")),
        adapter.create_task_run(new_run(1, code="'\ud800'")),
    ):
        with pytest.raises(Exception, match="half of a surrogate pair at position"):
            await attempt
    assert await adapter.query_task_runs() == [claimed]
    await adapter.commit(Commit(evolve(claimed, turn=1), "token"))
    with pytest.raises(InvalidTaskError, match="surrogate"):
        await adapter.store_task_function(TaskFunction("x", "\ud800", TaskConfig("x")))


async def test_a_large_value_is_not_written_again_when_it_stays(
    adapter: FolderAdapter, tasks: Path
) -> None:
    run = await adapter.create_task_run(new_run(input="x" * 100_000))
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    call = new_call(run, 0, input="y" * 100_000)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))
    data = tasks / f"my-task/runs/run-{run.id}.data"
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    assert len(before) == 2
    step = Commit(evolve(claimed, turn=2), "token", updated=(delivered(call, 2, result="z"),))
    await adapter.commit(step)
    assert {path.name: path.stat().st_mtime_ns for path in data.iterdir()} == before
    assert (tasks / f"my-task/runs/run-{run.id}.journal").stat().st_size < 5000


async def test_a_graph_is_a_file_of_its_own_with_its_keys_in_order(tmp_path: Path) -> None:
    graph = '{"initial": "b", "states": {"b": {"onDone": "a"}, "a": {"type": "final"}}}\n'
    adapter = await create_adapter(f"folder:{tmp_path}")
    config = TaskConfig(name="flow", graph=graph)
    stored = await adapter.store_task_function(TaskFunction("flow", "def b(): pass\n", config))
    assert (tmp_path / "flow" / "graph.json").read_text() == graph
    assert "graph" not in (tmp_path / "flow" / "config.json").read_text()
    found = await adapter.get_task_function("flow")
    assert found
    assert found.config == config
    changed = graph.replace("final", "parallel")
    (tmp_path / "flow" / "graph.json").write_text(changed)
    found = await adapter.get_task_function("flow")
    assert found
    assert found.config.graph == changed
    await adapter.store_task_function(evolve(stored, config=evolve(config, graph=None)))
    assert not (tmp_path / "flow" / "graph.json").exists()
    (tmp_path / "flow" / "config.json").write_text('{"name": "flow", "graph": "{}"}')
    with pytest.raises(ConfigError, match=r"the graph of a task is in graph\.json"):
        await adapter.get_task_function("flow")
    await adapter.close()

"""What a store must keep as it is: values, tasks, keys, snapshots and logs."""

import asyncio

import pytest

from sequential.core import times
from sequential.core.model import (
    Commit,
    Failure,
    Frame,
    InputField,
    LogLine,
    Snapshot,
    Status,
    TaskConfig,
    TaskFunction,
    evolve,
)
from sequential.errors import (
    InvalidNameError,
    RunBusyError,
    TaskNotFoundError,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract
from sequential.testing.contract_records import (
    LATER,
    NOW,
    SHORT_TEXTS,
    SOON,
    TEXTS,
    TREES,
    answer,
    delivered,
    new_call,
    new_run,
    text_of,
)


class ValuesContract(Contract):
    """Values of every kind."""

    async def test_values_come_back_exactly(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        for number, tree in enumerate(TREES):
            run = await adapter.create_task_run(new_run(number, input=tree))
            call = await adapter.create_stack_run(new_call(run, 0, input=tree))
            for result in (tree, [tree, tree], None, tree):
                run = await adapter.update_task_run(run.id, result=result)
                call = await adapter.update_stack_run(call.id, result=result)
                assert text_of(await other.get_task_run(run.id)) == text_of(run)
                assert text_of(await other.get_stack_run(call.id)) == text_of(call)

    async def test_true_does_not_pass_for_one(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(input={"x": 1}, result=1))
        for result in (True, 1.0, 1, [1], [True], [1.0], {"a": 1, "b": 2}, {"b": 2, "a": 1}):
            run = await adapter.update_task_run(run.id, result=result)
            assert text_of(await other.get_task_run(run.id)) == text_of(run)

    async def test_any_text_comes_back_exactly(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        for number, text in enumerate(TEXTS):
            frame = Frame(text, 1, 2, text, text)
            failure = Failure(text, text, text, (frame,))
            config = TaskConfig("my-task", text, inputs=(InputField("a", description=text),))
            await adapter.store_task_function(
                function := TaskFunction(f"task{number}", text + "#", config, 1, NOW, NOW)
            )
            assert await other.get_task_function(function.identifier) == function
            run = new_run(
                number,
                error=failure,
                where=frame,
                code=text,
                config=config,
                parent_run_id=text[:200],
                events=(answer(1, id=text, name=text, data={text: [text]}), answer(2)),
            )
            await adapter.create_task_run(run)
            call = new_call(run, 0, operation=text, error=failure, fingerprint=text, where=frame)
            await adapter.create_stack_run(call)
            run = await adapter.claim(run.id, f"token {text}", NOW, SOON)
            await adapter.commit(Commit(run, f"token {text}", log=text, taken=(text,)))
            run = evolve(run, events=(answer(2),))
            assert text_of(await other.get_task_run(run.id)) == text_of(run)
            assert text_of(await other.get_stack_run(call.id)) == text_of(call)
            assert await other.query_stack_runs(operation=text, task_run_id=run.id) == [call]
            found = await other.query_task_runs(parent_run_id=text[:200])
            assert [one.id for one in found] == [run.id]
            assert "".join(line.text for line in await other.get_log(run.id)) == text

    async def test_ten_megabytes_in_every_value(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        large = {"text": "ä" * 5_000_000}
        run = await adapter.create_task_run(new_run(input=large))
        claimed = await adapter.claim(run.id, "token", NOW, SOON)
        call = new_call(run, 0, input=large)
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))
        done = delivered(call, 2, result=large)
        end = evolve(claimed, turn=2, status=Status.COMPLETED, result=large, lease_token=None)
        await adapter.commit(Commit(end, "token", updated=(done,), log="x" * 1_000_000))
        assert await other.get_task_run(run.id) == evolve(end, lease_until=None)
        assert await other.load_calls(run.id) == [done]
        assert await other.query_stack_runs(task_run_id=run.id) == [done]
        assert len((await other.get_log(run.id))[0].text) == 1_000_000
        assert [found.id for found in await other.query_task_runs()] == [run.id]


class TasksContract(Contract):
    """Task functions."""

    async def test_a_task_is_stored_with_a_version(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        one = TaskFunction("my-task", "x = 1\r\n", TaskConfig("my-task"), 1, NOW, NOW)
        assert await adapter.store_task_function(one) == one
        assert await other.get_task_function("my-task") == one
        same = evolve(one, created_at=SOON, updated_at=SOON)
        assert await other.store_task_function(same) == one
        change = evolve(one, code="x = 2", created_at=LATER, updated_at=SOON)
        two = await other.store_task_function(change)
        assert two == evolve(change, version=2, created_at=NOW)
        three = evolve(two, config=TaskConfig("my-task", timeout=3.5), updated_at=LATER)
        assert (await adapter.store_task_function(three)).version == 3
        assert await other.get_task_function("my-task") == evolve(three, version=3)

    async def test_tasks_are_listed_by_name(self, adapter: StorageAdapter) -> None:
        for name in ("b", "a", "c-1", "c_2"):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig(name)))
        names = [task.identifier for task in await adapter.list_task_functions()]
        assert names == ["a", "b", "c-1", "c_2"]
        assert await adapter.get_task_function("unknown") is None

    @pytest.mark.parametrize("name", ["", "../evil", "a/b", "a\0", ".hidden", "1st", "é", "x" * 65])
    async def test_a_hostile_name_is_refused(self, adapter: StorageAdapter, name: str) -> None:
        with pytest.raises(InvalidNameError):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig("x")))
        with pytest.raises(InvalidNameError):
            await adapter.get_task_function(name)

    async def test_a_task_is_deleted_with_its_runs(self, adapter: StorageAdapter) -> None:
        for name in ("a", "b"):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig(name)))
        runs = [await adapter.create_task_run(new_run(i, task_identifier="a")) for i in range(3)]
        kept = await adapter.create_task_run(new_run(9, task_identifier="b"))
        await adapter.create_stack_run(new_call(runs[0], 0))
        await adapter.append_log(runs[0].id, LogLine(NOW, "x"))
        await adapter.store_snapshot(Snapshot(runs[0].id, 1, b"x"))
        assert await adapter.delete_task("a") == 3
        assert await adapter.get_task_function("a") is None
        assert await adapter.query_task_runs() == [kept]
        assert await adapter.get_stack_run(f"{runs[0].id}:0") is None
        assert await adapter.get_log(runs[0].id) == []
        assert await adapter.get_snapshot(runs[0].id) is None
        with pytest.raises(TaskNotFoundError):
            await adapter.delete_task("a")

    async def test_a_task_that_is_driven_is_not_deleted(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
        run = await adapter.create_task_run(new_run())
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        with pytest.raises(RunBusyError):
            await other.delete_task("my-task")
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),)))
        await adapter.release(run.id, "token")
        assert await other.delete_task("my-task") == 1


class KeystoreContract(Contract):
    """The keystore."""

    async def test_a_key_is_set_replaced_and_deleted(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        assert await adapter.get_keystore("token") is None
        assert await adapter.list_keystore() == []
        await adapter.set_keystore("token", "one")
        assert await other.get_keystore("token") == "one"
        await other.set_keystore("token", "two")
        assert await adapter.get_keystore("token") == "two"
        assert await adapter.list_keystore() == ["token"]
        assert await adapter.delete_keystore("token") is True
        assert await other.delete_keystore("token") is False
        assert await other.get_keystore("token") is None
        assert await adapter.list_keystore() == []

    async def test_any_text_is_a_key_and_a_value(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        keys = [*SHORT_TEXTS, "../../etc/passwd", "a/b", ".", "A", "a", "k" * 200]
        values = {key: TEXTS[number % len(TEXTS)] for number, key in enumerate(keys)}
        for key, value in values.items():
            await adapter.set_keystore(key, value)
        assert await other.list_keystore() == sorted(keys)
        for key, value in values.items():
            assert await other.get_keystore(key) == value
        assert await other.delete_keystore("A") is True
        assert await other.get_keystore("a") == values["a"]
        assert await other.list_keystore() == sorted(set(keys) - {"A"})

    async def test_keys_set_at_once_are_all_there(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        stores = (adapter, other)
        await asyncio.gather(*(stores[i % 2].set_keystore(f"key{i}", str(i)) for i in range(20)))
        assert len(await adapter.list_keystore()) == 20
        assert [await other.get_keystore(f"key{i}") for i in range(20)] == [
            str(i) for i in range(20)
        ]


class LogsContract(Contract):
    """Snapshots and logs."""

    async def test_the_newest_snapshot_is_kept(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        assert await adapter.get_snapshot(run.id) is None
        for turn, data in ((1, b"one"), (2, bytes(range(256)) * 8000), (3, b""), (4, b"\n\0")):
            snapshot = Snapshot(run.id, turn, data)
            await adapter.store_snapshot(snapshot)
            assert await other.get_snapshot(run.id) == snapshot

    async def test_the_log_keeps_its_order(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        lines = [LogLine(times.after(NOW, i), f"line {i}\n") for i in range(5)]
        for line in lines[:3]:
            await adapter.append_log(run.id, line)
        run = await adapter.claim(run.id, "token", NOW, SOON)
        for line in lines[3:]:
            step = evolve(run, updated_at=line.at)
            await adapter.commit(Commit(step, "token", log=line.text))
        await adapter.commit(Commit(run, "token"))
        assert await other.get_log(run.id) == lines

    async def test_log_lines_appended_at_once_are_all_there(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        lines = [LogLine(NOW, str(i)) for i in range(20)]
        await asyncio.gather(*(adapter.append_log(run.id, line) for line in lines))
        assert sorted(int(line.text) for line in await adapter.get_log(run.id)) == [*range(20)]

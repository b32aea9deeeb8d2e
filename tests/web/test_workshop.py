"""A project that somebody works on: what is edited counts, and what is wrong is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sequential.config import Settings, load_settings
from sequential.errors import StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.web import workshop as workshop_module
from sequential.web.workshop import News, ShownTask, State, Workshop

PATIENCE = 20.0
FINE = "async def hello(name='you'):\n    return name"
BROKEN = "async def hello(name='you'):\n    return open(name)"
SERVICE = "def find():\n    return {!r}"


class Bench:
    """A workshop at work on a folder."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine
        self.news: list[News] = []
        adaptor = engine.settings.adaptor
        self.workshop = Workshop(
            engine, lambda: load_settings(folder, adaptor=adaptor), tell=self.news.append
        )

    def save(self, name: str, text: str) -> None:
        save(self.folder, name, text)

    def task(self, name: str) -> ShownTask | None:
        return next((one for one in self.workshop.state().tasks if one.name == name), None)

    async def until(self, holds: Callable[[State], object]) -> State:
        """The state as soon as it is like this."""
        async with asyncio.timeout(PATIENCE):
            number = -1
            while not holds(state := self.workshop.state()):
                await self.workshop.channel.wait(number, 1)
                number = self.workshop.channel.number
        return state

    async def until_task(self, name: str, holds: Callable[[ShownTask], object]) -> ShownTask:
        await self.until(lambda _: (task := self.task(name)) is not None and holds(task))
        found = self.task(name)
        assert found is not None
        return found

    async def result(self, task: str) -> Any:
        return (await self.engine.run(task)).result


def save(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextlib.asynccontextmanager
async def working(folder: Path, storage: str = "folder") -> AsyncIterator[Bench]:
    settings = Settings(project=folder, adaptor=storage, tasks=folder / "tasks")
    async with Engine(settings=settings) as engine:
        bench = Bench(folder, engine)
        looking = asyncio.create_task(bench.workshop.run())
        try:
            await bench.until(lambda state: not state.checking)
            yield bench
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def test_problems_are_told_with_place_source_and_what_to_write(tmp_path: Path) -> None:
    save(tmp_path, "tasks/hello/code.py", FINE)
    async with working(tmp_path) as bench:
        before = bench.task("hello")
        bench.save("tasks/hello/code.py", BROKEN)
        task = await bench.until_task("hello", lambda task: task.problems)
        bench.save("tasks/hello/code.py", FINE)
        await bench.until_task("hello", lambda task: not task.problems)

    assert before is not None
    assert before.problems == ()
    [problem] = task.problems
    assert problem.file == str(tmp_path / "tasks/hello/code.py")
    assert (problem.line, problem.column) == (2, 12)
    assert problem.source == "    return open(name)"
    assert problem.instead
    texts = [news.text for news in bench.news]  # some twice: a file is emptied before it is written
    assert (texts[0], texts[-1]) == ("1 problem", "no problems, version 1")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("config.json", "{", "config.json"),
        ("config.json", '{"name": "hello", "retry": 7}', "retry"),
        ("graph.json", "[]", "graph"),
        ("code.py", "async def hello(", "syntax error"),
    ],
)
async def test_files_that_are_not_right_end_nothing(
    tmp_path: Path, file: str, text: str, told: str
) -> None:
    save(tmp_path, "tasks/hello/code.py", FINE)
    async with working(tmp_path) as bench:
        bench.save(f"tasks/hello/{file}", text)
        task = await bench.until_task("hello", lambda task: task.problems)
        bench.save("tasks/other/code.py", "async def other():\n    return 1")
        await bench.until_task("other", lambda task: not task.problems)

    assert told in f"{task.problems[0].file} {task.problems[0].message}"


async def test_a_task_that_is_removed_is_gone(tmp_path: Path) -> None:
    save(tmp_path, "tasks/hello/code.py", FINE)
    async with working(tmp_path) as bench:
        (tmp_path / "tasks/hello/code.py").unlink()
        await bench.until(lambda state: not state.tasks)

    assert bench.news[-1].text == "it is gone"


async def test_tasks_are_copied_into_another_store_and_bad_ones_are_not(tmp_path: Path) -> None:
    save(tmp_path, "tasks/hello/code.py", FINE)
    async with working(tmp_path, "memory") as bench:
        first = await bench.result("hello")
        bench.save("tasks/hello/code.py", BROKEN)
        await bench.until_task("hello", lambda task: task.problems)
        still = await bench.result("hello")
        bench.save("tasks/hello/code.py", FINE.replace("return name", "return 'new'"))
        mended = await bench.until_task("hello", lambda task: not task.problems)

        assert mended.version == 2
        assert (first, still, await bench.result("hello")) == ("you", "you", "new")


async def test_what_the_store_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop_module, "AGAIN", 0.05)
    async with working(tmp_path, "memory") as bench:
        storage = bench.engine.storage

        async def away(*_: Any) -> Any:
            raise StorageUnreachableError("no route")

        with monkeypatch.context() as patched:
            patched.setattr(storage, "get_task_function", away)
            bench.save("tasks/hello/code.py", FINE)
            task = await bench.until_task("hello", lambda task: task.problems)
        await bench.until_task("hello", lambda task: task.version == 1)

    assert "no route" in task.problems[0].message


async def test_services_are_loaded_again_or_stay(tmp_path: Path) -> None:
    save(tmp_path, "services/crm.py", SERVICE.format("old"))
    code = "async def calls():\n    return await services.crm.find()"
    save(tmp_path, "tasks/calls/code.py", code)
    async with working(tmp_path) as bench:
        before = await bench.result("calls")
        bench.save("services/crm.py", "def find(")
        state = await bench.until(lambda state: state.services)
        during = await bench.result("calls")
        bench.save("services/crm.py", SERVICE.format("new"))
        await bench.until(lambda state: not state.services)
        after = await bench.result("calls")

    assert (before, during, after) == ("old", "old", "new")
    assert "crm.py:1: SyntaxError" in state.services[0].message


async def test_tasks_are_checked_again_when_a_service_has_lost_a_method(tmp_path: Path) -> None:
    save(tmp_path, "services/crm.py", SERVICE.format("old"))
    code = "async def calls():\n    return await services.crm.find()"
    save(tmp_path, "tasks/calls/code.py", code)
    async with working(tmp_path) as bench:
        bench.save("services/crm.py", "def search():\n    return 1")
        task = await bench.until_task("calls", lambda task: task.problems)

    assert "find" in task.problems[0].message


async def test_a_call_in_progress_ends_with_the_old_service(tmp_path: Path) -> None:
    slow = (
        "import asyncio\nBEGUN, GO = asyncio.Event(), asyncio.Event()\n"
        "async def find():\n    BEGUN.set()\n    await GO.wait()\n    return 'old'"
    )
    save(tmp_path, "services/crm.py", slow)
    save(
        tmp_path, "tasks/calls/code.py", "async def calls():\n    return await services.crm.find()"
    )
    async with working(tmp_path) as bench:
        function: Any = bench.engine.services.find("crm")._methods["find"].function  # type: ignore[union-attr]
        run = asyncio.create_task(bench.result("calls"))
        await function.__globals__["BEGUN"].wait()
        bench.save("services/crm.py", SERVICE.format("new"))
        await bench.until(lambda _: News("services", "loaded again") in bench.news)
        new = await bench.result("calls")
        function.__globals__["GO"].set()

        assert (new, await run) == ("new", "old")


async def test_settings_are_taken_over_as_far_as_they_can(tmp_path: Path) -> None:
    save(tmp_path, "tasks/hello/code.py", "async def hello(name):\n    return name")
    save(tmp_path, "tasks/hello/config.json", '{"name": "hello", "inputs": [{"name": "name"}]}')
    async with working(tmp_path) as bench:
        bench.save(".sequentialrc.json", '{"defaults": {"name": "Ada"}, "tasks": "elsewhere"}')
        state = await bench.until(lambda state: state.restart)
        result = await bench.result("hello")
        bench.save(".sequentialrc.json", '{"defaults": {')
        broken = await bench.until(lambda state: state.settings)
        still = await bench.result("hello")
        bench.save(".sequentialrc.json", "{}")
        well = await bench.until(lambda state: not state.settings)

    assert (result, still) == ("Ada", "Ada")
    assert state.restart == ("tasks",)
    assert ".sequentialrc.json is not right" in broken.settings[0].message
    assert well.restart == ()


async def test_other_settings_of_http_count_at_once(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        before = bench.engine.services.find("http")
        bench.save(".sequentialrc.json", '{"http": {"timeout": 3}}')
        await bench.until(lambda _: bench.engine.services.find("http") is not before)

    assert bench.engine.settings.http.timeout == 3


async def test_modules_that_native_tasks_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    save(tmp_path, "shared_by_workshop.py", "VALUE = 1")
    save(tmp_path, "tasks/nat/code.py", "async def nat():\n    import shared_by_workshop\n"
         "    return shared_by_workshop.VALUE")  # fmt: skip
    save(tmp_path, "tasks/nat/config.json", '{"name": "nat", "runtime": "native"}')
    async with working(tmp_path) as bench:
        before = await bench.result("nat")
        bench.save("shared_by_workshop.py", "VALUE = 2")
        await bench.until(lambda _: News("services", "loaded again") in bench.news)

        assert (before, await bench.result("nat")) == (1, 2)


async def test_what_breaks_the_check_is_told_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def burst(*_: Any) -> Any:
        raise ZeroDivisionError("in the check")

    monkeypatch.setattr(workshop_module, "task_problems", burst)
    save(tmp_path, "tasks/hello/code.py", FINE)
    async with working(tmp_path) as bench:
        task = await bench.until_task("hello", lambda task: task.problems)

    assert "ZeroDivisionError: in the check" in task.problems[0].message
    assert "hello could not be checked" in caplog.text


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    state = State("p", "folder", (ShownTask("hello"),))

    assert msgspec.json.decode(msgspec.json.encode(state))["tasks"][0]["name"] == "hello"

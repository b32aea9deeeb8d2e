"""Tasks checked and copied over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sequential.config import Settings
from sequential.core.bounds import TokenLimits
from sequential.core.model import InputField, TaskConfig
from sequential.runner.engine import Engine
from web.conftest import serving

API = "/api/v1"
BROKEN = "async def report(name):\n    return open(name)"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine of a project whose store is not its folder."""
    settings = Settings(project=tmp_path, adaptor="memory", tasks=tmp_path / "tasks")
    async with Engine("memory:", settings=settings) as made:
        yield made


def write(engine: Engine, name: str, code: str) -> None:
    folder = engine.settings.tasks / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "code.py").write_text(code)


async def test_a_task_that_is_fine(client: httpx.AsyncClient, engine: Engine) -> None:
    await engine.store_task("hello", "async def hello():\n    return 1", TaskConfig("hello"))

    answer = await client.post(f"{API}/tasks/hello/check")

    assert answer.status_code == 200
    assert answer.json() == {"is_fine": True, "problems": []}


async def test_problems_say_where_they_are(client: httpx.AsyncClient, engine: Engine) -> None:
    config = TaskConfig("report", inputs=(InputField("name"),))
    await engine.store_task("report", BROKEN, config)

    answer = (await client.post(f"{API}/tasks/report/check", json={"input": {}})).json()
    code, given = answer["problems"]

    assert not answer["is_fine"]
    assert (code["file"], code["line"], code["column"]) == ("code.py", 2, 12)
    assert "a task has no files" in code["message"]
    assert code["instead"]
    assert given["file"] == "input"
    assert "name" in given["message"]


async def test_a_token_checks_only_the_tasks_it_may_use(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await engine.store_task("hello", "async def hello():\n    return 1", TaskConfig("hello"))
    _, token = await engine.tokens.create("me", "operate", limits=TokenLimits(tasks=("other",)))
    headers = {"Authorization": f"Bearer {token}"}

    refused = await client.post(f"{API}/tasks/hello/check", headers=headers)
    not_at_all = await client.post(f"{API}/sync", headers=headers, json={})

    assert refused.status_code == 403
    assert not_at_all.status_code == 403


async def test_tasks_of_the_folder_are_copied_and_bad_ones_refused(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    write(engine, "hello", "async def hello():\n    return 1")
    write(engine, "report", BROKEN)

    tried = (await client.post(f"{API}/sync", json={"dry_run": True})).json()
    before = await engine.list_tasks()
    done = (await client.post(f"{API}/sync", json={})).json()
    again = (await client.post(f"{API}/sync", json={"task": "hello"})).json()

    assert [one["change"] for one in tried["tasks"]] == ["added", "refused"]
    assert before == []
    assert [one["change"] for one in done["tasks"]] == ["added", "refused"]
    assert "code.py:2:12: " in done["tasks"][1]["problems"][0]
    assert [task.identifier for task in await engine.list_tasks()] == ["hello"]
    assert [(one["name"], one["change"]) for one in again["tasks"]] == [("hello", "unchanged")]


async def test_a_task_that_is_not_in_the_folder(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{API}/sync", json={"task": "no-such"})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "task_not_found"


async def test_a_store_that_is_the_folder_has_nothing_to_copy(tmp_path: Path) -> None:
    async with Engine(f"folder:{tmp_path}") as engine, serving(engine) as client:
        answer = await client.post(f"{API}/sync", json={})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "nothing_to_sync"

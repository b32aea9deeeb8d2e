"""Which files of a project count, and what a save is about."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sequential.web.project_files import Edited, ProjectFiles

PATIENCE = 20.0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks/hello", "services", "lib", "lib/deep", "data", ".venv/lib"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tasks/hello/code.py").write_text("async def hello(): pass")
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/deep/__init__.py").write_text("")
    (tmp_path / ".venv/lib/other.py").write_text("")
    return tmp_path


@pytest.fixture
async def edits(project: Path) -> AsyncIterator[AsyncIterator[Edited]]:
    found = ProjectFiles(project, project / "tasks").edits()
    yield found
    await found.aclose()  # type: ignore[attr-defined]


async def after(edits: AsyncIterator[Edited], save: Path, text: str = "# edited") -> Edited:
    """What is told when a file has been saved."""
    save.parent.mkdir(parents=True, exist_ok=True)
    save.write_text(text)
    async with asyncio.timeout(PATIENCE):
        return await anext(edits)


@pytest.mark.parametrize("name", ["code.py", "config.json", "graph.json", "helper.js"])
async def test_the_files_of_a_task(edits: AsyncIterator[Edited], project: Path, name: str) -> None:
    assert await after(edits, project / "tasks/hello" / name) == Edited(frozenset({"hello"}))


async def test_a_new_task_and_what_is_saved_in_it_later(
    edits: AsyncIterator[Edited], project: Path
) -> None:
    assert (await after(edits, project / "tasks/late/code.py")).tasks == {"late"}
    assert (await after(edits, project / "tasks/late/code.py", "# again")).tasks == {"late"}


async def test_settings_services_and_modules(edits: AsyncIterator[Edited], project: Path) -> None:
    settings = await after(edits, project / ".sequentialrc.json", "{}")
    service = await after(edits, project / "services/crm.py")
    module = await after(edits, project / "shared.py")
    deep = await after(edits, project / "lib/deep/part.py")

    assert settings == Edited(settings=True)
    assert service == Edited(services=True)
    assert module == Edited(modules=frozenset({project / "shared.py"}))
    assert deep == Edited(modules=frozenset({project / "lib/deep/part.py"}))


async def test_a_file_that_is_removed_or_replaced_has_changed(
    edits: AsyncIterator[Edited], project: Path
) -> None:
    code = project / "tasks/hello/code.py"
    other = project / "new"
    other.write_text(code.read_text())
    other.replace(code)  # as many editors save, here with the same text
    async with asyncio.timeout(PATIENCE):
        replaced = await anext(edits)
        code.unlink()
        removed = await anext(edits)

    assert replaced.tasks == removed.tasks == {"hello"}


async def test_what_the_engine_and_others_write_is_passed_over(
    edits: AsyncIterator[Edited], project: Path
) -> None:
    for name in ("tasks/hello/meta.json", "tasks/.changes", "data/rows.csv", ".venv/lib/x.py"):
        (project / name).write_text("{}")
    runs = project / "tasks/hello/runs/1"
    runs.mkdir(parents=True)
    (runs / "run.json").write_text("{}")

    assert await after(edits, project / "shared.py") == Edited(
        modules=frozenset({project / "shared.py"})
    )


async def test_folders_may_come_later(tmp_path: Path) -> None:
    edits = ProjectFiles(tmp_path, tmp_path / "tasks").edits()

    service = await after(edits, tmp_path / "services/crm.py")
    task = await after(edits, tmp_path / "tasks/first/code.py")
    await edits.aclose()  # type: ignore[attr-defined]

    assert service.services
    assert task.tasks == {"first"}


def test_the_tasks_there_are_those_that_were_edited_last_at_first(project: Path) -> None:
    for name, seconds in (("old", 1000), ("new", 3000), ("hello", 2000), ("empty", 0)):
        (project / "tasks" / name).mkdir(exist_ok=True)
        if seconds:
            code = project / "tasks" / name / "code.py"
            code.write_text("")
            os.utime(code, (seconds, seconds))

    assert ProjectFiles(project, project / "tasks").task_names() == ["new", "hello", "old"]

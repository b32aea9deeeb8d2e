"""Processes that die while something is asked of a run, and those that drive it then."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sequential.core.model import CallStatus, Status, TaskRun
from sequential.errors import InvalidTransitionError
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import LATER, SOON, answer
from support.killing import LARGE, RUN

SUPPORT = str(Path(__file__).parents[1])
PATHS = os.pathsep.join(path for path in (SUPPORT, os.environ.get("PYTHONPATH")) if path)
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS}


async def killed(role: str, folder: Path) -> dict[str, int]:
    """How many steps were acknowledged, for each system call at which the role was killed."""
    command = [sys.executable, "-m", "support.killing_inbox", role, str(folder)]
    output = await asyncio.to_thread(subprocess.check_output, command, timeout=100, env=ENVIRONMENT)
    results: dict[str, int] = json.loads(output)
    return results


async def claimed(adapter: FolderAdapter) -> TaskRun:
    """The run as the next worker finds it, and finds it once more after giving it back."""
    run = await adapter.claim(RUN.id, "next", SOON, LATER)
    await adapter.release(RUN.id, "next")
    again = await adapter.claim(RUN.id, "again", SOON, LATER)
    assert (again.events, again.answers) == (run.events, run.answers)
    assert await adapter.damaged() == []
    await adapter.release(RUN.id, "again")
    return again


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("tasks/*/runs/inbox/*") if path.suffix != ".tmp"]


async def test_who_changes_a_free_run_is_killed_and_all_of_it_is_done_or_nothing(
    tmp_path: Path,
) -> None:
    results = await killed("direct", tmp_path)
    assert len(results) > 20
    assert set(results.values()) == {0, 1, 2, 3}
    for name, steps in results.items():
        adapter = FolderAdapter(tmp_path / name / "tasks")
        run = await adapter.get_task_run(RUN.id)
        (call,) = await adapter.query_stack_runs(task_run_id=RUN.id)
        assert run
        assert min(steps, 2) <= run.answers <= steps + 1, name
        assert run.events == (answer(1),)[: run.answers]
        assert (run.status is Status.CANCELLED) == (call.status is CallStatus.CANCELLED)
        if run.status is Status.CANCELLED:
            assert steps >= 2
            with pytest.raises(InvalidTransitionError):
                await adapter.claim(RUN.id, "next", SOON, LATER)
        else:
            assert steps < 3
            await claimed(adapter)
        await adapter.close()


async def test_an_answer_of_one_who_is_killed_counts_once_or_was_never_acknowledged(
    tmp_path: Path,
) -> None:
    results = await killed("outsider", tmp_path)
    assert len(results) > 15
    assert set(results.values()) == {0, 1, 2}
    for name, steps in results.items():
        adapter = FolderAdapter(tmp_path / name / "tasks")
        run = await claimed(adapter)
        assert steps <= run.answers <= steps + 1, name
        assert run.events == (answer(1),)[: run.answers]
        assert left(tmp_path / name) == []
        await adapter.close()


async def test_whoever_drives_a_run_is_killed_and_every_answer_counts_once(tmp_path: Path) -> None:
    results = await killed("holder", tmp_path)
    assert len(results) > 40
    assert set(results.values()) == {0, 1, 2, 3, 4, 5}
    for name, steps in results.items():
        adapter = FolderAdapter(tmp_path / name / "tasks")
        assert await adapter.wakeups(SOON) == [RUN.id]
        run = await claimed(adapter)
        taken = run.turn == 1
        assert taken >= (steps == 5), name
        least = 2 + (steps >= 2) + (steps >= 4)
        assert least <= run.answers <= least + 1, name
        events = [answer(number) for number in (1, 3) if number <= run.answers]
        assert list(run.events) == events[taken:], name
        assert left(tmp_path / name) == []
        await adapter.close()


async def test_who_deletes_a_run_is_killed_and_it_is_whole_or_gone(tmp_path: Path) -> None:
    results = await killed("remover", tmp_path)
    assert len(results) > 6
    found: set[bool] = set()
    for name, steps in results.items():
        adapter = FolderAdapter(tmp_path / name / "tasks")
        run = await adapter.get_task_run(RUN.id)
        found.add(run is None)
        if steps:
            assert run is None
        if run is not None:
            assert (await claimed(adapter)).result == LARGE
            await adapter.delete_task_run(RUN.id)
        assert await adapter.damaged() == []
        assert await adapter.find_run_ids("") == await adapter.wakeups(LATER) == []
        await adapter.close()
    assert found == {True, False}

"""Runs driven on the Supabase store: by engines that race, by engines whose answers get lost, and
from the command line, which learns of the project from the environment."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core.model import TaskConfig
from sequential.errors import InvalidTransitionError, RunBusyError
from sequential.runner.engine import Engine
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.registry import create_adapter
from sequential.testing.services import FakeService
from support.supabase_project import SupabaseProject

CODE = """
async def job(input):
    kept = []
    for i in range(input["steps"]):
        kept.append(await services.tool.step(i))
    return kept
"""


@asynccontextmanager
async def engine(project: SupabaseProject, step: Any) -> AsyncIterator[Engine]:
    made = Engine(
        await create_adapter("supabase", url=project.url, key=project.key),
        Services([ClockService(), FakeService("tool", {"step": step})]),
        Settings(project=Path()),
        secret=b"k" * 32,
    )
    try:
        yield made
    finally:
        await made.close()


async def test_two_engines_that_race_perform_every_call_once(supabase: SupabaseProject) -> None:
    performed: Counter[int] = Counter()

    def step(i: int) -> int:
        performed[i] += 1
        return i

    async def race(made: Engine, run_id: str) -> None:
        try:
            await made.resume(run_id)
        except (RunBusyError, InvalidTransitionError):
            await made.wait(run_id)

    async with engine(supabase, step) as one, engine(supabase, step) as two:
        await one.store_task("job", CODE, TaskConfig("job"))
        ids = [(await one.create_run("job", {"steps": 6})).id for _ in range(6)]
        await asyncio.gather(*(race(made, run_id) for run_id in ids for made in (one, two)))
        for run_id in ids:
            assert (await two.get_run(run_id)).value == [*range(6)]
    assert performed == dict.fromkeys(range(6), 6)


async def test_answers_that_get_lost_repeat_no_call(supabase: SupabaseProject) -> None:
    performed: list[int] = []

    def step(i: int) -> int:
        performed.append(i)
        supabase.gateway.losses = [504] if i % 3 == 0 else []
        return i

    async with engine(supabase, step) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        run = await made.run("job", {"steps": 10})
    assert run.value == performed == [*range(10)]


async def test_a_worker_is_away_while_postgrest_is(supabase: SupabaseProject) -> None:
    async with engine(supabase, lambda i: i) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        running = asyncio.create_task(made.run("job", {"steps": 300}))
        for _ in range(2):
            await requests(supabase, 40)
            supabase.api.kill()
            await requests(supabase, 2)
            supabase.api.start()
        assert (await running).value == [*range(300)]


async def requests(supabase: SupabaseProject, more: int) -> None:
    wanted = supabase.gateway.requests + more
    async with asyncio.timeout(10):
        while supabase.gateway.requests < wanted:
            await asyncio.sleep(0.005)


def test_the_environment_chooses_the_project(supabase: SupabaseProject, tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "hello"
    environment = {
        k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "SQLITE_DB_PATH")
    }
    environment |= {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_KEY": supabase.key}

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("sequential-ecosystem"), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert supabase.key not in done.stdout + done.stderr
        return done.stdout

    folder.mkdir(parents=True)
    (folder / "code.py").write_text("def hello():\n    return 'hello'\n")
    command("sync-tasks")
    command("run", "hello")
    with supabase.connect() as connection:
        row = connection.execute("select status from sequential.task_runs").fetchone()
    assert row == ("completed",)
    assert json.loads(command("config", "show", "--json"))["settings"]["adaptor"] == "supabase"

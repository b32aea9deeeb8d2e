"""A project to use the command line on, and ways to use it."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import Open, Process, Project, PutStdin, Start, Terminal
from support.http_api import HttpApi, serve


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    monkeypatch.chdir(tmp_path)
    for variable in ("TASK_TIMEOUT", "TASK_MAX_RETRIES", "SEQUENTIAL_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("DATABASE_URL", "SQLITE_DB_PATH", "SUPABASE_URL", "SEQUENTIAL_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    return Project(tmp_path, capsys)


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """Start a command in a process; what still runs at the end is killed."""
    started: list[Process] = []

    def begin(*arguments: str, **more: object) -> Process:
        started.append(Process(*arguments, **more))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate()


@pytest.fixture
def terminal(project: Project) -> Open:
    """Start a command on a terminal: `terminal("list", columns=80)`."""
    return Terminal


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> PutStdin:
    """Put bytes on this process's stdin."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put

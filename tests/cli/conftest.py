"""Ways to use the command line: within this process, as a process, and on a terminal."""

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sequential.cli.app import run
from support.http_api import HttpApi, serve

SCRIPT = Path(sys.executable).with_name("sequential-ecosystem")
PATIENCE = 20.0  # seconds to wait for something that happens at once


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class Project:
    """A folder with tasks, which is the current folder, and commands on it in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        code = run(list(arguments))
        captured = self._capsys.readouterr()
        return Done(code, captured.out, captured.err)

    def ok(self, *arguments: str) -> Done:
        done = self(*arguments)
        assert done.code == 0, done
        return done

    def task(self, name: str, code: str, **config: Any) -> Path:
        """Write a task as a person would, with an editor."""
        folder = self.folder / "tasks" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "code.py").write_text(code)
        if config:
            (folder / "config.json").write_text(json.dumps({"name": name, **config}))
        return folder

    def run_ids(self, task: str) -> list[str]:
        return [run["id"] for run in self.ok("history", task, "--json").json]


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    monkeypatch.chdir(tmp_path)
    for variable in ("TASK_TIMEOUT", "TASK_MAX_RETRIES", "SEQUENTIAL_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return Project(tmp_path, capsys)


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


@dataclass
class Process:
    """A command in a process of its own."""

    popen: subprocess.Popen[str]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)

    def wait(self) -> Done:
        out, err = self.popen.communicate(timeout=PATIENCE)
        return Done(self.popen.returncode, out, err)


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., Process]]:
    """Start a command in the project's folder; what still runs at the end is killed."""
    started: list[Process] = []

    def begin(*arguments: str, **more: Any) -> Process:
        popen = subprocess.Popen(
            [SCRIPT, *arguments],
            cwd=project.folder,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        started.append(Process(popen))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate()


class Terminal:
    """A command on a terminal, with what it has shown so far."""

    def __init__(self, arguments: tuple[str, ...], columns: int, **environment: str) -> None:
        self.shown = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            os.environ.update({"TERM": "xterm-256color", **environment})
            os.execv(SCRIPT, [str(SCRIPT), *arguments])

    def until(self, text: str) -> str:
        """Read on until `text` is shown; returns all that was."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} is not in {self.shown!r}"
            if not self._read():
                raise AssertionError(f"it ended without {text!r}: {self.shown!r}")
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait(self) -> tuple[int, str]:
        """The exit code and all that was shown."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, self.shown
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status), self.shown

    def _read(self) -> bool:
        readable, _, _ = select.select([self._fd], [], [], 1.0)
        if not readable:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode()
        return bool(data)


@pytest.fixture
def terminal(project: Project) -> Callable[..., Terminal]:
    """Start a command on a terminal: `terminal("list", columns=80)`."""

    def begin(*arguments: str, columns: int = 80, **environment: str) -> Terminal:
        return Terminal(arguments, columns, **environment)

    return begin


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes on this process's stdin."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put

"""Ways to use the command line: within this process, as a process, and on a terminal."""

import fcntl
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sequential.cli.app import run

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
        """Run a command that has to succeed."""
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
        """The runs of a task, newest first."""
        return [run["id"] for run in self.ok("history", task, "--json").json]


class Process:
    """A command in a process of its own, in the current folder."""

    def __init__(self, *arguments: str, **more: Any) -> None:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **more}
        self.popen = subprocess.Popen(
            [SCRIPT, *arguments], stderr=subprocess.PIPE, text=True, **given
        )

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)

    def wait(self) -> Done:
        out, err = self.popen.communicate(timeout=PATIENCE)
        return Done(self.popen.returncode, out or "", err)


class Terminal:
    """A command on a terminal, with what it has shown so far."""

    def __init__(self, *arguments: str, columns: int = 80, **environment: str) -> None:
        self.shown = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                os.environ.pop(name, None)
            os.environ.update({"TERM": "xterm-256color", **environment})
            os.execv(SCRIPT, [str(SCRIPT), *arguments])

    def until(self, text: str) -> str:
        """Read on until `text` is shown; returns all that was."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} is not in {self.shown!r}"
            assert self._read(), f"it ended without {text!r}: {self.shown!r}"
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


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail when it takes too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


Start = Callable[..., Process]
Open = Callable[..., Terminal]
PutStdin = Callable[[bytes], None]

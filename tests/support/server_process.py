"""`serve` or `dev` in a process of its own, on a free port, in a project that is a folder."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

SCRIPT = Path(sys.executable).with_name("sequential-ecosystem")
PATIENCE = 30.0  # seconds to wait for something that happens soon
OURS = ("SEQUENTIAL_", "TASK_", "DATABASE_URL", "SQLITE_DB_PATH", "SUPABASE_")
TOOL = """
from sequential import LocalService

service = LocalService("tool")

@service.method("echo")
async def echo(value=None):
    return value
"""


def new_project(folder: Path, tasks: dict[str, str], **configs: dict[str, Any]) -> Path:
    """Make a folder a project with these tasks, and a service `tool` with the method `echo`."""
    (folder / ".sequentialrc.json").write_text("{}")
    (folder / "services").mkdir()
    (folder / "services" / "tool.py").write_text(TOOL)
    for name, code in tasks.items():
        place = folder / "tasks" / name
        place.mkdir(parents=True)
        (place / "code.py").write_text(code)
        (place / "config.json").write_text(json.dumps({"name": name, **configs.get(name, {})}))
    return folder


def memory_of(pid: int) -> int:
    """What a process has in memory, in bytes."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) << 10


def children_of(pid: int) -> set[int]:
    """The processes that a process has started and that are there."""
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return {int(line) for line in done.stdout.split()}


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return state.stdout.strip() not in (b"", b"Z", b"Zs", b"Z+")


class ServerProcess:
    """A server; `url` is where it is. To be ended by its user: see `end`."""

    def __init__(
        self, folder: Path, *arguments: str, storage: str = "folder", command: str = "serve"
    ) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        given = ["--project", str(folder), "--storage", storage, command, "--port", "0"]
        self.popen = subprocess.Popen(
            [SCRIPT, *given, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told = ""
        self.url = self.until(r"Serving (\S+?)\.? ?(?:with.*|Ctrl.*)$")
        self.port = int(self.url.rpartition(":")[2])

    def until(self, pattern: str) -> str:
        """Read what it says until a line has this pattern; gives its first group."""
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.told += line
            if found := re.search(pattern, line):
                return found[1] if found.groups() else line
        raise AssertionError(f"it ended without {pattern!r}: {self.told!r}")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        assert self.popen.stderr is not None
        code = self.popen.wait(PATIENCE)
        self.told += self.popen.stderr.read()
        return code

    def end(self) -> None:
        """Kill what is left of it."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def client(self, **options: Any) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, limits=limits, **options)

    async def is_up(self) -> None:
        """Wait until it answers."""
        async with self.client() as client, asyncio.timeout(PATIENCE):
            while True:
                try:
                    if (await client.get("/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)

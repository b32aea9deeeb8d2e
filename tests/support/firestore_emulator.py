"""Google's own Firestore emulator, where it is installed: the same tests run on it."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from support.ending_with_us import ending_with_us

_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_BELOW = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
_START = 60.0  # seconds


def missing() -> str:
    """Why the emulator cannot be used here; nothing if it can."""
    if shutil.which("java") is None:
        return "Google's Firestore emulator needs java, which is not installed"
    if _jar() is None:
        return (
            "Google's Firestore emulator is not installed: name its jar in FIRESTORE_EMULATOR_JAR"
        )
    return ""


def _jar() -> Path | None:
    if named := os.environ.get("FIRESTORE_EMULATOR_JAR"):
        return Path(named)
    places = [Path("/usr/lib/google-cloud-sdk") / _BELOW]
    if tool := shutil.which("gcloud"):
        places.append(Path(tool).resolve().parents[1] / _BELOW)
    cached = Path.home() / ".cache" / "firebase" / "emulators"
    places += sorted(cached.glob("cloud-firestore-emulator*.jar"), reverse=True)
    return next((place for place in places if place.exists()), None)


@functools.cache
def address() -> str:
    """The address of an emulator, which is started once and ends with this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quick = ["-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # to start, not to run
    command = ["java", *quick, "-cp", str(_jar()), _CLASS, "--host=127.0.0.1"]
    process = subprocess.Popen(
        ending_with_us([*command, f"--port={port}"], signal.SIGKILL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(_end, process)
    _wait(process, port)
    return f"127.0.0.1:{port}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the emulator ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the emulator does not answer after {_START:.0f} s")

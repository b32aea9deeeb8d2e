"""Who holds a lease: tokens that tell whether their process has died, to others on its machine.

A lease lasts its time, since nobody can know of a process on another machine whether it is dead or
slow. On the same machine one can: so what a killed process has left goes on at once.
"""

import functools
import os
import secrets
from pathlib import Path

_SIGN = "@"


def new_token() -> str:
    """A token nobody else has, with the process that made it where that can be known."""
    known = _here()
    own = _started(os.getpid())
    if known is None or own is None:
        return secrets.token_hex(8)
    return f"{secrets.token_hex(8)}{_SIGN}{known}.{os.getpid()}.{own}"


def has_died(token: str | None) -> bool:
    """Whether the process that took a lease is certainly gone; False when that is not known."""
    _, _, process = (token or "").partition(_SIGN)
    place, _, rest = process.partition(".")
    pid, _, started = rest.partition(".")
    if not place or place != _here() or not pid.isdecimal():
        return False
    return _started(int(pid)) != started


@functools.cache
def _here() -> str | None:
    """What tells the machine, since its start, and its numbers of processes; on Linux only."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
    return f"{boot.replace('-', '')[:16]}{''.join(filter(str.isdecimal, space))}"


def _started(pid: int) -> str | None:
    """When a process was started, in ticks of the machine; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    is_gone = not fields or fields[0] in ("Z", "X")  # dead, and only not buried
    return None if is_gone or len(fields) < 20 else fields[19]

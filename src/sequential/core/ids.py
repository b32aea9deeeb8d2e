"""Identifiers: sortable run ids, ids of calls, idempotency keys."""

import hashlib
import uuid

_NAMED = uuid.UUID("5f1e0c7a-0b8e-5c3d-9d55-4c2f6a4b8e10")


def run_id(milliseconds: int, entropy: bytes) -> str:
    """A UUIDv7 (RFC 9562): sorts by creation time. `entropy` is 10 random bytes."""
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def named_run_id(name: str) -> str:
    """The id of the run that a program knows by a name of its own; a run id is its own name."""
    return name if _is_run_id(name) else str(uuid.uuid5(_NAMED, name))


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def child_run_id(parent: str, sequence: int, milliseconds: int) -> str:
    """The id of the run that a call of `parent` starts: the same whenever it is performed.

    Those of the same millisecond sort in the order of their calls, up to 4,096 of them.
    """
    entropy = hashlib.sha256(f"{parent}:{sequence}".encode()).digest()
    return run_id(milliseconds, (sequence % 4096).to_bytes(2, "big") + entropy[:8])


def scheduled_run_id(task: str, schedule: str, moment: str, milliseconds: int) -> str:
    """The id of a schedule's run for a moment: the same whichever worker creates it, and when."""
    entropy = hashlib.sha256(f"schedule:{task}/{schedule}:{moment}".encode()).digest()
    return run_id(milliseconds, entropy)


def stack_run_id(run: str, sequence: int) -> str:
    """The id of a run's call: unique in a store, and the same when the call is repeated."""
    return f"{run}:{sequence}"


def idempotency_key(run: str, sequence: int, fork: int = 0) -> str:
    """The key sent with a call: the same for every attempt, another one for every call and fork."""
    return "seq-" + hashlib.sha256(f"{run}:{fork}:{sequence}".encode()).hexdigest()[:40]


def task_entropy(run: str, draw: int, size: int) -> bytes:
    """Random bytes for the `draw`-th generator of a run: the same whenever the run is replayed."""
    return hashlib.shake_256(f"{run}:{draw}".encode()).digest(size)

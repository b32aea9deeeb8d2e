"""The inbox of the folder store: what is asked of a run that another process drives.

    runs/inbox/run-<run id>.<time>-<random>.json        a request: an answer, or to stop the run
    runs/inbox/run-<run id>.<time>-<random>.refused     the run's status forbade it
    runs/inbox/run-<run id>.<time>-<random>.damaged     it cannot be read

Only who has the run's lock may append to its journal, so everybody else leaves a request here, as a
file that appears complete and durable. Who has the lock carries requests out (`carry_out`): one
line in the journal that names them, then their files are removed. If it dies in between, the next
one finds the names in the journal (`State.folded`) and only removes the files. The journal keeps
the names of the last requests alone, so no further ones are carried out before the files of the
last are gone for good.

Each request's file is locked while it is carried out, so taking it back is all or nothing, too.
"""

import contextlib
import fcntl
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from sequential.core.model import RunEvent, StackRun
from sequential.core.transitions import Happening
from sequential.errors import InvalidTransitionError, RunNotFoundError
from sequential.storage import files, folder_view
from sequential.storage.files import Folder
from sequential.storage.folder_journal import encode_line, line_of
from sequential.storage.folder_lease import Lease
from sequential.storage.folder_places import RunFiles
from sequential.storage.outside import answered, operated

_NAME = re.compile(
    r"run-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{20}-[0-9a-f]{16})"
    r"\.(json|json\.tmp|refused|damaged)\Z"
)
_MOST = 64  # requests carried out by one line
_FORGOTTEN = 60.0  # seconds until what nobody needs any more is removed
_WITHDRAW = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of a run: a `happening`, or without one to take an answer."""

    run_id: str
    at: str
    event: RunEvent | None = None
    happening: Happening | None = None


class Fate(StrEnum):
    """How it went with a request."""

    WAITING = "json"
    CARRIED_OUT = ""
    REFUSED = "refused"
    DAMAGED = "damaged"
    UNFINISHED = "json.tmp"  # it is being written, or who wrote it has died


class Found(NamedTuple):
    """A request as its file's name tells it."""

    run_id: str
    name: str  # the time and the random part: sorts by time
    fate: Fate


_decoder = msgspec.json.Decoder(Request)


def post(run: RunFiles, request: Request) -> str:
    """Leave a request, durably; returns its name. Nothing is left behind by a failure."""
    text = encode_line(request)
    _make(run)
    name = f"{time.time_ns():020d}-{secrets.token_hex(8)}"
    path = _path(run, name)
    try:
        files.create(path, text, ".tmp")
    except FileNotFoundError:
        raise RunNotFoundError(f"run {run.run_id} has just been deleted") from None
    except OSError:
        files.remove(path)
        raise
    return name


def _make(run: RunFiles) -> None:
    if os.path.isdir(run.inbox):
        return
    try:
        os.mkdir(run.inbox)
    except FileExistsError:
        return
    except FileNotFoundError:  # it must not bring a deleted task's folder back
        raise RunNotFoundError(f"run {run.run_id} has just been deleted") from None
    files.sync_folder(run.runs)


def fate(run: RunFiles, name: str) -> Fate:
    """How it went with a request that was left."""
    for known in (Fate.WAITING, Fate.REFUSED, Fate.DAMAGED):
        if os.path.lexists(_path(run, name, known)):
            return known
    return Fate.CARRIED_OUT


def clear(run: RunFiles, name: str) -> None:
    """Remove what is left of a request that was refused."""
    files.remove(_path(run, name, Fate.REFUSED))


def withdraw(run: RunFiles, name: str) -> bool:
    """Take a request back; False if it was carried out, or just is."""
    path = _path(run, name)
    try:
        descriptor = os.open(path, _WITHDRAW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path) or name in _last_of(run):
            return False
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _last_of(run: RunFiles) -> tuple[str, ...]:
    try:
        return folder_view.load(run).folded
    except FileNotFoundError:
        return ()  # the run was deleted


def waiting(runs: str) -> set[str]:
    """Ids of the runs in a task's folder of runs that something is asked of."""
    return {found.run_id for found in _list(runs) if found.fate is Fate.WAITING}


def calling(runs: str) -> set[str]:
    """Ids of the runs that should be claimed for what is asked of them.

    What this process cannot read or remove counts not: it would call for ever.
    """
    found = [one for one in _list(runs) if one.fate is Fate.WAITING]
    if not found or not os.access(f"{runs}/inbox", os.W_OK | os.X_OK):
        return set()
    return {
        one.run_id
        for one in found
        if _is_readable(f"{runs}/inbox/run-{one.run_id}.{one.name}.{one.fate}")
    }


def _is_readable(path: str) -> bool:
    try:
        descriptor = files.open_to_read(path)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def carry_out(lease: Lease) -> bool:
    """Do what is asked of a locked run; whether there was anything.

    The run may be paused or over then, and not be driven by this lease any more.
    """
    run = lease.files
    names = [found.name for found in _list(run.runs) if _is_open(run, found)]
    if not names or not _clear_last(lease, names):
        return False
    fresh = (name for name in names if name not in lease.folded)
    with contextlib.ExitStack() as stack:
        every = ((name, found) for name in fresh if (found := _take(run, name, stack)))
        taken = list(itertools.islice(every, _MOST))
        done = _write(lease, taken) if taken else []
        for name in done:
            files.remove(_path(run, name))
    return bool(done)


def _is_open(run: RunFiles, found: Found) -> bool:
    if found.run_id != run.run_id:
        return False
    is_old = int(found.name[:20]) < time.time_ns() - _FORGOTTEN * 1e9
    if is_old and found.fate in {Fate.REFUSED, Fate.UNFINISHED}:
        files.remove(_path(run, found.name, found.fate))
    return found.fate is Fate.WAITING


def _clear_last(lease: Lease, names: list[str]) -> bool:
    """Remove the files of requests carried out already; whether they are gone for good."""
    done = [name for name in names if name in lease.folded]
    if done:
        lease.sync()  # who carried them out may have died before the line was safe
    try:
        for name in done:
            os.unlink(_path(lease.files, name))
        if lease.folded:
            files.sync_folder(lease.files.inbox)
    except OSError:
        return False
    return True


def _take(run: RunFiles, name: str, stack: contextlib.ExitStack) -> Request | None:
    """Lock and read a request; one that cannot be read is put aside, for `troubles` to tell."""
    path = _path(run, name)
    try:
        descriptor = files.open_to_read(path)
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return None
        request, _ = _decode(run.run_id, _read(descriptor))
        if request is None:
            os.rename(path, _path(run, name, Fate.DAMAGED))
    except OSError:
        return None  # taken back, or not ours to read
    return request


def _write(lease: Lease, taken: list[tuple[str, Request]]) -> list[str]:
    """Carry requests out by one line of the journal; returns the names of those that were."""
    run = lease.run
    calls: dict[str, StackRun] = {}
    done: list[str] = []
    for name, request in taken:
        try:
            if request.happening is None:
                run = answered(run, request.event, request.at)
            else:
                amendment = operated(run, lease.open_calls(), request.happening, request.at)
                run = amendment.run
                calls |= {call.id: call for call in amendment.updated}
        except InvalidTransitionError:
            with contextlib.suppress(OSError):
                os.rename(_path(lease.files, name), _path(lease.files, name, Fate.REFUSED))
        else:
            done.append(name)
    if done:
        lease.write(at=run.updated_at, run=run, calls=calls.values(), folded=tuple(done))
    return done


def troubles(folder: Folder, runs: str) -> Iterator[str]:
    """What cannot be read in a task's inbox: a line for each, with the remedy."""
    for found in _list(runs):
        path = f"{runs}/inbox/run-{found.run_id}.{found.name}.{found.fate}"
        if found.fate in {Fate.REFUSED, Fate.UNFINISHED}:
            continue
        try:
            _, reason = _decode(found.run_id, files.read(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            yield str(files.explain(error, folder.shown(path)))
            continue
        if reason:
            yield (
                f"{folder.shown(path)} is damaged: {reason}; it was not carried out: ask again "
                "for what was asked of the run, and delete the file"
            )


def _decode(run_id: str, text: bytes) -> tuple[Request | None, str]:
    """A request, or why it is none."""
    whole = line_of(text)
    if whole is None:
        return None, "the checksum does not fit"
    try:
        request = _decoder.decode(whole)
    except files.BAD_JSON as error:
        return None, files.explain_json(error, whole)
    if request.run_id != run_id:
        return None, f"it belongs to run {request.run_id[:80]}"
    return request, ""


def _list(runs: str) -> list[Found]:
    """The requests in a task's inbox, oldest first."""
    path = f"{runs}/inbox"
    try:
        names = os.listdir(path)
    except OSError:
        return []
    if not names or os.path.islink(path):
        return []
    matches = [match for name in names if (match := _NAME.match(name))]
    found = [Found(match[1], match[2], Fate(match[3])) for match in matches]
    return sorted(found, key=lambda one: one.name)


def _path(run: RunFiles, name: str, fate: Fate = Fate.WAITING) -> str:
    return f"{run.inbox}/run-{run.run_id}.{name}.{fate}"


def _is_at(descriptor: int, path: str) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.lstat(path))


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        return file.readall()

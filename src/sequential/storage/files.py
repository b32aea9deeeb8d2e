"""Files: read without following links, replaced as a whole, and errors that say what to do."""

import errno
import os
from pathlib import Path

import msgspec

from sequential.errors import StorageError, StorageFullError, StorageReadOnlyError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """A folder under the name its user gave it, which a later change of directory does not move."""

    def __init__(self, given: str | Path) -> None:
        self.given = os.path.expanduser(given)
        self.path = os.path.abspath(self.given)

    def shown(self, path: str) -> str:
        """`path` as the user knows it: relative if the folder was given relative."""
        inner = os.path.relpath(path, self.path)
        return os.path.normpath(os.path.join(self.given, inner))

    def holds(self, path: str) -> bool:
        """Whether `path` still lies in this folder when every link in it is followed."""
        return os.path.realpath(path).startswith(os.path.realpath(self.path) + os.sep)

    def make(self, path: str) -> None:
        """Create a folder in this one; raises `StorageError` if a link leads out of it."""
        if not self.holds(path):
            raise StorageError(
                f"{self.shown(path)} leads out of {self.given}, which is not followed: "
                "replace the symbolic link by a folder"
            )
        make_folder(path)


def explain(error: OSError, path: str) -> StorageError:
    """The error to show for a failed system call on the file shown as `path`."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFullError(
            f"{path}: {reason}: make room, then go on with `sequential-ecosystem resume`"
        )
    if error.errno in _REFUSED:
        return StorageReadOnlyError(
            f"{path}: {reason}: give this user permission to read and write the folder, "
            "or choose another one with --storage"
        )
    if error.errno == errno.ELOOP:
        return StorageError(f"{path} is a symbolic link, which is not followed: put a file there")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError(f"{path}: {reason}: raise the limit (`ulimit -n`) or drive fewer runs")
    return StorageError(f"{path}: {reason}")


BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError)


def explain_json(error: Exception, text: bytes) -> str:
    """What is wrong with the JSON of a file, and where: the byte, or the path of the value."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return f"this is not UTF-8 text (byte {wrong.start})"
    if isinstance(error, msgspec.ValidationError):
        return str(error) if " - at `" in str(error) else f"{error} - at `$`"
    return str(error) if "(byte " in str(error) else f"{error} (byte {len(text)})"


def open_to_read(path: str, flags: int = 0) -> int:
    """A descriptor for reading; the last part of `path` must not be a link."""
    return os.open(path, flags | _READ)


def read(path: str) -> bytes:
    with open(path, "rb", buffering=0, opener=open_to_read) as file:
        return file.readall()


def replace(
    path: str, data: bytes, *, durable: bool, suffix: str = ".tmp", mode: int = 0o666
) -> None:
    """Put `data` in place of the file at once: a reader finds the old content or the new.

    `durable`: what is written survives a power failure once this returns; without it, a file may
    come back empty. Two writers of one file need different suffixes.
    """
    temporary = path + suffix
    try:
        descriptor = os.open(temporary, _REPLACE, mode)
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        remove(temporary)
        error.filename = path
        raise
    if durable:
        sync_folder(os.path.dirname(path))


def create(path: str, data: bytes, suffix: str, *, durable: bool = True) -> None:
    """Write a new file that appears complete, or `FileExistsError`; `durable` as for `replace`."""
    temporary = path + suffix
    try:
        descriptor = os.open(temporary, _REPLACE | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _publish(temporary, path)
    except OSError as error:
        error.filename = path
        raise
    finally:
        remove(temporary)
    if durable:
        sync_folder(os.path.dirname(path))


def _publish(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):  # a file system without hard links
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.rename(temporary, path)


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(path: str) -> None:
    """Create a folder and those above it, so that they survive a power failure."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_folder(above)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    sync_folder(above)


def sync_folder(path: str) -> None:
    """Make names created in a folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def sync(descriptor: int) -> None:
    """Make what was written survive a power failure, as cheaply as the system can."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)

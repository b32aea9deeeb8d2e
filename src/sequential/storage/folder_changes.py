"""How processes that share a folder tell each other that something happened to a run.

`.changes` is a file of lines `<who> <run id>`, appended to by everybody and read from where one
stopped before. It exists once somebody has watched the folder. It is no truth and never waited for:
whoever misses a line finds the change by looking.
"""

import os
import secrets
import threading
import weakref
from collections.abc import Callable

from sequential.storage.files import Folder

NAME = ".changes"  # no name of a task begins with a dot
_LONGEST = 1 << 20  # bytes after which the file begins anew
_SOMETHING = ""  # the id that stands for any run
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Changes:
    """One adapter's end of the line."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._path = os.path.join(folder.path, NAME)
        self._me = secrets.token_hex(4)
        self._read: int | None = None  # bytes; None: not listening yet

    def tell(self, run_id: str) -> None:
        """Let the other processes know, if any of them listens."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | _FLAGS)
        except OSError:
            return
        try:
            if os.fstat(descriptor).st_size > _LONGEST:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{self._me} {run_id}\n".encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def listen(self) -> None:
        """From now on `hear` has something to tell; without the folder, once it is there."""
        try:
            self._read = self._end()
        except OSError:
            self._read = None

    def hear(self) -> list[str]:
        """Ids of the runs that others told of since the last time; "" stands for any run."""
        try:
            if self._read is None:
                self._read = self._end()
                return [_SOMETHING]  # whatever happened since the folder is there
            size = os.lstat(self._path).st_size
            if size == self._read:
                return []
            if size < self._read:
                self._read = 0
            return self._hear(self._read)
        except OSError:
            self._read = None
            return []

    def _end(self) -> int:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | _FLAGS, 0o666)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _hear(self, start: int) -> list[str]:
        descriptor = os.open(self._path, os.O_RDONLY | _FLAGS)
        try:
            text = os.pread(descriptor, 2 * _LONGEST, start)
        finally:
            os.close(descriptor)
        whole = text.rpartition(b"\n")[0]
        self._read = start + (len(whole) + 1 if whole else 0)
        lines = [line.partition(b" ") for line in whole.split(b"\n")]
        told = [run_id for who, _, run_id in lines if run_id and who != self._me.encode()]
        return list(dict.fromkeys(run_id.decode(errors="replace") for run_id in told))


class Polling:
    """A thread that looks again and again, as long as it `is_needed`.

    It holds its owner weakly, so it ends with it. Nothing runs while nothing is needed.
    """

    def __init__(
        self, interval: float, look: Callable[[], None], is_needed: Callable[[], bool]
    ) -> None:
        self._interval = interval
        self._look = weakref.WeakMethod(look)
        self._is_needed = weakref.WeakMethod(is_needed)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin unless it runs already."""
        with self._lock:
            if self._thread is None:
                self._stop = threading.Event()
                name, stop = "sequential-folder-poll", self._stop
                self._thread = threading.Thread(
                    target=self._run, args=(stop,), name=name, daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """End; returns when the last look is over."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(self._interval):
                if not self._go_on(stop):
                    return
        except BaseException:
            with self._lock:
                self._thread = None if not stop.is_set() else self._thread
            raise

    def _go_on(self, stop: threading.Event) -> bool:
        look, is_needed = self._look(), self._is_needed()
        if look is None or is_needed is None:
            return False
        look()
        with self._lock:
            if stop.is_set() or is_needed():
                return True
            self._thread = None
            return False

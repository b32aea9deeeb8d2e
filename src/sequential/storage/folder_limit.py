"""How many runs of a task are driven at the same time, strictly, across processes.

Whoever claims a run of a task with a limit does so under a lock of the task: it counts the others
and writes its claim before the next one counts.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from sequential.errors import RunBusyError, TaskLimitError
from sequential.storage.folder_lease import Lease
from sequential.storage.folder_places import RunFiles

_PATIENCE = 5.0  # seconds to wait for those who claim at the same moment
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def admitted(lease: Lease, count_driven: Callable[[RunFiles], int]) -> Iterator[None]:
    """The claim of a locked run is written in here; raises `TaskLimitError` if it is one too many.

    `count_driven` tells how many other runs of the task are driven.
    """
    most = lease.run.config.concurrency
    if most is None:
        yield
        return
    descriptor = os.open(f"{lease.files.runs}/.claiming", _LOCK, 0o666)
    try:
        _lock(descriptor, lease)
        if count_driven(lease.files) >= most:
            raise TaskLimitError(
                f"{most} runs of {lease.files.task} are being driven, which is its `concurrency`: "
                "try again later"
            )
        yield
    except BaseException:
        lease.close()  # before the next one counts
        raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, lease: Lease) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise RunBusyError(
                    f"other processes keep claiming runs of {lease.files.task}: try again later"
                ) from None
            time.sleep(0.002)
        else:
            return

"""Programs that a test starts, and that end when the process of the tests ends, however it does."""

import signal
import sys
import threading
from collections.abc import Sequence

# PR_SET_PDEATHSIG survives the program's taking the place of this one.
_FIRST = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]), 0, 0, 0)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def ending_with_us(command: Sequence[object], number: signal.Signals) -> list[str]:
    """The command, which gets a signal when we end.

    It does without `preexec_fn`: that makes a real fork, and those come to grief beside threads of
    grpc, whose handlers they run. The signal comes when the thread ends that started the program,
    so it must be the main one.
    """
    given = [str(part) for part in command]
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return given
    return [sys.executable, "-I", "-S", "-c", _FIRST, str(int(number)), *given]

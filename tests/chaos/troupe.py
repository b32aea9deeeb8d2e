"""Worker processes, and what is done to them."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("sequential-ecosystem")
FROZEN = 5.0  # seconds, longer than the lease in the project's settings
AWAKENING = 2.0  # seconds in which a worker that was frozen finds out what it has lost


class Troupe:
    """Workers on one project that are killed, frozen and replaced at random."""

    def __init__(self, project: Path, size: int, dice: random.Random) -> None:
        self._project = project
        self._dice = dice
        self._log = (project / "workers.log").open("ab")
        self._workers = [self._start() for _ in range(size)]
        self._frozen: dict[int, float] = {}  # index -> since when
        self.disturbances: list[tuple[float, float]] = []  # from, until: `time.monotonic`
        self.killed = self.stopped = 0

    def disturb(self) -> None:
        """Do something bad to one of them."""
        self.thaw()
        index = self._dice.choice([i for i in range(len(self._workers)) if i not in self._frozen])
        worker = self._workers[index]
        now = time.monotonic()
        if self._dice.random() < 0.6 or len(self._frozen) >= len(self._workers) - 2:
            worker.kill()
            worker.wait()
            self._workers[index] = self._start()
            self.killed += 1
            self.disturbances.append((now, time.monotonic()))
        else:
            worker.send_signal(signal.SIGSTOP)
            self._frozen[index] = now
            self.stopped += 1

    def thaw(self, *, everybody: bool = False) -> None:
        """Let those go on whose time is over."""
        for index, since in list(self._frozen.items()):
            if everybody or since + FROZEN <= time.monotonic():
                self._workers[index].send_signal(signal.SIGCONT)
                self.disturbances.append((since, time.monotonic() + AWAKENING))
                del self._frozen[index]

    def stop(self) -> Sequence[int]:
        """End them as an operator does; returns their exit codes."""
        self.thaw(everybody=True)
        for worker in self._workers:
            worker.terminate()
        codes = [worker.wait(timeout=30) for worker in self._workers]
        self._log.close()
        return codes

    def end(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        if not self._log.closed:
            self._log.close()

    def log(self) -> str:
        """What they wrote on stderr."""
        return (self._project / "workers.log").read_text(errors="replace")

    def _start(self) -> "subprocess.Popen[bytes]":
        arguments: list[str | Path] = [
            SCRIPT,
            "--project",
            self._project,
            "worker",
            "--concurrency",
            "20",
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DATABASE")}
        return subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=self._log, env=environment
        )

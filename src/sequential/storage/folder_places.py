"""Where things are in the folder store, from the names of the files alone.

Names are checked before they become paths, and links are not followed out of the folder.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sequential.core.names import check_run_id, check_task_name
from sequential.errors import InvalidNameError, RunNotFoundError
from sequential.storage.files import Folder

_JOURNAL = re.compile(r"run-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.journal\Z")
_REMEMBERED = 10_000  # runs whose task is known without looking for it


def is_run_id(text: str) -> bool:
    try:
        check_run_id(text)
    except InvalidNameError:
        return False
    return True


class RunFiles(NamedTuple):
    """Where one run lives: `runs/run-<id>.*` in the folder of its task."""

    folder: Folder
    task: str
    run_id: str

    @property
    def runs(self) -> str:
        return f"{self.folder.path}/{self.task}/runs"

    @property
    def journal(self) -> str:
        return f"{self.runs}/run-{self.run_id}.journal"

    @property
    def view(self) -> str:
        return f"{self.runs}/run-{self.run_id}.json"

    @property
    def snapshot(self) -> str:
        return f"{self.runs}/run-{self.run_id}.snapshot"

    @property
    def data(self) -> str:
        return f"{self.runs}/run-{self.run_id}.data"

    @property
    def inbox(self) -> str:
        """What is asked of the task's runs from outside: see `folder_inbox`."""
        return f"{self.runs}/inbox"


class Places:
    """The tasks and runs there are."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._tasks: dict[str, str] = {}

    def tasks(self) -> list[str]:
        """Names of the folders that can be tasks, sorted."""
        try:
            entries = list(os.scandir(self.folder.path))
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in entries if self._is_task(entry))

    def _is_task(self, entry: "os.DirEntry[str]") -> bool:
        try:
            check_task_name(entry.name)
        except InvalidNameError:
            return False
        return entry.is_dir() and (not entry.is_symlink() or self.folder.holds(entry.path))

    def runs(self, task: Any = None) -> Iterator[RunFiles]:
        """Every run, or those of one task or of a list of tasks, in no order."""
        for place in self.tasks_with_runs(task):
            for file in self._names_in(place.runs):
                if match := _JOURNAL.match(file):
                    yield place._replace(run_id=match[1])

    def tasks_with_runs(self, wanted: Any = None) -> Iterator[RunFiles]:
        """For each task, or those wanted, the place of a run without its id."""
        names = None if wanted is None else {wanted} if isinstance(wanted, str) else set(wanted)
        for name in self.tasks():
            place = RunFiles(self.folder, name, "")
            if (names is None or name in names) and self._is_inside(place.runs):
                yield place

    def _is_inside(self, path: str) -> bool:
        return not os.path.islink(path) or self.folder.holds(path)

    @staticmethod
    def _names_in(path: str) -> list[str]:
        try:
            return os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def find(self, run_id: str) -> RunFiles | None:
        """Where a run is; None if there is no such run."""
        if not is_run_id(run_id):
            return None
        if (task := self._tasks.get(run_id)) and (run := self._run(task, run_id)):
            return run
        for task in self.tasks():
            if run := self._run(task, run_id):
                if len(self._tasks) >= _REMEMBERED:
                    self._tasks.clear()
                self._tasks[run_id] = task
                return run
        return None

    def _run(self, task: str, run_id: str) -> RunFiles | None:
        run = RunFiles(self.folder, task, run_id)
        if not os.path.lexists(run.journal):
            return None
        linked = os.path.islink(os.path.dirname(run.runs)) or os.path.islink(run.runs)
        return None if linked and not self.folder.holds(run.runs) else run

    def existing(self, run_id: str) -> RunFiles:
        if run := self.find(run_id):
            return run
        raise RunNotFoundError(f"there is no run {run_id[:80]}")

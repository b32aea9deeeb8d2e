"""The tasks of a folder as files that people edit, beside another store that has tasks, too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sequential.core.content import content_hash
from sequential.core.model import TaskFunction, evolve
from sequential.core.names import check_task_name
from sequential.errors import ConfigError
from sequential.storage import files, folder_tasks
from sequential.storage.files import Folder
from sequential.storage.folder_places import Places


class TaskFiles:
    """Reads and writes them, and remembers what was last exchanged with the other store."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Folder(folder)

    def names(self) -> list[str]:
        """The folders that may hold a task, sorted."""
        with self._explained(self._folder.path):
            return sorted(Places(self._folder).tasks())

    def shown(self, name: str) -> str:
        """The path of a task's folder, as the user knows it."""
        return self._folder.shown(self._path(name))

    def read(self, name: str) -> TaskFunction | None:
        """A task, or None; raises `ConfigError` and `InvalidTaskError` naming file and place."""
        with self._explained(self._path(name)):
            task = folder_tasks.read(self._folder, name)
        # Under the folder's name, as the engine stores it.
        return task and evolve(task, config=evolve(task.config, name=name))

    def is_exchanged(self, task: TaskFunction) -> bool:
        """Whether another store has been given this task as it is, or it came from there."""
        path = self._path(task.identifier)
        with self._explained(path):
            synced = folder_tasks.read_meta(self._folder, path).synced
        return synced == digest(task)

    def note_exchanged(self, task: TaskFunction) -> None:
        """Remember that another store has this task as it is."""
        if not self.is_exchanged(task):
            path = self._path(task.identifier)
            with self._explained(path):
                folder_tasks.write_meta(path, task, digest(task))

    def write(self, task: TaskFunction) -> None:
        """Put a task of another store into the folder, over whatever is there."""
        path = self._path(task.identifier)
        with self._explained(path):
            self._folder.make(path)
            try:
                meta = folder_tasks.read_meta(self._folder, path)
            except ConfigError:
                meta = folder_tasks.Meta()
            version = meta.version + 1 if meta.created else 1
            task = evolve(task, version=version, created_at=meta.created or task.created_at)
            folder_tasks.write(path, task, digest(task))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.path, check_task_name(name))

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = error.filename if isinstance(error.filename, str) else path
            raise files.explain(error, self._folder.shown(place)) from error


def digest(task: TaskFunction) -> str:
    return content_hash(task.code, task.config, task.filename)

"""The files of a project that people edit, and which of them have changed."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from watchfiles import awatch

from sequential.config import FILE_NAME

STEP = 20  # milliseconds without news after which a change is told
LONGEST = 200  # milliseconds that changes may be collected for
SWEEP = 1000  # milliseconds to the next look where the system told of nothing


# When a file was written, and a little more, in case that it was twice in a moment.
Written = tuple[int, int, int]


class Edited(NamedTuple):
    """What has changed: tasks by name, whether settings or services have, and other modules."""

    tasks: frozenset[str] = frozenset()
    settings: bool = False
    services: bool = False
    modules: frozenset[Path] = frozenset()


class ProjectFiles:
    """Looks after the tasks, the services, the settings and the modules of a project.

    Folders are watched one by one: what the engine writes about runs is in folders of its own,
    which may be very many. Word from the system is only a reason to look, so none is needed for
    anything that happened while folders came and went.
    """

    def __init__(self, project: Path, tasks: Path) -> None:
        self._project = project
        self._tasks = tasks
        self._services = project / "services"
        self._seen = self._look()

    async def edits(self) -> AsyncIterator[Edited]:
        """What has changed since the object was made, and from then on, as soon as it has."""
        while True:
            folders = self._folders()
            watching = awatch(
                *folders,
                watch_filter=None,
                debounce=LONGEST,
                step=STEP,
                rust_timeout=SWEEP,
                yield_on_timeout=True,
                recursive=False,
                ignore_permission_denied=True,
            )
            try:
                if edited := await self._look_again():
                    yield edited
                async for _ in watching:
                    if edited := await self._look_again():
                        yield edited
                    if self._folders() != folders:
                        break
            except FileNotFoundError:  # a folder has gone just now
                continue
            finally:
                await watching.aclose()

    def task_names(self) -> list[str]:
        """The folders that hold something of a task, those that were edited last at first."""
        edited: dict[str, int] = {}
        for path, (moment, *_) in self._seen.items():
            if self._is_of_task(path):
                name = path.parent.name
                edited[name] = max(edited.get(name, 0), moment)
        return sorted(edited, key=lambda name: (-edited[name], name))

    async def _look_again(self) -> Edited | None:
        seen = await asyncio.to_thread(self._look)
        before, self._seen = self._seen, seen
        changed = [path for path in {**before, **seen} if before.get(path) != seen.get(path)]
        return self._sorted(changed) if changed else None

    def _sorted(self, changed: Iterable[Path]) -> Edited:
        rest = set(changed)
        tasks = {path for path in rest if self._is_of_task(path)}
        settings = self._project / FILE_NAME
        services = {path for path in rest if self._services in path.parents}
        return Edited(
            frozenset(path.parent.name for path in tasks),
            settings in rest,
            bool(services),
            frozenset(rest - tasks - services - {settings}),
        )

    def _is_of_task(self, path: Path) -> bool:
        return path.parent.parent == self._tasks

    # --- what there is -----------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        """What is watched; new folders in one of these are seen in it."""
        tasks = [self._tasks, *_folders_in(self._tasks)] if self._tasks.is_dir() else []
        return [self._project, *tasks, *self._packages()]

    def _packages(self) -> list[Path]:
        """The folders of the project that hold modules of its own."""
        found: list[Path] = []
        ahead = _folders_in(self._project)
        while ahead:
            folder = ahead.pop()
            is_ours = folder != self._tasks and not (folder / "pyvenv.cfg").exists()
            if is_ours and any(folder.glob("*.py")):
                found.append(folder)
                ahead.extend(_folders_in(folder))
            elif folder == self._services:
                found.append(folder)
        return sorted(found)

    def _look(self) -> dict[Path, Written]:
        """All files that count, with what tells one that was written again."""
        found: dict[Path, Written] = {}
        for folder in _folders_in(self._tasks):
            found.update(_files_in(folder, ".py", ".js", ".json"))
            found.pop(folder / "meta.json", None)  # the engine's own
        for folder in (self._project, *self._packages()):
            found.update(_files_in(folder, ".py"))
        with contextlib.suppress(OSError):
            found[self._project / FILE_NAME] = _written((self._project / FILE_NAME).stat())
        return found


def _files_in(folder: Path, *endings: str) -> Iterator[tuple[Path, Written]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(endings) and entry.name[0] != ".":
                with contextlib.suppress(OSError):
                    yield folder / entry.name, _written(entry.stat())


def _written(stat: os.stat_result) -> Written:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder but for hidden ones and what Python and others put there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                folder / entry.name
                for entry in entries
                if entry.is_dir() and entry.name[0] not in "._" and entry.name != "node_modules"
            )
    except OSError:
        return []

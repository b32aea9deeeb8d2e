"""A project that somebody works on: what is edited counts at once, and what is wrong is told.

Tasks are checked when they are saved, and copied into the store if it is not their folder.
Services, settings and modules are loaded again in place, so that runs in flight go on with what
they have. What cannot be loaded changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from sequential.config import Settings
from sequential.core.model import InputField, TaskFunction
from sequential.errors import ConfigError, SequentialError, StorageError, TaskNotFoundError
from sequential.runner.checking import TaskProblem, hindering, task_problems
from sequential.runner.engine import Engine
from sequential.runner.renewal import forget_modules, renew_services, renew_settings
from sequential.runner.task_sync import TaskSync
from sequential.services.base import Service
from sequential.web.channel import Channel, event
from sequential.web.project_files import Edited, ProjectFiles

log = logging.getLogger("sequential.web")

GRACE = 60.0  # seconds in which calls of a service that was replaced may end
AGAIN = 1.0  # seconds until a task is looked at again after trouble with the store


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong, with its file as a path to open and the line as it is written."""

    file: str = ""
    line: int | None = None
    column: int | None = None
    message: str
    instead: str = ""
    severity: str = "error"
    source: str = ""


class ShownTask(msgspec.Struct, frozen=True):
    """A task of the project and what is wrong with it. `version` is that of the store."""

    name: str
    runtime: str = "sandbox"
    inputs: tuple[InputField, ...] = ()
    has_graph: bool = False
    version: int | None = None
    problems: tuple[Problem, ...] = ()


class State(msgspec.Struct, frozen=True):
    """All that a page shows. `restart` names settings that count when the server is restarted."""

    project: str
    storage: str
    tasks: tuple[ShownTask, ...]
    services: tuple[Problem, ...] = ()
    settings: tuple[Problem, ...] = ()
    restart: tuple[str, ...] = ()
    checking: int = 0  # tasks that have not been looked at yet


class News(NamedTuple):
    """What a save has led to: of which task or else, in words, and what is wrong with it."""

    subject: str
    text: str
    problems: tuple[Problem, ...] = ()


class Workshop:
    """Takes over what is edited, as long as `run` does. `channel` has the state for pages.

    `read_settings` gives the settings as they are in the file, or raises; `files` are those of the
    project as they were when the engine was opened, if not now; `tell` hears the news.
    """

    def __init__(
        self,
        engine: Engine,
        read_settings: Callable[[], Settings],
        files: ProjectFiles | None = None,
        *,
        tell: Callable[[News], None] = lambda _: None,
    ) -> None:
        settings = engine.settings
        self.channel = Channel()
        self._engine = engine
        self._read_settings = read_settings
        self._tell = tell
        self._files = files or ProjectFiles(settings.project, settings.tasks)
        self._copies = engine.backend != "folder"
        self._tasks: dict[str, ShownTask] = {}
        self._due = dict.fromkeys(reversed(self._files.task_names()), False)  # True: it was saved
        self._busy: set[str] = set()  # the one that is being looked at
        self._wanted = asyncio.Event()
        self._services: tuple[Problem, ...] = ()
        self._settings: tuple[Problem, ...] = ()
        self._restart: tuple[str, ...] = ()
        self._replaced: list[list[Service]] = []  # that may still perform calls
        self._closing: set[asyncio.Task[None]] = set()

    def state(self) -> State:
        """Everything as it is at the moment."""
        settings = self._engine.settings
        return State(
            settings.project.resolve().name,
            self._engine.backend,
            tuple(task for _, task in sorted(self._tasks.items())),
            self._services,
            self._settings,
            self._restart,
            len(self._due.keys() | self._busy),
        )

    async def run(self) -> None:
        """Look after the project until this is cancelled."""
        checking = asyncio.create_task(self._check_on())
        self._wanted.set()
        try:
            async for edited in self._files.edits():
                await self._take(edited)
        finally:
            self.channel.end()
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
            while self._replaced:
                await _close(self._replaced.pop())

    # --- what was edited -------------------------------------------------------------------------

    async def _take(self, edited: Edited) -> None:
        has_other_http = edited.settings and self._take_settings()
        forget_modules(edited.modules)
        if edited.services or edited.modules or has_other_http:
            told = edited.services or bool(edited.modules)
            offered = self._offered()
            await self._take_services(http=has_other_http, is_told=told)
            if self._offered() != offered:  # what tasks may call is another thing now
                self._due = dict.fromkeys(reversed(self._files.task_names()), False) | self._due
        for name in edited.tasks:
            self._due.pop(name, None)  # the newest is looked at first
            self._due[name] = True
        self._wanted.set()
        self._show()

    def _take_settings(self) -> bool:
        """Use the settings as they are now; whether those of `fetch` have changed."""
        before = self._engine.settings.http
        try:
            settings = self._read_settings()
        except ConfigError as error:
            self._settings = (Problem(message=str(error)),)
            self._tell(News("settings", "the old ones stay", self._settings))
            return False
        restart = renew_settings(self._engine, settings)
        text = "taken over"
        if restart:
            text += f", but {', '.join(restart)}: restart for that"
        self._settings, self._restart = (), tuple(restart)
        self._tell(News("settings", text))
        return self._engine.settings.http != before

    async def _take_services(self, *, http: bool, is_told: bool) -> None:
        try:
            replaced = await renew_services(self._engine, http=http)
        except SequentialError as error:
            self._services = (Problem(message=str(error)),)
            self._tell(News("services", "the old ones stay", self._services))
            return
        was_wrong, self._services = bool(self._services), ()
        if is_told or was_wrong:
            self._tell(News("services", "loaded again"))
        if replaced:
            self._replaced.append(replaced)
            asyncio.get_running_loop().call_later(GRACE, self._forget, replaced)

    def _offered(self) -> dict[str, tuple[str, ...]]:
        """The methods of the project's own services."""
        services = self._engine.services
        own = [name for name in services.names() if services.origin(name) == "project"]
        return {name: tuple(found.methods()) for name in own if (found := services.find(name))}

    def _forget(self, replaced: list[Service]) -> None:
        if replaced in self._replaced:  # if not, all are closed already
            self._replaced.remove(replaced)
            closing = asyncio.create_task(_close(replaced))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    # --- what is wrong with tasks ----------------------------------------------------------------

    async def _check_on(self) -> None:
        """Look at one task after the other, those that were saved last first."""
        while True:
            await self._wanted.wait()
            if not self._due:
                self._wanted.clear()
                self._show()
                continue
            name, was_saved = self._due.popitem()
            self._busy = {name}
            try:
                found = await self._checked(name)
            except StorageError as error:
                found = ShownTask(name, problems=(Problem(message=f"{error}; trying again"),))
                self._due = {name: was_saved} | self._due
                self._note(name, found, was_saved=False)
                await asyncio.sleep(AGAIN)
                continue
            except Exception as error:
                log.exception("%s could not be checked", name)
                message = f"it could not be checked: {type(error).__name__}: {error}"
                found = ShownTask(name, problems=(Problem(message=message),))
            self._note(name, found, was_saved=was_saved)

    def _note(self, name: str, found: ShownTask | None, *, was_saved: bool) -> None:
        """Keep what was found, and tell it if it is new or was asked for by a save."""
        self._busy = set()
        before = self._tasks.pop(name, None)
        if found is None:
            if before is not None:
                self._tell(News(name, "it is gone"))
        else:
            self._tasks[name] = found
            old = before.problems if before else ()
            if was_saved or found.problems != old:
                self._tell(News(name, _in_words(found), found.problems))
        self._show()

    async def _checked(self, name: str) -> ShownTask | None:
        """A task as it is now, in the store if it belongs there; None if there is none."""
        try:
            if self._copies:
                return await self._copied(name)
            task = await self._engine.storage.get_task_function(name)
        except StorageError:
            raise
        except TaskNotFoundError:
            return None
        except SequentialError as error:
            return ShownTask(name, problems=(Problem(message=str(error)),))
        if task is None:
            return None
        found = await asyncio.to_thread(task_problems, task, self._engine.services)
        return self._shown(task, found, task.version)

    async def _copied(self, name: str) -> ShownTask | None:
        checked: list[tuple[TaskFunction, list[TaskProblem]]] = []

        def check(task: TaskFunction) -> list[str]:
            found = task_problems(task, self._engine.services)
            checked.append((task, found))
            in_code = [one for one in found if one.file != "config.json"]
            return [one.message for one in hindering(task, in_code)]

        settings = self._engine.settings
        sync = TaskSync(settings.tasks, self._engine.storage, now=self._engine.now(), check=check)
        [synced] = (await sync.push(name)).tasks
        for task, found in checked:
            return self._shown(task, found, synced.version)
        return ShownTask(name, problems=tuple(Problem(message=one) for one in synced.problems))

    def _shown(
        self, task: TaskFunction, found: Iterable[TaskProblem], version: int | None
    ) -> ShownTask:
        config, lines = task.config, task.code.split("\n")
        folder = self._engine.settings.tasks / task.identifier
        problems = tuple(
            Problem(**msgspec.structs.asdict(one) | {"file": str(folder / one.file)}, source=source)
            for one in found
            for source in [_line(lines, one)]
        )
        name, has_graph = task.identifier, config.graph is not None
        return ShownTask(name, config.runtime, config.inputs, has_graph, version, problems)

    def _show(self) -> None:
        self.channel.put("state", event("state", self.state()))
        self.channel.tell()


def _in_words(task: ShownTask) -> str:
    count = sum(one.severity != "note" for one in task.problems)
    if count:
        return f"{count} problem{'s' if count > 1 else ''}"
    return "no problems" if task.version is None else f"no problems, version {task.version}"


def _line(lines: Sequence[str], problem: TaskProblem) -> str:
    is_there = problem.line is not None and 0 < problem.line <= len(lines)
    return lines[problem.line - 1][:500] if is_there and problem.line else ""


async def _close(services: Iterable[Service]) -> None:
    for service in services:
        try:
            await service.close()
        except Exception:
            log.exception("the service %s could not be closed", service.name)

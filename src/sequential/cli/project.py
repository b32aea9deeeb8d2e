"""A project as the command line sees it, and `init`, which makes one."""

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from sequential.cli import output
from sequential.cli.usage import WithExample
from sequential.errors import ConfigError, StorageUnreachableError, TaskNotFoundError

if TYPE_CHECKING:
    from sequential.config import Settings
    from sequential.runner.engine import Engine
    from sequential.runner.progress import Observer

T = TypeVar("T")

OPENING = 30.0  # seconds in which a store's server may come up, for those who wait for it

# What `init` writes into .gitignore, and why.
IGNORED = {
    ".sequential/": "the key of snapshots and secrets",
    ".documents/": "tokens, schedules and the audit log of the server",
    ".changes": "what processes that share the tasks folder tell each other",
}


class Project:
    """Where tasks and settings are, and how to open the engine on them."""

    def __init__(
        self,
        program: str,
        folder: Path | None,
        storage: str | None,
        *,
        for_others: bool = False,
    ) -> None:
        self.program = program
        self._for_others = for_others
        self._given = folder
        self._storage = storage
        self._settings: Settings | None = None

    @property
    def folder(self) -> Path:
        """The given folder, else the nearest one upwards that is a project."""
        from sequential.config import find_project

        if self._given is None:
            return find_project(Path())
        if not self._given.is_dir():
            raise ConfigError(f"there is no folder {str(self._given)!a} (--project)")
        return self._given

    @property
    def new_folder(self) -> Path:
        """The folder `init` works in: the given one, which need not exist, or the current one."""
        return self._given or Path()

    @property
    def settings(self) -> "Settings":
        if self._settings is None:
            self._settings = self.read_settings()
        return self._settings

    def read_settings(self) -> "Settings":
        """The settings as file, environment and flags have them at the moment."""
        from sequential.config import load_settings

        loopback: Literal["own", False] = False if self._for_others else "own"
        return load_settings(self.folder, adaptor=self._storage, allow_loopback=loopback)

    def with_storage(self, storage: str | None) -> "Project":
        """The same project on another storage; on its own if none is named."""
        return Project(self.program, self._given, storage or self._storage)

    def served(self, *, own_services: bool = False) -> "Project":
        """The same project for a server: its tasks reach this machine only if the file says so.

        With `own_services` its services are those that are here, not those of another server that
        the environment names: for a server that may be that one.
        """
        import msgspec

        project = Project(self.program, self._given, self._storage, for_others=True)
        if own_services:
            settings = project.settings
            remote = msgspec.structs.replace(settings.remote, base_url="")
            project._settings = msgspec.structs.replace(settings, remote=remote)
        return project

    @property
    def named_storage(self) -> str | None:
        """The storage that the command line names, if any."""
        return self._storage

    @property
    def keeps_files(self) -> bool:
        """Whether tasks are files in the tasks folder."""
        return self.settings.adaptor in ("default", "folder")

    def task_file(self, task: str, name: str) -> Path:
        """A file of a task, as a path to show and to open."""
        return self.settings.tasks / task / name

    def tasks_to_sync(self) -> list[str]:
        """The tasks of the tasks folder, when they are not run from there; sorted."""
        if self.keeps_files or self.settings.adaptor.partition(":")[0] == "memory":
            return []
        programs = [*self.settings.tasks.glob("*/code.py"), *self.settings.tasks.glob("*/code.js")]
        return sorted({path.parent.name for path in programs})

    def sync_command(self, task: str | None = None) -> str:
        """What to type to copy a task, or all, from the folder into this storage."""
        from sequential.config import masked

        adaptor = f" --adaptor {masked(self._storage)}" if self._storage else ""
        return f"{self.program} sync-tasks{adaptor}{f' --task {task}' if task else ''}"

    def with_engine(
        self,
        work: Callable[["Engine"], Awaitable[T]],
        observer: "Observer | None" = None,
        *,
        task: str | None = None,
        on_unreachable: Callable[[StorageUnreachableError], None] | None = None,
    ) -> T:
        """Run `work` with an engine that is closed afterwards.

        `task` is the one that it is about, if there is one: see `explaining`. With
        `on_unreachable`, which is told each time, a server that is down may come up first.
        """
        import asyncio

        async def main() -> T:
            async with self._engine(observer, on_unreachable) as engine:
                return await work(engine)

        with self.explaining(task):
            return asyncio.run(main())

    @contextlib.contextmanager
    def explaining(self, task: str | None) -> Iterator[None]:
        """Say of a task that is not found, but in the folder, how it gets into the storage."""
        try:
            yield
        except TaskNotFoundError as error:
            if task is None or task not in self.tasks_to_sync():
                raise
            raise TaskNotFoundError(
                f"the task {task} is in the tasks folder, but not in the storage yet: "
                f"`{self.sync_command(task)}` copies it"
            ) from error

    @contextlib.asynccontextmanager
    async def _engine(
        self,
        observer: "Observer | None",
        on_unreachable: Callable[[StorageUnreachableError], None] | None,
    ) -> AsyncIterator["Engine"]:
        import asyncio

        from sequential.runner.engine import Engine
        from sequential.runner.progress import nobody

        if (folder := str(self.folder.resolve())) not in sys.path:
            sys.path.append(folder)  # native tasks import modules of the project
        end = time.monotonic() + OPENING
        async with contextlib.AsyncExitStack() as stack:
            while True:
                opening = Engine(settings=self.settings, observer=observer or nobody)
                try:
                    engine = await stack.enter_async_context(opening)
                    break
                except StorageUnreachableError as error:
                    if on_unreachable is None or time.monotonic() > end:
                        raise
                    on_unreachable(error)
                await asyncio.sleep(0.5)
            yield engine


@click.command(
    "init",
    short_help="Make this folder a project.",
    cls=WithExample,
    example="""
    init
    --project ~/automation init
    """,
)
@click.pass_obj
def init_command(project: Project) -> None:
    """Make this folder a project: a tasks folder and a settings file.

    What exists is left as it is, so running it twice is fine.
    """
    from sequential.config import FILE_NAME, ProjectFile, read_project_file, write_project_file

    folder = project.new_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings_file = folder / FILE_NAME
        if settings_file.exists():
            content = read_project_file(folder)
            _report("exists", settings_file)
        else:
            content = ProjectFile()
            write_project_file(folder, content)
            _report("created", settings_file)
        tasks = folder / content.tasks
        _report("exists" if tasks.is_dir() else "created", tasks, "/")
        tasks.mkdir(parents=True, exist_ok=True)
        _ignore(folder / ".gitignore")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    where = "" if folder == Path() else f" --project {folder}"
    output.out(
        "\nNext:\n"
        f"  {project.program}{where} create-task my-task --inputs name\n"
        f'  {project.program}{where} run my-task --input \'{{"name": "Ada"}}\''
    )


def _ignore(path: Path) -> None:
    """Keep out of version control what belongs to this machine."""
    lines = path.read_text("utf-8", "surrogateescape").splitlines() if path.exists() else []
    there = {line.strip().strip("/") for line in lines}
    missing = [entry for entry in IGNORED if entry.strip("/") not in there]
    if not missing:
        _report("exists", path)
        return
    start = "\n" if lines and lines[-1].strip() else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(start + "".join(f"# {IGNORED[entry]}\n{entry}\n" for entry in missing))
    _report("changed" if lines else "created", path)


def _report(what: str, path: Path, end: str = "") -> None:
    output.out(f"{what:8} {output.clean(str(path))}{end}")

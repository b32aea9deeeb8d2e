"""The server for somebody who works on the tasks: `dev`."""

import json
import shlex
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import ConfigError, ServiceLoadError

if TYPE_CHECKING:
    import socket

    from sequential.runner.engine import Engine
    from sequential.web.project_files import ProjectFiles
    from sequential.web.workshop import News, Problem, ShownTask, Workshop

HOST = "127.0.0.1"  # what is half done is for nobody else


@click.command(
    "dev",
    short_help="Work on tasks: a server that takes over every save.",
    cls=WithExample,
    example="""
    dev
    dev --port 8080 --adaptor sqlite
    """,
)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="The port; 3000 if not set."
)
@click.option("--adaptor", metavar="NAME", help="The storage; else the project's.")
@click.pass_obj
def dev_command(project: Project, *, port: int | None, adaptor: str | None) -> int:
    """Serve this project on this machine, drive its runs, and take over what is edited.

    A save of a task, a service or the settings counts from the next run on, and is checked at once:
    here and on the page /dev. Runs in flight keep what they have; what is broken changes nothing.
    With a database, tasks are copied into it as `sync-tasks` does.
    """
    import asyncio

    from sequential.cli.serve import needs_server_extra

    project = project.with_storage(adaptor)
    _check_is_project(project)
    with needs_server_extra():
        from sequential.web.project_files import ProjectFiles
        from sequential.web.server import listening
    port = project.settings.server.port if port is None else port
    listener = listening(HOST, port)
    try:
        while True:
            files = ProjectFiles(project.folder, project.settings.tasks)  # before they are read
            try:
                code = _serve(project, listener, files)
            except ServiceLoadError as error:
                output.err(f"{output.one_line(str(error))}; beginning when that is mended")
                code = asyncio.run(_until_edited(files))
            if code is not None:
                return code
            project = project.with_storage(None)  # reads its settings again
    finally:
        listener.close()


async def _until_edited(files: "ProjectFiles") -> None:
    """Return when something of the project has been saved."""
    async for _ in files.edits():
        return


def _check_is_project(project: Project) -> None:
    """Make the folder a project if that is wanted; raises `ConfigError` where it is none."""
    from sequential.cli.project import init_command
    from sequential.config import FILE_NAME

    if (project.folder / FILE_NAME).is_file() or project.settings.tasks.is_dir():
        return
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        raise ConfigError(
            f"there is neither {FILE_NAME} nor a tasks folder here: `{project.program} init` makes "
            "this folder a project"
        )
    click.confirm("This folder is no project yet. Make it one?", default=True, abort=True, err=True)
    click.get_current_context().invoke(init_command)


def _serve(project: Project, listener: "socket.socket", files: "ProjectFiles") -> int | None:
    """Serve until a signal comes; None when something in here broke, so that it begins again."""
    import asyncio

    from sequential.cli.serve import STOPPING, waiting
    from sequential.cli.signals import stopped_by_signals
    from sequential.cli.workers import report, report_trouble
    from sequential.runner.worker import Worker
    from sequential.web.dev import dev_app
    from sequential.web.server import Server, address_of
    from sequential.web.workshop import Workshop

    async def work(engine: "Engine") -> int | None:
        import msgspec

        settings = msgspec.structs.replace(project.settings.server, host=HOST)
        workshop = Workshop(engine, project.read_settings, files, tell=_tell)
        engine.approvals.served_at(address_of(listener))
        server = Server(dev_app(engine, settings, workshop), settings)
        worker = Worker(engine, on_trouble=report_trouble)
        serving = asyncio.create_task(server.run_on(listener.dup()))
        working = asyncio.create_task(worker.run())
        looking = asyncio.create_task(workshop.run())

        def stop() -> None:
            output.hint(STOPPING)
            looking.cancel()
            server.stop()
            worker.stop()

        with stopped_by_signals(stop, leave=lambda: None) as received:
            suggesting = asyncio.create_task(_announce(project, listener, workshop))
            parts = [serving, working, looking]
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            suggesting.cancel()
            if not looking.cancelling():
                looking.cancel()
            server.stop()
            worker.stop()
            ended = await asyncio.gather(*parts, suggesting, return_exceptions=True)
        if received:
            return 128 + received[0]
        _tell_of_crash(ended)
        return None

    return project.with_engine(work, report, on_unreachable=waiting())


def _tell_of_crash(ended: list[Any]) -> None:
    """Say what broke, and that it goes on; runs go on where they were."""
    import traceback

    for error in ended:
        if isinstance(error, Exception):
            output.err(output.clean_lines("".join(traceback.format_exception(error)).rstrip()))
    output.err("Something broke in here, please report it. Starting again: runs go on.")


async def _announce(project: Project, listener: "socket.socket", workshop: "Workshop") -> None:
    """Where everything is, and a request that works when it is pasted."""
    from sequential.web.server import address_of

    url = address_of(listener)
    state, number = workshop.state(), -1
    where = output.clean(f"{project.folder.resolve()}, storage {state.storage}")
    output.hint(f"Serving {url}. Ctrl-C stops.")
    output.hint(f"  {url}/dev shows tasks, problems and runs of {where}")
    is_told = False
    while not (ready := [task for task in state.tasks if _is_ready(task)]):
        if not (state.tasks or state.checking or is_told):
            output.hint(f"  No task yet: {project.program} create-task hello --inputs name")
            is_told = True
        if workshop.channel.is_over:
            return
        await workshop.channel.wait(number, 60)
        state, number = workshop.state(), workshop.channel.number
    output.hint(f"  {_request(url, ready[0])}")


def _is_ready(task: "ShownTask") -> bool:
    return task.version is not None and all(one.severity != "error" for one in task.problems)


def _request(url: str, task: "ShownTask") -> str:
    """A command that runs a task, with a value for each field that needs one."""
    from sequential.cli.inputs import example_of

    defaults = {one.name: one.default for one in task.inputs if one.default is not None}
    values = example_of(task.inputs) | defaults
    body = shlex.quote(json.dumps({"input": values}))
    return f"curl {url}/tasks/{task.name} -H 'Content-Type: application/json' -d {body}"


def _tell(news: "News") -> None:
    """Lines on stderr: what a save has led to, and what is wrong."""
    at = datetime.now().astimezone()
    output.err(f"{at:%H:%M:%S} {output.clean(news.subject)}: {output.one_line(news.text)}")
    for problem in news.problems:
        _tell_problem(problem)


def _tell_problem(problem: "Problem") -> None:
    place = (problem.file, problem.line, problem.column)
    where = output.clean(":".join(str(part) for part in place if part))
    start = output.style(f"{where}: ", bold=True, file=sys.stderr) if where else ""
    kind = "" if problem.severity == "error" else f"{problem.severity}: "
    output.err(f"  {start}{kind}{output.one_line(problem.message)}")
    if problem.source and problem.column and output.is_terminal(sys.stderr):
        cut = max(problem.column - 70, 0)
        source = output.clean(problem.source.expandtabs(1).rstrip())
        output.err(f"      {source[cut : cut + 100]}")
        caret = output.style("^", "red", file=sys.stderr)
        output.err(f"      {' ' * (problem.column - 1 - cut)}{caret}")
    if problem.instead:
        instead = output.clean_lines(problem.instead).replace("\n", "\n      ")
        output.err(f"    write instead: {output.style(instead, 'green', file=sys.stderr)}")

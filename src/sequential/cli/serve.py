"""The HTTP server: `serve`."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import ConfigError, SequentialError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sequential.runner.engine import Engine
    from sequential.web.settings import ServerSettings

STOPPING = "Requests in progress end, runs are put away; once more ends the program at once."


@click.command(
    "serve",
    short_help="Start the HTTP server.",
    cls=WithExample,
    example="""
    serve
    serve --port 8080 --no-worker
    serve --host 0.0.0.0 --workers 4
    """,
)
@click.option("--host", metavar="HOST", help="The address to listen on; 127.0.0.1 if not set.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="The port; 3000 if not set."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=50,
    help="How many runs to drive at a time; 50 if not given.",
)
@click.option("--no-worker", is_flag=True, help="Drive no runs: `worker` processes do.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    default=1,
    help="Processes that share the port, each with runs of its own to drive; 1 if not given.",
)
@click.option("--listen-fd", type=int, hidden=True)  # the socket of the parent
@click.pass_obj
def serve_command(
    project: Project,
    *,
    host: str | None,
    port: int | None,
    concurrency: int,
    no_worker: bool,
    workers: int,
    listen_fd: int | None,
) -> int:
    """Answer over HTTP, and drive the runs that come in.

    Only programs on this machine reach it, unless `tokens create` has made a token or the variable
    SEQUENTIAL_TOKEN holds one. Ctrl-C or SIGTERM lets requests in progress end and parks what is
    being driven; a server that is killed loses nothing either.
    """
    with needs_server_extra():
        from sequential.web.processes import allow_many_files, inherited
        from sequential.web.server import listening

    import msgspec

    project = project.served()
    settings = project.settings.server
    settings = msgspec.structs.replace(settings, host=host or settings.host)
    allow_many_files()
    if listen_fd is not None:
        listener = inherited(listen_fd)
        return _serve(project, settings, listener, concurrency, not no_worker)
    if workers > 1 and project.settings.adaptor.partition(":")[0] == "memory":
        raise ConfigError("several processes cannot share memory: choose another storage")
    asks_for_token = _check(project, settings)
    listener = listening(settings.host, settings.port if port is None else port)
    how = f" with {workers} processes" if workers > 1 else ""

    def announce() -> None:
        _announce(listener, how, asks_for_token)

    if workers > 1:
        return _supervise(listener, workers, announce)
    return _serve(project, settings, listener, concurrency, not no_worker, announce)


@contextlib.contextmanager
def needs_server_extra() -> Iterator[None]:
    """Say of packages that are not installed which extra brings them."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("litestar", "uvicorn", "watchfiles"):
            raise
        raise click.ClickException(
            "the server needs an extra: pip install 'sequential-ecosystem[server]'"
        ) from error


def _check(project: Project, settings: "ServerSettings") -> bool:
    """Whether everybody needs a token; the store has time to come up.

    Raises `ConfigError` when the server must not listen there.
    """
    from sequential.web.auth import check_listening, given_token

    async def check(engine: "Engine") -> bool:
        await check_listening(settings.host, engine, settings)
        return bool(given_token()) or await engine.tokens.exist()

    return project.with_engine(check, on_unreachable=waiting())


def _serve(
    project: Project,
    settings: "ServerSettings",
    listener: "socket.socket",
    concurrency: int,
    drive: bool,
    announce: "Callable[[], None] | None" = None,
) -> int:
    """Serve in this process until a signal comes; without words of its own, as a child."""
    import asyncio

    from sequential.cli.signals import stopped_by_signals
    from sequential.web.app import create_app
    from sequential.web.door import is_loopback
    from sequential.web.processes import parent_is_gone
    from sequential.web.server import Server, address_of

    async def work(engine: "Engine") -> int:
        if is_loopback(settings.host):
            engine.approvals.served_at(address_of(listener))
        server = Server(
            create_app(engine, settings, drive=drive, concurrency=concurrency), settings
        )

        def stop() -> None:
            if announce is not None:
                output.hint(STOPPING)
            server.stop()

        async def stop_with_parent() -> None:
            await parent_is_gone()
            server.stop()

        watching = asyncio.create_task(stop_with_parent()) if announce is None else None
        with stopped_by_signals(stop, leave=lambda: None) as received:
            if announce is not None:
                announce()
            await server.run_on(listener)
        if watching is not None:
            watching.cancel()
        return 128 + received[0] if received else 0

    return project.with_engine(work, on_unreachable=waiting())


def _supervise(listener: "socket.socket", workers: int, announce: "Callable[[], None]") -> int:
    """Serve in several processes until a signal comes, or they refuse."""
    import asyncio

    from sequential.cli.signals import stopped_by_signals
    from sequential.web.processes import Processes, command_of_this_process

    async def work() -> int:
        command = [*command_of_this_process(), "--listen-fd"]
        processes = Processes(command, listener, workers, output.err)

        def stop() -> None:
            output.hint(STOPPING)
            processes.stop()

        with stopped_by_signals(stop, leave=processes.kill) as received:
            announce()
            code = await processes.run()
        return 128 + received[0] if received else code

    return asyncio.run(work())


def _announce(listener: "socket.socket", how: str, asks_for_token: bool) -> None:
    """Where the server is, and a request that works when it is pasted."""
    from sequential.web.server import address_of

    url = address_of(listener)
    output.hint(f"Serving {url}{how}. Ctrl-C stops.")
    token = ' -H "Authorization: Bearer $SEQUENTIAL_TOKEN"' if asks_for_token else ""
    output.hint(f"  curl '{url}/api/v1/tasks'{token}")


def waiting() -> "Callable[[SequentialError], None]":
    """Says once that the store is not there yet."""
    told: list[SequentialError] = []

    def tell(error: SequentialError) -> None:
        if not told:
            output.err(f"{output.one_line(str(error))}; trying again")
        told.append(error)

    return tell

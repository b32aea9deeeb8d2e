"""The HTTP server: `serve`."""

from typing import TYPE_CHECKING

import click
import msgspec

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample

if TYPE_CHECKING:
    from sequential.runner.engine import Engine


@click.command(
    "serve",
    short_help="Start the HTTP server.",
    cls=WithExample,
    example="""
    serve
    serve --port 8080 --no-worker
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
@click.pass_obj
def serve_command(
    project: Project, *, host: str | None, port: int | None, concurrency: int, no_worker: bool
) -> int:
    """Answer over HTTP, and drive the runs that come in.

    Only programs on this machine reach it, unless `tokens create` has made a token or the variable
    SEQUENTIAL_TOKEN holds one. Ctrl-C or SIGTERM lets requests in progress end and parks what is being driven; a server that is
    killed loses nothing either.
    """
    try:
        from sequential.web.app import create_app
        from sequential.web.auth import check_listening
        from sequential.web.server import Server, address_of, listening
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("litestar", "uvicorn"):
            raise
        raise click.ClickException(
            "the server needs an extra: pip install 'sequential-ecosystem[server]'"
        ) from error

    project = project.served()
    settings = project.settings.server
    settings = msgspec.structs.replace(settings, host=host or settings.host)
    listener = listening(settings.host, settings.port if port is None else port)

    async def work(engine: "Engine") -> int:
        await check_listening(settings.host, engine, settings)
        app = create_app(engine, settings, drive=not no_worker, concurrency=concurrency)
        server = Server(app)
        output.hint(f"Serving {address_of(listener)}. Ctrl-C stops.")
        await server.run_on(listener)
        return 0

    return project.with_engine(work)

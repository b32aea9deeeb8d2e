"""Services: `services list`, `services describe`, `services call`, `services start`."""

from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample

if TYPE_CHECKING:
    from sequential.runner.engine import Engine
    from sequential.services.base import CallError
    from sequential.services.describe import MethodDescription, ServiceDescription
    from sequential.web.services_server import ServicesServer

# What was wrong with the question, so that nothing was done.
_REFUSALS = frozenset(
    {"unknown_service", "unknown_method", "invalid_call", "refused", "missing_extra"}
)


@click.group(
    "services",
    short_help="What tasks may call: list, try, offer over HTTP.",
    cls=GroupWithExample,
    example="""
    services list
    services call crm find_customer --args '{"id": "1"}'
    """,
)
def services_command() -> None:
    """What tasks may call: the project's services/*.py, installed services, and built-in ones."""


@services_command.command(
    "list",
    short_help="All services there are.",
    cls=WithExample,
    example="""
    services list
    services list --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, as_json: bool) -> None:
    """All services: where each comes from, how many methods it has, what it is for.

    FROM is project (services/*.py), installed (a package's entry point), package (it comes with
    this program) or remote (.sequentialrc.json says where).
    """

    async def load(engine: "Engine") -> list[dict[str, Any]]:
        return [_listed(engine, name) for name in engine.services.names()]

    from sequential.cli import render

    found = project.with_engine(load)
    if as_json:
        output.document(found)
    elif found:
        columns = [
            render.Column("NAME"),
            render.Column("FROM"),
            render.Column("METHODS"),
            render.Column("DESCRIPTION", wide=True),
        ]
        render.table(columns, [_row(one) for one in found])
    else:
        output.hint("There are no services: write a function into services/NAME.py")


@services_command.command(
    "describe",
    short_help="A service's methods, with what they take and give.",
    cls=WithExample,
    example="""
    services describe crm
    services describe crm --json
    """,
)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="With JSON Schemas, on stdout.")
@click.pass_obj
def describe_command(project: Project, name: str, as_json: bool) -> None:
    """The methods of a service: arguments, results, what may be tried again, secrets."""
    import msgspec

    from sequential.services.base import CallError

    async def load(engine: "Engine") -> "ServiceDescription":
        return engine.services.describe(name)

    try:
        told = project.with_engine(load)
    except CallError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        output.document(msgspec.to_builtins(told))
        return
    output.out(f"{told.name}  {output.clean(_summary(told.description))}".rstrip())
    for method in told.methods:
        _print_method(method)
    if told.is_open:
        output.hint("It has more methods than are listed here.")


@services_command.command(
    "call",
    short_help="Call a method once, as a task would.",
    cls=WithExample,
    example="""
    services call crm find_customer --args '{"id": "1"}'
    services call crm find_customer --args '["1"]'
    """,
)
@click.argument("name")
@click.argument("method")
@click.option(
    "--args",
    "given",
    metavar="JSON",
    help="An object of named arguments, or an array; @FILE reads a file, - reads stdin.",
)
@click.option("--json", "as_json", is_flag=True, help="Of an error, too, a document on stdout.")
@click.pass_obj
def call_command(project: Project, name: str, method: str, given: str | None, as_json: bool) -> int:
    """Call a method of a service with secrets and retries, and print its value as JSON.

    Exit code: 0 done, 1 the call failed, 2 there is no such method, or it does not take this.
    """
    from sequential.cli.inputs import read_json
    from sequential.services.base import CallError

    args = {} if given is None else read_json(given, "--args")
    if not isinstance(args, dict | list):
        raise click.UsageError("--args takes an object of named arguments, or an array")

    async def call(engine: "Engine") -> Any:
        from sequential.core.model import Allow
        from sequential.core.values import to_json
        from sequential.runner.service_client import ServiceClient

        services, settings = engine.services, engine.settings.runner
        client = ServiceClient(engine.storage, services, keys=engine.keys, settings=settings)
        everything = Allow(services=(name, *services.names()))
        return to_json(await client.call(name, method, args, allow=everything))

    try:
        output.document(project.with_engine(call))
    except CallError as error:
        return _report_failure(error, as_json=as_json)
    return 0


@services_command.command(
    "start",
    short_help="Offer services over HTTP.",
    cls=WithExample,
    example="""
    services start
    services start crm gapi --port 3100
    services start deno-executor --separate-ports
    """,
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--host", metavar="HOST", default="127.0.0.1", help="127.0.0.1 if not given.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=3100,
    help="The first port; 3100 if not given, 0 for any that is free.",
)
@click.option(
    "--separate-ports",
    "separate",
    is_flag=True,
    help="A port for each service, in alphabetical order from --port on.",
)
@click.option(
    "--token", metavar="TEXT", help="Who calls has to send it; else SEQUENTIAL_TOKEN, if set."
)
@click.option("--json", "as_json", is_flag=True, help="Names, ports and URLs on stdout.")
@click.pass_obj
def start_command(
    project: Project,
    *,
    names: tuple[str, ...],
    host: str,
    port: int,
    separate: bool,
    token: str | None,
    as_json: bool,
) -> int:
    """Offer services over HTTP until Ctrl-C: POST /services/NAME {"method": ..., "kwargs": {}}.

    Without names: all that tasks may use without being allowed to. The original's executors have to
    be named, as they run what is sent to them, in the sandbox: deno-executor, task-executor,
    simple-stack-processor.
    """
    import asyncio

    from sequential.cli.signals import stopped_by_signals

    try:
        from sequential.web.auth import given_token
        from sequential.web.door import Door, check_door
        from sequential.web.services_server import ServicesServer, registry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("litestar", "uvicorn"):
            raise
        raise click.ClickException(
            "the server needs an extra: pip install 'sequential-ecosystem[server]'"
        ) from error

    given = given_token() if token is None else token.strip()
    check_door(host, given)

    async def serve(engine: "Engine") -> int:
        server = ServicesServer(_chosen(engine, names), host, port, separate=separate)
        try:
            if as_json:
                output.document({"services": registry(server.served)})
            else:
                _print_served(server)
            output.flush()
            stop = asyncio.Event()
            with stopped_by_signals(stop.set, leave=lambda: None) as received:
                await server.run(engine, Door(given), stop)
            return 128 + received[0] if received else 0
        finally:
            server.close()

    return project.served(own_services=True).with_engine(serve)


def _chosen(engine: "Engine", names: tuple[str, ...]) -> list[str]:
    """The services to offer; raises for one that there is not, or that cannot be used."""
    import difflib

    from sequential.web.executor_services import EXECUTORS

    services = engine.services
    if not names:
        chosen = [n for n in services.names() if services.is_for_all(n) and not services.missing(n)]
        if not chosen:
            raise click.UsageError("there are no services to offer: write services/NAME.py")
        return chosen
    known = sorted({*services.names(), *EXECUTORS})
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise click.UsageError(f"there is no service {name[:80]!a}: {hint}")
        if missing := services.missing(name):
            raise click.ClickException(missing)
    return list(dict.fromkeys(names))


def _listed(engine: "Engine", name: str) -> dict[str, Any]:
    services = engine.services
    told, missing = services.describe(name), services.missing(name)
    return {
        "name": name,
        "origin": services.origin(name),
        "description": "" if missing else told.description,
        "methods": [method.name for method in told.methods],
        "is_open": told.is_open,
        "missing": missing,
    }


def _row(listed: dict[str, Any]) -> list[str]:
    count = f"{len(listed['methods'])}{'+' if listed['is_open'] else ''}"
    told = listed["missing"] or _summary(listed["description"])
    return [listed["name"], listed["origin"], count, output.clean(told)]


def _print_method(method: "MethodDescription") -> None:
    required = method.parameters.get("required", ())
    parameters = [
        f"{name}{'' if name in required else '?'}: {_kind(schema)}"
        for name, schema in method.parameters.get("properties", {}).items()
    ]
    notes: list[str] = [method.retry]
    if method.timeout is not None:
        notes.append(f"{method.timeout:g} s")
    notes += [f"secret {name}" for name in method.secrets]
    line = f"  {method.name}({', '.join(parameters)}) -> {_kind(method.result)}"
    output.out(f"{output.clean(line)}  [{output.clean(', '.join(notes))}]")
    if method.description:
        output.out(f"      {output.clean(_summary(method.description))}")


def _kind(schema: dict[str, Any]) -> str:
    """A JSON Schema in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(one) for one in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = str(schema.get("type", "any"))
    items = schema.get("items")
    return f"array of {_kind(items)}" if kind == "array" and isinstance(items, dict) else kind


def _report_failure(error: "CallError", *, as_json: bool) -> int:
    failure = error.failure
    if as_json:
        told = {"type": failure.type, "message": failure.message, "code": failure.code}
        output.document({"error": told})
    output.err(f"Error: {output.one_line(str(failure))}")
    return 2 if failure.code in _REFUSALS else 1


def _print_served(server: "ServicesServer") -> None:
    width = max(len(one.name) for one in server.served)
    for one in server.served:
        output.out(f"{one.name:{width}}  {one.url}")
    output.hint("Ctrl-C stops.")


def _summary(text: str) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join(text.strip().partition("\n\n")[0].split())

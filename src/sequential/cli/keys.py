"""Secrets: `keys set`, `keys get`, `keys list`, `keys delete`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample
from sequential.errors import InvalidInputError

if TYPE_CHECKING:
    from sequential.runner.engine import Engine


@click.group(
    "keys",
    short_help="Keep secrets that tasks use by name.",
    cls=GroupWithExample,
    example="""
    keys set crm/token
    keys list
    """,
)
def keys_command() -> None:
    """Keep secrets that tasks and services use by name.

    A task writes {{secret:crm/token}} into a header of `fetch` and never sees the value. They are
    encrypted with SEQUENTIAL_SECRET, or the key in .sequential/secret.key, in every storage.
    """


@keys_command.command(
    "set",
    short_help="Keep a secret.",
    cls=WithExample,
    example="""
    keys set crm/token
    keys set crm/token < token.txt
    keys set google/key --value-file key.json
    """,
)
@click.argument("name")
@click.argument("source", required=False, metavar="[-]")
@click.option("--value-file", metavar="FILE", type=click.Path(path_type=Path), help="Read it here.")
@click.option("--value", metavar="TEXT", help="The value itself; a shell keeps it in its history.")
@click.pass_obj
def set_command(
    project: Project, name: str, source: str | None, value_file: Path | None, value: str | None
) -> None:
    """Keep a secret: asked for on a terminal, else read from stdin, or from a file.

    One line break at its end is left out.
    """
    from sequential.core.names import check_secret_name
    from sequential.runner.redaction import SHORTEST

    check_secret_name(name)
    if source not in (None, "-"):
        raise click.UsageError(
            "a value among the arguments stays in the shell's history: leave it out to be asked "
            "for it, pipe it in, or use --value if you must"
        )
    if sum(given is not None for given in (source, value_file, value)) > 1:
        raise click.UsageError("give one of -, --value-file and --value")
    secret = _value(name, value_file, value, from_stdin=source == "-")

    async def keep(engine: "Engine") -> None:
        await engine.keys.set(name, secret)

    project.with_engine(keep)
    output.out(f"set      {name}")
    if value is not None:
        output.hint("Your shell may have kept this command: delete the line from its history.")
    if len(secret) < SHORTEST:
        output.hint(
            f"It is shorter than {SHORTEST} characters: if a server repeats it in an answer, it "
            "cannot be told from other text there, and is stored with the answer."
        )


@keys_command.command(
    "get",
    short_help="Print a secret.",
    cls=WithExample,
    example="""
    keys get crm/token
    """,
)
@click.argument("name")
@click.pass_obj
def get_command(project: Project, name: str) -> None:
    """Print the value of a secret."""

    async def load(engine: "Engine") -> str:
        return await engine.keys.get(name)

    value = project.with_engine(load)
    output.out(output.clean_lines(value) if output.is_terminal(sys.stdout) else value)


@keys_command.command(
    "list",
    short_help="The names of all secrets.",
    cls=WithExample,
    example="""
    keys list
    keys list --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, as_json: bool) -> None:
    """The names of all secrets, one a line."""

    async def load(engine: "Engine") -> list[str]:
        return await engine.keys.list()

    names = project.with_engine(load)
    if as_json:
        output.document(names)
    elif names:
        output.out("\n".join(output.clean(name) for name in names))
    else:
        output.hint(f"There are no secrets yet: {project.program} keys set NAME")


@keys_command.command(
    "delete",
    short_help="Remove secrets.",
    cls=WithExample,
    example="""
    keys delete crm/token crm/id
    """,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def delete_command(project: Project, names: tuple[str, ...]) -> None:
    """Remove secrets: all that are named, or none if one of them is not there."""

    async def remove(engine: "Engine") -> None:
        await engine.keys.delete(*names)

    project.with_engine(remove)
    for name in dict.fromkeys(names):
        output.out(f"deleted  {name}")


def _value(name: str, file: Path | None, given: str | None, *, from_stdin: bool) -> str:
    if given is not None:
        return given
    if file is None and not from_stdin and output.is_terminal(sys.stdin):
        asked: str = click.prompt(f"Value of {name} (not shown)", hide_input=True, err=True)
        return asked
    where = "stdin" if file is None else output.clean(str(file))
    try:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInputError(f"{where} cannot be read: {reason}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the value in {where} is not UTF-8 text (byte {error.start}): encode it, for example "
            "with base64"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")

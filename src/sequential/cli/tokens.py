"""Who may use the server: `tokens create`, `tokens list`, `tokens revoke`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from sequential.cli import output
from sequential.cli.durations import Duration
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample

if TYPE_CHECKING:
    from sequential.core.bounds import TokenLimits
    from sequential.runner.engine import Engine
    from sequential.runner.tokens import Token


@click.group(
    "tokens",
    short_help="Say who may use the server.",
    cls=GroupWithExample,
    example="""
    tokens create dashboard
    tokens create ci --role operate --expires 90d
    tokens list
    """,
)
def tokens_command() -> None:
    """Make and revoke the tokens that let people and programs use `serve`.

    A token reads, or operates: starts, answers and cancels runs, stores tasks and secrets. Without
    any token, the server answers all programs on its own machine, and nobody else. Once there is
    one, everybody needs one.
    """


@tokens_command.command(
    "create",
    short_help="Make a token.",
    cls=WithExample,
    example="""
    tokens create dashboard
    tokens create ci --role operate --expires 90d
    tokens create guest --role operate --limits '{"runs": 5}'
    """,
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["read", "operate"]),
    default="read",
    help="What it is for: looking (read, if not given), or doing (operate).",
)
@click.option("--expires", type=Duration(), metavar="TIME", help="In how long: 12h, 30d, 8w.")
@click.option("--limits", metavar="JSON", help="What it may start and reach; see docs/server.md.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def create_command(
    project: Project,
    *,
    name: str,
    role: Literal["read", "operate"],
    expires: float | None,
    limits: str | None,
    as_json: bool,
) -> None:
    """Make a token for somebody, and print it on stdout: this once.

    The store keeps a digest of it, from which it cannot be had again.
    """
    import msgspec

    within = _limits(limits)

    async def make(engine: "Engine") -> "tuple[Token, str]":
        made = await engine.tokens.create(name, role, expires_in=expires, limits=within)
        await _note(engine, "tokens.create", made[0])
        return made

    record, text = project.with_engine(make)
    if as_json:
        output.document({**msgspec.to_builtins(record), "token": text})
        return
    output.out(text)
    end = f", until {record.expires_at}" if record.expires_at else ""
    output.hint(f"The token {record.id}, of the role {record.role}{end}. It is not shown again.")


@tokens_command.command(
    "list",
    short_help="The tokens there are.",
    cls=WithExample,
    example="""
    tokens list
    tokens list --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, as_json: bool) -> None:
    """The tokens there are, without what is to be sent: id, role, end, name."""
    import msgspec

    async def load(engine: "Engine") -> "tuple[list[Token], str]":
        return await engine.tokens.list(), engine.now()

    tokens, now = project.with_engine(load)
    if as_json:
        output.document(msgspec.to_builtins(tokens))
    elif tokens:
        output.out("\n".join(_line(token, now) for token in tokens))
    else:
        output.hint(f"There are no tokens yet: {project.program} tokens create NAME")


@tokens_command.command(
    "revoke",
    short_help="Take a token back.",
    cls=WithExample,
    example="""
    tokens revoke ci
    tokens revoke 1f0c93a4be27
    """,
)
@click.argument("tokens", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def revoke_command(project: Project, tokens: tuple[str, ...], as_json: bool) -> None:
    """Take tokens back, given by id, or by name where only one has it.

    Servers refuse it within two seconds. Runs that were started with it go on.
    """
    import msgspec

    async def revoke(engine: "Engine") -> "Sequence[Token]":
        revoked = await engine.tokens.revoke(*dict.fromkeys(tokens))
        for token in revoked:
            await _note(engine, "tokens.revoke", token)
        return revoked

    revoked = project.with_engine(revoke)
    if as_json:
        output.document(msgspec.to_builtins(revoked))
        return
    for token in revoked:
        output.out(f"revoked  {token.id}  {output.clean(token.name)}")


async def _note(engine: "Engine", action: str, token: "Token") -> None:
    """Write into the audit log what was done to a token."""
    await engine.audit.record(
        "command line", action, f"{token.name} ({token.id}), {token.role}", outcome="done"
    )


def _line(token: "Token", now: str) -> str:
    if token.expires_at is None:
        end = "does not expire"
    else:
        end = f"{'expired' if token.expires_at <= now else 'until'} {token.expires_at}"
    limited = ", with limits" if token.limits is not None else ""
    return f"{token.id}  {token.role:7}  {end}  {output.clean(token.name)}{limited}"


def _limits(text: str | None) -> "TokenLimits | None":
    import msgspec

    from sequential.core.bounds import TokenLimits

    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=TokenLimits)
    except (ValueError, RecursionError) as error:
        known = f"a JSON object with any of {', '.join(TokenLimits.__struct_fields__)}"
        raise click.UsageError(f"--limits: {error}; it is {known}") from error

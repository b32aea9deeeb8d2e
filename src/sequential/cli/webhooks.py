"""Addresses of tasks for other systems: `webhooks list`, `set`, `delete` and `url`."""

from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample
from sequential.errors import WebhookNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sequential.core.webhook import Webhook
    from sequential.runner.engine import Engine
    from sequential.runner.webhooks import Registered, Webhooks

STYLES = ("hmac", "github", "stripe", "slack", "bearer")  # those of core.webhook


@click.group(
    "webhooks",
    short_help="Begin or answer runs when other systems say so.",
    cls=GroupWithExample,
    example="""
    keys set github
    webhooks set deploy push --style github --secret github
    webhooks url deploy push
    """,
)
def webhooks_command() -> None:
    """Begin or answer runs when GitHub, Stripe, Slack or a program of yours says so.

    Deliveries go to the server, see `serve`, and have to be signed. Webhooks may also stand in
    config.json of a task.
    """


@webhooks_command.command(
    "list",
    short_help="All webhooks, and what is wrong with them.",
    cls=WithExample,
    example="""
    webhooks list
    webhooks list deploy
    """,
)
@click.argument("task", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, task: str | None, as_json: bool) -> None:
    """All webhooks, or those of a task."""

    async def load(engine: "Engine") -> "list[tuple[Registered, str]]":
        base = engine.approvals.base_url
        return [(one, base + one.path) for one in await engine.webhooks.list(task)]

    found = project.with_engine(load, task=task)
    if as_json:
        from sequential.cli import documents

        output.document([documents.webhook_document(one, url) for one, url in found])
    elif found:
        print_webhooks([one for one, _ in found])
    else:
        output.hint(f"There are no webhooks: {project.program} webhooks set TASK NAME --secret ...")


@webhooks_command.command(
    "set",
    short_help="Keep a webhook, or change one.",
    cls=WithExample,
    example="""
    webhooks set deploy push --style github --secret github
    webhooks set deploy push --start branch=$.ref
    webhooks set refund word --answer word --run $.order
    """,
)
@click.argument("task")
@click.argument("name")
@click.option("--style", type=click.Choice(STYLES), help="Who signs; hmac if not given.")
@click.option("--secret", metavar="KEY", help="The name of the secret in the keystore.")
@click.option(
    "--previous-secret", metavar="KEY", help="The name of one that counts as well; '' for none."
)
@click.option(
    "--start",
    "fields",
    metavar="FIELD=PATH",
    multiple=True,
    help="A field of the input and where it is: $.data.id in the body, $headers.x-name.",
)
@click.option("--answer", "event", metavar="EVENT", help="Answer runs that wait for this event.")
@click.option("--run", metavar="PATH", help="Where in the body the id of that run is.")
@click.option(
    "--tolerance", type=float, metavar="SECONDS", help="How old a signature may be; 300 by itself."
)
@click.option("--json", "as_json", is_flag=True, help="The webhook as JSON on stdout.")
@click.pass_obj
def set_command(project: Project, /, *, task: str, name: str, as_json: bool, **given: Any) -> None:
    """Keep a webhook, in place of one in config.json. What is not given stays as it is."""
    if (given["event"] is None) != (given["run"] is None):
        raise click.UsageError("--answer and --run go together")
    if given["event"] is not None and given["fields"]:
        raise click.UsageError("give one of --start and --answer")

    async def keep(engine: "Engine") -> "tuple[Registered, str]":
        webhooks = engine.webhooks
        done = await webhooks.set(task, await _changed(webhooks, task, name, given))
        return done, engine.approvals.base_url + done.path

    done, url = project.with_engine(keep, task=task)
    if as_json:
        from sequential.cli import documents

        output.document(documents.webhook_document(done, url))
        return
    output.out(f"set      {task}/{name}: {_what(done.webhook)}")
    output.out(f"url      {output.clean(url)}")
    if done.problem:
        output.hint(f"It takes nothing yet: {_remark(done)}")


@webhooks_command.command(
    "delete",
    short_help="Remove a webhook that was set.",
    cls=WithExample,
    example="""
    webhooks delete deploy push
    """,
)
@click.argument("task")
@click.argument("name")
@click.pass_obj
def delete_command(project: Project, task: str, name: str) -> None:
    """Remove a webhook that was set; one of its name in config.json counts again."""

    async def remove(engine: "Engine") -> None:
        await engine.webhooks.delete(task, name)

    project.with_engine(remove, task=task)
    output.out(f"deleted  {output.clean(f'{task}/{name}')}")


@webhooks_command.command(
    "url",
    short_help="Where the other system delivers to.",
    cls=WithExample,
    example="""
    webhooks url deploy push
    """,
)
@click.argument("task")
@click.argument("name")
@click.pass_obj
def url_command(project: Project, task: str, name: str) -> None:
    """The address to give to the other system: of server.public_url, if that is set."""

    async def load(engine: "Engine") -> "tuple[Registered, str]":
        return await engine.webhooks.get(task, name), engine.approvals.base_url

    found, base = project.with_engine(load, task=task)
    output.out(output.clean(base + found.path))
    if not base:
        output.hint("Set server.public_url to where the server is reached from outside.")


def print_webhooks(found: "Sequence[Registered]", *, of_one_task: bool = False) -> None:
    """Webhooks as a table; without their task where it is known."""
    from sequential.cli import render

    columns = [render.Column(title) for title in ("task", "webhook", "style", "secret", "does")]
    columns.append(render.Column("", wide=True))
    rows = [
        [
            *(one.task, output.clean(one.webhook.name), one.webhook.style),
            *(output.clean(one.webhook.secret), _what(one.webhook), _remark(one)),
        ]
        for one in found
    ]
    left_out = 1 if of_one_task else 0
    render.table(columns[left_out:], [row[left_out:] for row in rows])


async def _changed(
    webhooks: "Webhooks", task: str, name: str, given: "dict[str, Any]"
) -> "Webhook":
    """The webhook there is, else a new one, with what was given."""
    from sequential.core.model import evolve
    from sequential.core.webhook import Answering, Webhook

    try:
        old = (await webhooks.get(task, name)).webhook
    except WebhookNotFoundError:
        if not given["secret"]:
            raise click.UsageError("give --secret, the name of one in the keystore") from None
        old = Webhook(name, given["secret"])
    changes = {
        key: given[key] for key in ("style", "secret", "tolerance") if given[key] is not None
    }
    if given["previous_secret"] is not None:
        changes["previous_secret"] = given["previous_secret"] or None
    if given["event"] is not None:
        changes |= {"answer": Answering(given["event"], given["run"]), "start": None}
    if given["fields"]:
        changes |= {"start": dict(_field(text) for text in given["fields"]), "answer": None}
    return evolve(old, **changes)


def _field(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator:
        raise click.UsageError(f"--start {text!a}: write FIELD=PATH, as in amount=$.data.amount")
    return name, path


def _what(webhook: "Webhook") -> str:
    if webhook.answer is not None:
        return output.clean(f"answers {webhook.answer.event}")
    return "starts a run"


def _remark(one: "Registered") -> str:
    remarks = ["in config.json"] if one.origin == "config.json" else []
    if one.problem:
        remarks.append(output.one_line(one.problem))
    return ", ".join(remarks)

"""Settings: `config show`, `config get`, `config set`."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample

if TYPE_CHECKING:
    from sequential.config import ProjectFile

# Where the environment has the last word: variable -> the key it decides.
VARIABLES = {"TASK_TIMEOUT": "runner.timeout", "TASK_MAX_RETRIES": "retry.retries"}


@click.group(
    "config",
    short_help="See and change settings.",
    cls=GroupWithExample,
    example="""
    config show
    config set defaults.userId john
    """,
)
def config_command() -> None:
    """See and change the settings of the project, kept in .sequentialrc.json."""


@config_command.command(
    "show",
    short_help="All settings, and where each comes from.",
    cls=WithExample,
    example="""
    config show
    config show --json | jq .origins
    """,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def show_command(project: Project, as_json: bool) -> None:
    """Every setting as it is in force, and where it comes from."""
    from sequential.cli import render
    from sequential.config import FILE_NAME, read_project_file

    file = project.folder / FILE_NAME
    settings = _shown(_in_force(project))
    flat = _flat(settings)
    content = read_project_file(project.folder)
    origins = {key: _origin(key, content) for key in flat}
    if project.named_storage is not None:
        origins["adaptor"] = "--storage"
    if as_json:
        output.document(
            {
                "project": str(project.folder.absolute()),
                "file": str(file) if file.exists() else None,
                "settings": settings,
                "origins": origins,
            }
        )
        return
    columns = [render.Column("setting"), render.Column("value", wide=True), render.Column("from")]
    rows = [[output.clean(k), output.json_text(v, None), origins[k]] for k, v in flat.items()]
    render.table(columns, rows)
    if not file.exists():
        output.hint(f"There is no {FILE_NAME}: `{project.program} init` makes one.")


@config_command.command(
    "get",
    short_help="The value of one setting.",
    cls=WithExample,
    example="""
    config get adaptor
    config get --key retry.retries
    """,
)
@click.argument("key", required=False)
@click.option("--key", "named_key", metavar="KEY", help="The same, as an option.")
@click.pass_obj
def get_command(project: Project, key: str | None, named_key: str | None) -> None:
    """The value of a setting that is in force: text as it is, anything else as JSON."""
    from sequential.config import ProjectFile, get_setting

    content = ProjectFile(**_shown(_in_force(project)))
    value = get_setting(content, _one_of(key, named_key, "KEY"))
    output.out(output.clean_lines(value) if isinstance(value, str) else output.json_text(value))


@config_command.command(
    "set",
    context_settings={"ignore_unknown_options": True},  # so that -5 is a value
    cls=WithExample,
    example="""
    config set defaults.userId john
    config set --key retry.retries --value 5
    """,
)
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--key", "named_key", metavar="KEY", help="The same, as an option.")
@click.option("--value", "named_value", metavar="VALUE", help="The same, as an option.")
@click.pass_obj
def set_command(
    project: Project,
    key: str | None,
    value: str | None,
    named_key: str | None,
    named_value: str | None,
) -> None:
    """Change a setting. Numbers, true, false, null, objects and arrays are read as JSON."""
    from sequential.config import (
        FILE_NAME,
        change_setting,
        get_setting,
        masked,
        read_project_file,
        write_project_file,
    )

    if named_key is not None and key is not None and value is None and named_value is None:
        key, value = None, key  # config set --key KEY VALUE
    chosen = _one_of(key, named_key, "KEY")
    content = change_setting(
        read_project_file(project.folder), chosen, _one_of(value, named_value, "VALUE")
    )
    write_project_file(project.folder, content)
    written = get_setting(content, chosen)
    shown = written if isinstance(written, str) else output.json_text(written, None)
    shown = masked(shown) if chosen == "adaptor" else shown
    output.out(f"{output.clean(chosen)} = {output.clean(shown)}")
    if chosen == "adaptor":
        _remark_on_adaptor(project, content.adaptor)
    for variable, decided in _deciding(content).items():
        if decided == chosen:
            output.hint(f"The variable {variable} is set and has the last word over {FILE_NAME}.")


def _one_of(first: str | None, second: str | None, name: str) -> str:
    if first is None and second is None:
        raise click.UsageError(f"{name} is missing")
    if first is not None and second is not None:
        raise click.UsageError(f"{name} is given twice")
    return first if first is not None else second or ""


def _remark_on_adaptor(project: Project, adaptor: str) -> None:
    from sequential.runner.engine import Engine

    name = adaptor.partition(":")[0]
    known = Engine.adapters()
    if name not in (*known, "default"):
        note = output.style("Note:", "yellow", file=sys.stderr)
        output.err(
            f"{note} the adaptor {name[:40]!a} is not available here, so tasks cannot be "
            f"used until it is installed. There are: default, {', '.join(known)}. "
            f"Back: {project.program} config set adaptor default"
        )


def _in_force(project: Project) -> dict[str, Any]:
    """The settings in the form of `.sequentialrc.json`, with nothing left out."""
    import msgspec

    from sequential.config import read_project_file

    settings, content = project.settings, read_project_file(project.folder)
    http: dict[str, Any] = msgspec.to_builtins(settings.http)
    runner: dict[str, Any] = msgspec.to_builtins(settings.runner)
    retry = runner.pop("retry")
    return {
        "adaptor": settings.adaptor,
        "tasks": content.tasks,
        "defaults": settings.defaults,
        "retry": retry,
        "http": http,
        "runner": runner,
        "server": msgspec.to_builtins(settings.server),
        "services": msgspec.to_builtins(content.services),
    }


def _shown(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the password of a database."""
    from sequential.config import masked

    return settings | {"adaptor": masked(settings["adaptor"])}


def _given(content: "ProjectFile") -> set[str]:
    """The keys that the file itself sets."""
    import msgspec

    tree: dict[str, Any] = msgspec.to_builtins(content)
    return set(_flat(tree))


def _deciding(content: "ProjectFile") -> dict[str, str]:
    """The variables that are set and have the last word, with the keys they decide."""
    from sequential.config import adaptor_variable

    found = {name: key for name, key in VARIABLES.items() if os.environ.get(name, "").strip()}
    if chosen := adaptor_variable(stored=content.adaptor):
        found[chosen[0]] = "adaptor"
    return found


def _origin(key: str, content: "ProjectFile") -> str:
    for variable, decided in _deciding(content).items():
        if decided == key:
            return variable
    from sequential.config import FILE_NAME

    return FILE_NAME if key in _given(content) else "default"


def _flat(tree: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Dotted keys; an input's default is one value whatever it is."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value and not before.startswith("defaults."):
            found.update(_flat(value, f"{before}{key}."))
        else:
            found[before + key] = value
    return found

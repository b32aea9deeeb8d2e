"""The command `sequential-ecosystem`: its sub-commands, global options, and how errors are shown.

Exit codes: 0 done, 1 the run failed or something broke, 2 refused (nothing was started), 128 + the
signal's number after a signal. A sub-command's module is imported when it is used.
"""

import difflib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import NAMES, GroupWithExample
from sequential.errors import SequentialError

# In the order in which a newcomer needs them.
COMMANDS = {
    "init": "project",
    "create-task": "tasks",
    "run": "runs",
    "resume": "runs",
    "submit": "workers",
    "wait": "workers",
    "worker": "workers",
    "dev": "dev",
    "serve": "serve",
    "list": "tasks",
    "describe": "tasks",
    "history": "history",
    "show": "history",
    "graph": "diagrams",
    "answer": "operations",
    "send": "graphs",
    "cancel": "operations",
    "pause": "operations",
    "unpause": "operations",
    "retry": "operations",
    "delete": "tasks",
    "prune": "upkeep",
    "sync-tasks": "sync",
    "pull-tasks": "sync",
    "config": "settings",
    "keys": "keys",
    "tokens": "tokens",
    "services": "services",
    "schedules": "schedules",
    "webhooks": "webhooks",
}

EXIT_CODES = [
    ("0", "done; of a run: completed"),
    ("1", "the run failed, or something broke on this machine"),
    ("2", "refused, nothing was started: wrong usage, or there is no such task or run"),
    ("130", "interrupted by Ctrl-C; `resume` goes on"),
]


class Commands(GroupWithExample):
    """The sub-commands, each loaded from its module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        loaded = importlib.import_module(f"sequential.cli.{module}")
        command: click.Command = getattr(loaded, cmd_name.replace("-", "_") + "_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}."
            raise click.UsageError(f"there is no command {args[0][:80]!a}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)


@click.command(
    cls=Commands,
    example="""
    init
    create-task my-emails --inputs userId
    run my-emails --input '{"userId": "123"}'
    """,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--project",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The project's folder; else the nearest one upwards that has a .sequentialrc.json.",
)
@click.option(
    "--storage",
    "--adaptor",
    "storage",
    metavar="NAME",
    help="Another storage for this command only: folder, sqlite, or a URL as in DATABASE_URL.",
)
@click.option("--debug", is_flag=True, help="Show a traceback when the program itself breaks.")
@click.version_option(package_name=NAMES[0], message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, folder: Path | None, storage: str | None, debug: bool) -> None:
    """Durable tasks in plain Python: every call is a checkpoint, and a run survives any crash."""
    ctx.obj = Project(_program(), folder, storage)


def start() -> None:
    """Run the command line and leave the process."""
    output.prepare()
    code = 0
    try:
        code = run()
        output.flush()
    except output.OutputError as error:
        output.silence()
        if isinstance(error.cause, BrokenPipeError):
            code = 128 + signal.SIGPIPE
        else:
            code = _error(f"the output cannot be written: {error.cause.strerror}", 1)
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line with these arguments, else the process's; returns the exit code."""
    program = _program()
    try:
        result: Any = cli.main(arguments, prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        return _refused(error, program)
    except click.ClickException as error:
        return _error(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        output.err("")
        return 128 + signal.SIGINT
    except SequentialError as error:
        message = str(error).replace(f"`{NAMES[0]} ", f"`{program} ")
        if error.code == "invalid_graph":
            return _wrong_graph(message)
        return _error(message, 1 if error.fault == "engine" else 2)
    except output.OutputError:
        raise
    except Exception as error:
        if _is_debugging():
            raise
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _error(f"{told} (unexpected; `--debug` shows where, please report it)", 1)


def _refused(error: click.UsageError, program: str) -> int:
    path = error.ctx.command_path if error.ctx else program
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        output.err(error.format_message())
        return 2
    message = error.format_message().rstrip(".")
    end = "" if message.endswith(("?", "!")) else "."
    return _error(f"{message}{end} See `{path} --help`", 2)


def _wrong_graph(message: str) -> int:
    """All problems of a graph, a line for each: they are mended together."""
    first, *problems = message.splitlines()
    code = _error(first, 2)
    for problem in problems:
        output.err(f"  {output.one_line(problem)}")
    return code


def _error(message: str, code: int) -> int:
    text = output.one_line(message)
    if "://" in text or "=" in text:
        from sequential.config import masked

        text = masked(text)
    output.err(f"{output.style('Error:', 'red', bold=True, file=sys.stderr)} {text}")
    return code


def _program() -> str:
    """The name it was started under, for hints that can be copied."""
    name = Path(sys.argv[0]).name.removesuffix(".exe")
    return name if name in NAMES else NAMES[0]


def _is_debugging() -> bool:
    return "--debug" in sys.argv or os.environ.get("SEQUENTIAL_DEBUG", "") not in ("", "0")

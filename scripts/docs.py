"""Write the generated parts of `docs/`: what follows from the code is taken from the code.

    python scripts/docs.py            writes them again
    python scripts/docs.py --check    exits with 1 if a part does not fit the code any more

A part stands between `<!-- generated: name -->` and `<!-- end -->`.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from sequential import HttpSettings, Limits, RetryPolicy, RunnerSettings, errors
from sequential.cli.app import cli
from sequential.core import transitions
from sequential.web.settings import ServerSettings

ROOT = Path(__file__).parents[1]
PROGRAM = "sequential-ecosystem"
WIDTH = 96
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    changed = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        new = renewed(text)
        if new != text:
            changed.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(new)
    for name in changed:
        print(f"docs/{name} {'is out of date' if '--check' in sys.argv else 'written'}")
    return 1 if changed and "--check" in sys.argv else 0


def renewed(text: str) -> str:
    """A page with its generated parts as they should be."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}{PARTS[found[2]]()}{found[3]}"

    return PART.sub(part, text)


def commands() -> str:
    return "\n".join(_help_page(context) for context in _contexts(cli, PROGRAM, None))


def _contexts(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[click.Context]:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _contexts(found, below, context)


def _help_page(context: click.Context) -> str:
    shown = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    return f"## {context.command_path}\n\n```text\n{shown}\n```\n"


def error_table() -> str:
    rows: list[tuple[str, ...]] = [("code", "exception", "fault", "meaning")]
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.SequentialError)
    ]
    for kind in sorted(kinds, key=lambda kind: (kind.fault, kind.code)):
        rows.append((f"`{kind.code}`", f"`{kind.__name__}`", kind.fault, _first_line(kind)))
    return _table(rows)


def state_diagram() -> str:
    return f"```mermaid\n{transitions.diagram()}```\n"


def settings_tables() -> str:
    return "\n".join(
        f"{title}\n\n{_fields(kind, prefix)}"
        for title, kind, prefix in (
            ("`retry`: when a call that failed is tried again.", RetryPolicy, "retry"),
            ("`http`: times in seconds, sizes in bytes.", HttpSettings, "http"),
            ("`runner`: times in seconds.", RunnerSettings, "runner"),
            ("`server`: times in seconds, sizes in bytes.", ServerSettings, "server"),
        )
    )


def policy_table() -> str:
    return _fields(Limits, "limits")


PARTS: dict[str, Callable[[], str]] = {
    "cli": commands,
    "errors": error_table,
    "policy": policy_table,
    "settings": settings_tables,
    "states": state_diagram,
}

# What fields mean that have no comment in the code, because a programmer reads it in their names.
_MEANINGS = {
    "allow_loopback": (
        'the addresses of this machine, for every task; `"own"`: but for tasks that came over HTTP'
    ),
    "delay": "seconds before the second attempt",
    "factor": "how much longer each further wait is",
    "host": "the address to listen on; others than loopback need a token",
    "jitter": "part of a wait that differs from call to call",
    "max_delay": "the longest wait, in seconds",
    "max_redirects": "that one fetch may follow",
    "port": "the port to listen on; 0 chooses one that is free",
    "recursion": "levels of calls inside of calls",
    "retries": "further attempts after the first",
    "user_agent": "the header of that name, unless a call sets it",
}


def _fields(kind: type[msgspec.Struct], prefix: str) -> str:
    meanings = dict(re.findall(r"^    (\w+):.*?  # (.*)$", inspect.getsource(kind), re.MULTILINE))
    rows: list[tuple[str, ...]] = [("key", "meaning", "default")]
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, msgspec.Struct):
            continue  # it has a table of its own
        meaning = meanings.get(field.name) or _MEANINGS[field.name]
        rows.append((f"`{prefix}.{field.name}`", meaning, _default(field.default)))
    return _table(rows)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value in (None, "", ()) else f"`{value}`"


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _table(rows: list[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    head, *body = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"


if __name__ == "__main__":
    sys.exit(main())

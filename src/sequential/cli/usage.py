"""What `--help` shows besides the options: examples that can be copied."""

from typing import Any

import click

NAMES = ("sequential-ecosystem", "sequential")


class WithExample(click.Command):
    """A command whose help ends with examples, under the name the program was started by.

    `example` has one command line per line, without the program's name.
    """

    def __init__(self, *args: Any, example: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        program = ctx.find_root().info_name
        lines = self.example.strip().splitlines()
        with formatter.section("Example" if len(lines) == 1 else "Examples"):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{program} {line.strip()}\n")
        super().format_epilog(ctx, formatter)


class GroupWithExample(WithExample, click.Group):
    """The same for a command with sub-commands."""

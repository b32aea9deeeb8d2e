"""Tables and source lines for people: in colour and fitted to a terminal, plain text in a pipe."""

import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

from sequential.cli import output
from sequential.core.model import Failure

GAP = "  "
NARROWEST = 12  # columns that a wide column gets however narrow the terminal is

COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "running": "cyan",
    "in_progress": "cyan",
    "suspended": "cyan",
    "pending": "cyan",
}


class Column(NamedTuple):
    """A column of a table. A `wide` one takes the room that is left and is cut to it."""

    title: str
    justify: Literal["left", "right"] = "left"
    wide: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells, whose text must be harmless. A cell of the last column may have several lines.

    On a terminal the wide columns are cut to fit it; in a pipe nothing is cut, and a row is a line.
    """
    if output.is_terminal(sys.stdout):
        room = output.columns(sys.stdout)
        parted = [[cell.split("\n") for cell in row] for row in rows]
    else:
        room = None
        parted = [[[cell.replace("\n", GAP)] for cell in row] for row in rows]
    widths = _widths(columns, parted, room)
    titles = [column.title for column in columns]
    output.out(output.style(_line(columns, widths, titles), bold=True, file=sys.stdout))
    for cells in parted:
        for number in range(max(len(lines) for lines in cells)):
            texts = [lines[number] if number < len(lines) else "" for lines in cells]
            line = _line(columns, widths, texts)
            output.out(output.style(line, dim=True, file=sys.stdout) if number else line)


def status(text: str) -> str:
    """A status in its colour, for stdout."""
    return output.style(text, COLOURS.get(text), file=sys.stdout)


def heading(text: str) -> None:
    output.out("\n" + output.style(text, bold=True, file=sys.stdout))


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values below each other; what has no value is left out."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        if value:
            label = output.style(f"{name:{width}}", dim=True, file=sys.stdout)
            output.out(f"{label}  {value}")


def value(tree: object, most_lines: int = 40) -> None:
    """A value as indented JSON; of a long one the beginning."""
    lines = output.json_text(tree).splitlines()
    for line in lines[:most_lines]:
        output.out(f"  {line[:2000]}")
    if len(lines) > most_lines:
        output.out(f"  … {len(lines) - most_lines} more lines, all with --json")


def traceback(error: Failure) -> str:
    """What Python would print, with the task's own file, lines and source."""
    lines = [] if not error.traceback else ["Traceback (most recent call last):"]
    for frame in error.traceback:
        lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function or "?"}')
        if frame.source:
            lines.append(f"    {frame.source}")
    lines.append(str(error))
    return output.clean_lines("\n".join(lines))


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, most: int) -> str:
    """`text` in at most so many columns, with an ellipsis if something is missing."""
    if width(text) <= most:
        return text
    while text and width(text) > most - 1:
        text = text[:-1]
    return text + "…"


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[list[str]]], room: int | None
) -> list[int]:
    """The width of each column: what its cells need, and for wide ones what the room allows."""
    widths = [
        max(width(text) for text in (column.title, *(t for row in rows for t in row[number])))
        for number, column in enumerate(columns)
    ]
    wide = [number for number, column in enumerate(columns) if column.wide]
    if room is None or not wide:
        return widths
    fixed = sum(w for n, w in enumerate(widths) if n not in wide) + len(GAP) * (len(columns) - 1)
    left = max(room - fixed, NARROWEST * len(wide))
    for done, number in enumerate(sorted(wide, key=lambda n: widths[n])):
        widths[number] = min(widths[number], left // (len(wide) - done))
        left -= widths[number]
    return widths


def _line(columns: Sequence[Column], widths: Sequence[int], texts: Sequence[str]) -> str:
    cells = []
    for column, room, text in zip(columns, widths, texts, strict=True):
        shown = cut(text, room)
        padding = " " * (room - width(shown))
        coloured = output.style(shown, COLOURS.get(shown), file=sys.stdout)
        cells.append(padding + coloured if column.justify == "right" else coloured + padding)
    return GAP.join(cells).rstrip()

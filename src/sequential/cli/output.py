"""Writing to the two streams: documents on stdout, everything for people's eyes besides on stderr.

What a task or a server said is never trusted with the terminal: `clean` writes control characters
and invisible changes of the writing direction as escapes.
"""

import json
import os
import re
import sys
from typing import Any, TextIO

import click

_ESCAPED = "\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_HOSTILE = re.compile(f"[{_ESCAPED}]")
_HOSTILE_IN_TEXT = re.compile(f"(?![\n\t])[{_ESCAPED}]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


class OutputError(Exception):
    """Standard output cannot be written: a closed pipe, a full disk."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def prepare() -> None:
    """Let no character that the terminal's encoding lacks end the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def out(text: str) -> None:
    """One or more lines on stdout. Styles are dropped unless it is a terminal."""
    try:
        click.echo(text if has_colour(sys.stdout) else click.unstyle(text))
    except OSError as error:
        raise OutputError(error) from error


def err(text: str, *, end: str = "\n") -> None:
    """Text on stderr; one that cannot be written is dropped."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + end)
        sys.stderr.flush()
    except OSError:
        pass


def hint(text: str) -> None:
    """A remark on stderr that is easy to pass over."""
    err(style(text, dim=True, file=sys.stderr))


def document(value: Any) -> None:
    """One JSON document on stdout, indented for people, in characters that are safe to show."""
    out(json_text(value))


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON in which every character that could play tricks on a terminal is an escape."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    text = json.dumps(value, indent=indent, ensure_ascii=not unicode)
    return _HOSTILE_IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def clean(text: str) -> str:
    """`text` on one line and harmless."""
    return _HOSTILE.sub(_escape, text)


def clean_lines(text: str) -> str:
    """`text` with its line breaks and tabs, and harmless otherwise."""
    return _HOSTILE_IN_TEXT.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """A message of several lines as one, harmless."""
    return clean("; ".join(line.strip().rstrip(";") for line in text.splitlines() if line.strip()))


def style(
    text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False, file: TextIO
) -> str:
    """`text` in a colour, if the stream shows colours."""
    if not has_colour(file) or not (colour or bold or dim):
        return text
    return click.style(text, fg=colour, bold=bold or None, dim=dim or None)


def is_terminal(file: TextIO | None) -> bool:
    try:
        return file is not None and file.isatty()
    except ValueError:  # closed
        return False


def columns(file: TextIO) -> int:
    """The width of the terminal a stream goes to."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def has_colour(file: TextIO | None) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR or TERM=dumb say otherwise."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and is_terminal(file)


def flush() -> None:
    """Write out what is left on stdout, so that a failure is noticed here and not at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from error


def silence() -> None:
    """Send what is left on stdout nowhere, so that the interpreter does not complain at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

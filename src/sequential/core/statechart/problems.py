"""What is wrong with a graph: every problem with its place, a near match and what to do.

A place is a path as the author wrote it, `$.states.a.on["GO"].target`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from sequential.errors import InvalidTaskError

Level = Literal["error", "warning", "note"]

MOST_SHOWN = 100  # a graph with more problems than these is not read to the end by anybody
_LONGEST_NAME = 60
_MOST_COMPARED = 1_000  # names among which a near match is looked for
_PLAIN = re.compile(r"[\w-]+\Z")
_STEP = re.compile(r"(?=[.\[])")


class Problem(msgspec.Struct, frozen=True):
    """One thing to mend (`error`), to look at (`warning`) or to know (`note`)."""

    level: Level
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class GraphError(InvalidTaskError):
    """The graph cannot be used: correct its graph.json."""

    code = "invalid_graph"

    def __init__(self, problems: Sequence[Problem] | str | None = None) -> None:
        self.problems = () if isinstance(problems, str | None) else tuple(problems)
        super().__init__(problems if isinstance(problems, str) else _listed(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems or str(self),)


def _listed(problems: Sequence[Problem]) -> str | None:
    if not problems:
        return None
    if len(problems) == 1:
        return f"graph.json: {problems[0]}"
    lines = [f"  {problem}" for problem in problems]
    return "\n".join([f"graph.json has {len(problems)} problems:", *lines])


class Problems:
    """Collects what is found while a graph is read.

    `places` translates the paths of a graph that was rewritten (`simple`) to those of its author:
    the longest beginning that is a key is replaced by its value.
    """

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self._found: dict[Problem, None] = {}
        self._errors = 0

    def error(self, where: str, message: str) -> None:
        """Note that the graph cannot run."""
        self._errors += 1
        if self._errors <= MOST_SHOWN:
            self._add("error", where, message)

    def warning(self, where: str, message: str) -> None:
        """Note what is hardly meant like this."""
        self._add("warning", where, message)

    def note(self, where: str, message: str) -> None:
        """Note what the author may not expect."""
        self._add("note", where, message)

    def near(self, name: object, names: Iterable[str]) -> str:
        """` (did you mean "x"?)`, or nothing when no name is alike."""
        known = [str(one) for one in names][:_MOST_COMPARED]
        if self._errors > MOST_SHOWN or len(str(name)) > _LONGEST_NAME:
            return ""  # comparing costs time, and nobody would read it
        close = difflib.get_close_matches(str(name), known, 1, 0.6)
        return f" (did you mean {quoted(close[0])}?)" if close else ""

    def of(self, *levels: Level) -> tuple[Problem, ...]:
        """What was found, errors without end cut off."""
        return tuple(problem for problem in self._found if problem.level in levels)

    def check(self) -> None:
        """Raise `GraphError` with all errors, if there is one."""
        if errors := self.of("error"):
            raise GraphError(errors)

    def _add(self, level: Level, where: str, message: str) -> None:
        self._found[Problem(level, self.author_place(where), message)] = None

    def author_place(self, where: str) -> str:
        """The place in the author's graph that a place of the general form was made of."""
        steps = _STEP.split(where)
        for count in range(len(steps), 0, -1):
            place = self.places.get("".join(steps[:count]))
            if place is not None:
                return place + "".join(steps[count:])
        return where


def quoted(name: object) -> str:
    """A name as text in quotes, safe to print and not too long."""
    text = name if isinstance(name, str) else json.dumps(name, default=str)
    if len(text) > _LONGEST_NAME:
        text = text[: _LONGEST_NAME - 3] + "..."
    return json.dumps(text, ensure_ascii=not text.isprintable())


def below(where: str, key: str) -> str:
    """The place of a key: `$.states` and `a` give `$.states.a`."""
    return f"{where}.{key}" if _PLAIN.match(key) else f"{where}[{quoted(key)}]"


def keyed(where: str, key: object) -> str:
    """The place of a name that is not a word of the format: `$.on["GO"]`."""
    return f"{where}[{quoted(key)}]"


def names(those: Iterable[str], most: int = 10) -> str:
    """Names in a row, for a message: `a, b, c`."""
    all_ = [str(one) for one in those]
    rest = f" and {len(all_) - most} more" if len(all_) > most else ""
    shown = [one if len(one) <= _LONGEST_NAME else quoted(one) for one in all_[:most]]
    return ", ".join(shown) + rest


def a(word: str) -> str:
    """The word with its article: `an atomic`."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def kind(value: object) -> str:
    """What a JSON value is, for a message: `a text`, `an object`."""
    kinds = {type(None): "null", bool: "a boolean", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object" if isinstance(value, dict) else "a number")

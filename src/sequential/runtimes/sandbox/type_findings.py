"""What the VM's type checker says, in the words of a task's author, without its false alarms."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Literal

import msgspec

from sequential.runtimes.sandbox.lint_source import Problem, lines_of


class Place(msgspec.Struct, frozen=True):
    row: int
    column: int


class Finding(msgspec.Struct, frozen=True):
    """One diagnostic of the checker, from its JSON output."""

    code: str
    message: str
    location: Place
    end_location: Place


class Wording(msgspec.Struct, frozen=True):
    """How a kind of finding is told: `message` and `instead` are filled from the pattern."""

    pattern: str
    message: str
    instead: str = ""
    is_certain: bool = False  # it fails whenever the line runs


_AWAIT = Wording(
    r"`CoroutineType\[",
    "`await` is missing: this is the coroutine, not the answer",
    "`await ...`, here or where it is called",
    is_certain=True,
)
# The kinds that are told; whatever is not here is a matter of taste or found by the linter.
WORDINGS: dict[str, tuple[Wording, ...]] = {
    "unused-awaitable": (
        Wording(
            r".*",
            "`await` is missing: nothing waits for this call",
            "`await ...`",
            is_certain=True,
        ),
    ),
    "unresolved-attribute": (
        _AWAIT,
        Wording(
            r"^Object of type `(Response|Headers)` has no attribute `(?P<name>\w+)`",
            "`{0}` has no `{name}`",
            is_certain=True,
        ),
        Wording(
            r"^(?:Object of type|Class|Function) `(.+)` has no attribute `(?P<name>\w+)`$",
            "`{0}` has no `{name}`",
        ),
    ),
    "not-subscriptable": (
        _AWAIT,
        Wording(
            r"type `bound method Response\.json",
            "`json` of a response is a method",
            "`response.json()[...]`",
            is_certain=True,
        ),
        Wording(
            r"type `Response`",
            "a response has no items",
            "`response.json()[...]`",
            is_certain=True,
        ),
        Wording(r"type `(.+)` with no", "`{0}` has no items, so `[...]` fails"),
    ),
    "not-iterable": (
        _AWAIT,
        Wording(r"type `(.+)` is not iterable", "`{0}` cannot be looped over"),
    ),
    "unsupported-operator": (
        _AWAIT,
        Wording(
            r"^Operator `(.+?)` is not supported between objects of type `(.+)` and `(.+)`$",
            "`{0}` does not work between `{1}` and `{2}`",
        ),
    ),
    "invalid-context-manager": (
        _AWAIT,
        Wording(r"^Object of type `(.+?)` cannot", "`{0}` cannot be used with `with`"),
    ),
    "invalid-argument-type": (
        Wording(
            r"^Argument to (?:function|bound method|constructor) `(.+?)` is incorrect: "
            r"Expected `(.+)`, found `CoroutineType\[",
            "`await` is missing: {0}() gets the coroutine, not the answer",
            "`await ...`",
            is_certain=True,
        ),
        Wording(
            r"^Argument to (?:function|bound method|constructor) `(.+?)` is incorrect: "
            r"Expected `(.+)`, found `(.+)`$",
            "{0}() takes `{1}` here, not `{2}`",
        ),
    ),
    "invalid-assignment": (
        Wording(
            r"^Object of type `(.+)` is not assignable to `(.+)`$",
            "`{0}` does not fit the annotation `{1}`",
        ),
        Wording(
            r"^(Too many|Not enough) values to unpack: Expected (.+)$", "{0} values: {1} expected"
        ),
    ),
    "invalid-return-type": (
        Wording(
            r"expected `(.+)`, found `(.+)`$",
            "`{1}` is returned, but the annotation says `{0}`",
        ),
    ),
    "missing-argument": (
        Wording(
            r"required parameters? (.+) of (?:function|bound method|constructor) `(.+)`$",
            "{1}() needs {0} as well",
            is_certain=True,
        ),
        Wording(r"required parameters? (.+)$", "this call needs {0} as well", is_certain=True),
    ),
    "too-many-positional-arguments": (
        Wording(
            r"to (?:function|bound method|constructor) `(.+)`: expected (\d+), got (\d+)$",
            "{0}() takes {1} argument(s) by position, not {2}",
            is_certain=True,
        ),
        Wording(
            r"expected (\d+), got (\d+)$",
            "this takes {0} argument(s) by position, not {1}",
            is_certain=True,
        ),
    ),
    "unknown-argument": (
        Wording(
            r"^Argument `(?P<name>\w+)` does not match any known parameter of "
            r"(?:function|bound method|constructor) `(.+)`$",
            "{1}() takes no `{name}`",
            is_certain=True,
        ),
    ),
    "parameter-already-assigned": (
        Wording(
            r"^Multiple values provided for parameter `(.+)` of (?:function|bound method) `(.+)`$",
            "{1}() gets `{0}` twice",
            is_certain=True,
        ),
    ),
    "call-non-callable": (
        _AWAIT,
        Wording(r"^Object of type `(.+)` is not callable$", "`{0}` cannot be called"),
    ),
    "invalid-await": (
        Wording(r"^`(.+)` is not awaitable$", "`{0}` cannot be awaited", "leave `await` out"),
    ),
    "invalid-raise": (
        Wording(
            r"^Cannot raise object of type `(.+)`: ",
            "`{0}` cannot be raised",
            '`raise RuntimeError("...")`',
            is_certain=True,
        ),
    ),
    "index-out-of-bounds": (Wording(r"^Index (.+) is out of bounds", "there is no item {0} here"),),
}
# Values that are one of several types are rarely wrong: the author knows which one it is.
_DOUBTFUL = re.compile(
    r" in union |(type|found|between objects of type|and) `[^`]* \| |type `None`|found `None`"
    r"|`def |`<module|`<class|[Dd]efault value of type `None`|Invalid subscript assignment"
    r"|Module `|^Operator `(?:[-+*/%&|^@]|//|\*\*|<<|>>)=`"
)
# What the names of a task have: attributes, and the parameters of `fetch`.
_KNOWN = {
    "Response": "bytes headers json ok raise_for_status status text url".split(),
    "Headers": "get get_all items keys values".split(),
    "fetch": "data follow_redirects headers json method params retries timeout url".split(),
}
# What clients of other libraries call it.
_MEANT = {
    "Response": {
        "status_code": "`.status`",
        "reason": "`.status`",
        "content": "`.bytes()`",
        "body": "`.text`, or `.json()`",
        "read": "`.bytes()`",
        "data": "`.json()`",
        "is_success": "`.ok`",
        "encoding": "`.text` is decoded already",
        "cookies": '`.headers.get("set-cookie")`',
        "elapsed": "`time.time()` before and after",
        "iter_lines": "`.text.splitlines()`",
    },
    "Headers": {"getall": "`.get_all(name)`"},
    "fetch": {
        "body": "`data=` for text, `json=` for JSON",
        "query": "`params=`",
        "header": "`headers=`",
        "auth": '`headers={"Authorization": ...}`',
        "allow_redirects": "`follow_redirects=`",
        "verify": "leave it out",
        "cookies": '`headers={"Cookie": ...}`',
        "files": "`data=`",
    },
}


class TypeFindings:
    """Turns findings into problems, next to those the linter found already."""

    def __init__(self, source: str, tree: ast.Module | Problem, known: Sequence[Problem]) -> None:
        self._lines = lines_of(source)
        self._known = {(one.line, one.column) for one in known}
        nodes = list(ast.walk(tree)) if isinstance(tree, ast.Module) else []
        self._kept = set(_kept_names(nodes, self._known))
        self._given = {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }

    def problems(self, findings: Sequence[Finding]) -> Iterator[Problem]:
        for finding in findings:
            place = (finding.location.row, finding.location.column)
            if place in self._known:
                continue
            if "`CoroutineType" in finding.message:
                if self._is_consequence(finding):
                    continue
            elif _DOUBTFUL.search(finding.message):
                continue
            for wording in WORDINGS.get(finding.code, ()):
                if match := re.search(wording.pattern, finding.message):
                    if match.groupdict().get("name") not in self._given:
                        yield _told(wording, match, finding)
                    break

    def _is_consequence(self, finding: Finding) -> bool:
        """Whether the missing `await` is reported where this value comes from, or in this call."""
        first = (finding.location.row, finding.location.column)
        last = (finding.end_location.row, finding.end_location.column)
        if any(first <= place < last for place in self._known):
            return True
        text = self._lines[first[0] - 1] if first[0] <= len(self._lines) else ""
        name = re.match(r"\w+", text[first[1] - 1 :])
        return name is not None and name[0] in self._kept


def _kept_names(nodes: Iterable[ast.AST], known: set[tuple[int, int]]) -> Iterator[str]:
    """Names given to calls that were found to miss their `await`."""
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            place = (node.value.lineno, node.value.col_offset + 1)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if place in known:
                yield from (one.id for one in targets if isinstance(one, ast.Name))


def _told(wording: Wording, match: re.Match[str], finding: Finding) -> Problem:
    name = match.groupdict().get("name", "")
    parts = [_plain(part) for part in match.groups() if part is not None]
    owner = next((one for one in ("Response", "Headers", "fetch") if one in parts), "")
    message = wording.message.format(*parts, **match.groupdict())
    instead = wording.instead or _MEANT.get(owner, {}).get(name, "")
    if owner and name and not instead:
        known = _KNOWN[owner]
        instead = f"one of: {', '.join(known)}"
        if close := get_close_matches(name, known, n=1):
            message, instead = f"{message}; did you mean `{close[0]}`?", f"`{close[0]}`"
    severity: Literal["error", "warning"] = "error" if wording.is_certain else "warning"
    place = finding.location
    return Problem(place.row, place.column, message, instead, severity)


def _plain(text: str) -> str:
    """A type as people write it: `Literal["a"]` is shown as the value itself."""
    text = re.sub(r"^Literal\[(.+)\]$", r"\1", text)
    return text.replace("Unknown", "Any").replace("LiteralString", "str")

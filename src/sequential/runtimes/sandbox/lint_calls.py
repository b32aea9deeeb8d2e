"""Rules for calls whose arguments the sandbox does not take, and for what a task cannot reach."""

import ast
import re
from collections.abc import Callable, Iterator

from sequential.runtimes.sandbox.lint_source import Problem, Source
from sequential.runtimes.sandbox.vm_names import vm_names

_CONVERT = 'convert first: `json.dumps({**d, "at": at.isoformat()})`'
_OMIT = "leave it out"
_AFTER = "change the value after `json.loads(text)`"
_SORT = "`key=` where the objects are sorted, or a method of your own"
_SETTLE = "`await settle(...)`: a dict per call, with `ok`, `value`, `error` and `message`"


# Keywords that a function of Python takes and that of the sandbox does not: what to write instead.
KEYWORDS = {
    "gather": {"return_exceptions": _SETTLE},
    "asyncio.gather": {"return_exceptions": _SETTLE},
    "json.dump": {"default": _CONVERT, "cls": _CONVERT, "check_circular": _OMIT},
    "json.dumps": {"default": _CONVERT, "cls": _CONVERT, "check_circular": _OMIT},
    "json.load": {"object_hook": _AFTER, "object_pairs_hook": _AFTER, "cls": _AFTER},
    "json.loads": {
        "object_hook": _AFTER, "object_pairs_hook": _AFTER, "cls": _AFTER, "strict": _OMIT,
    },
    "dataclasses.dataclass": {
        "order": _SORT, "init": "a plain class", "repr": "a method `__repr__`",
        "unsafe_hash": "`frozen=True`", "match_args": _OMIT, "kw_only": _OMIT, "slots": _OMIT,
        "weakref_slot": _OMIT,
    },
    "dataclasses.field": {
        "init": "set it in `__post_init__`", "repr": _OMIT, "hash": _OMIT, "compare": _OMIT,
        "metadata": _OMIT, "kw_only": _OMIT, "doc": _OMIT,
    },
}  # fmt: skip
# Values of these keywords that change nothing, so that the sandbox takes them.
USUAL: dict[str, dict[str, bool | None]] = {
    "dataclasses.dataclass": {
        "init": True, "repr": True, "match_args": True, "order": False, "unsafe_hash": False,
        "kw_only": False, "slots": False, "weakref_slot": False,
    },
    "dataclasses.field": {
        "init": True, "repr": True, "compare": True, "hash": None, "metadata": None, "doc": None,
    },
}  # fmt: skip
_PARAMETER = "take it as a parameter of the function that the task starts with"
_NO_FILES = "a service of the host, or keep the data in a variable"
_NO_ENVIRONMENT = f"{_PARAMETER}; secrets belong to services"
# What can be named but not used: there are no files and no environment.
UNREACHABLE = {
    "open": ("a task has no files", _NO_FILES),
    "os.environ": ("a task has no environment variables", _NO_ENVIRONMENT),
    "os.getenv": ("a task has no environment variables", _NO_ENVIRONMENT),
    "os.path.expanduser": ("a task has no home directory", _NO_FILES),
    **{
        f"os.{name}": ("a task has no files", _NO_FILES)
        for name in (
            "listdir", "makedirs", "mkdir", "remove", "rename", "replace", "rmdir", "scandir",
            "stat", "unlink", "walk", "chdir",
        )
    },
    **{
        f"os.path.{name}": ("a task has no files", _NO_FILES)
        for name in (
            "exists", "getatime", "getctime", "getmtime", "getsize", "isdir", "isfile", "islink",
            "lexists", "realpath", "samefile",
        )
    },
    "sys.stdout.write": ("standard output cannot be written to", "`print(...)`"),
    "sys.stderr.write": ("standard error cannot be written to", "`print(...)`"),
    "object": ("`object()` cannot be made here", "`None`, or an instance of a class of your own"),
    "property": ("the sandbox has no properties", "a method"),
    "typing.TypeVar": ("`TypeVar` cannot be called here", "leave the annotation out"),
}  # fmt: skip
USED_BY_NAME = frozenset({"os.environ"})  # the others are only refused when called
PATH_FILES = frozenset(
    "absolute exists glob is_dir is_file is_symlink iterdir mkdir open read_bytes read_text rename"
    " resolve rglob rmdir stat unlink walk write_bytes write_text".split()
)
ENCODINGS = re.compile(r"(us[-_]?)?ascii|utf[-_]?(8|16|32)([-_]?[lb]e)?", re.IGNORECASE)
LAZY = "lazy list"
ENDLESS = frozenset({"itertools.count", "itertools.cycle"})
# How many arguments they have when the last one is gone through to its end.
EAGER = {
    **dict.fromkeys(("enumerate", "list", "set", "sorted", "sum", "tuple"), 1),
    **dict.fromkeys(("filter", "map"), 2),
}
DATE_PARTS = (("%Y", "%y", "%G"), ("%m", "%b", "%B", "%j", "%V"), ("%d", "%j", "%u", "%a", "%A"))
WHOLE_DATES = ("%c", "%x", "%D", "%F", "%s")
TYPING_ALIASES = frozenset(
    f"typing.{name}"
    for name in (
        "Annotated", "Callable", "ClassVar", "Dict", "Final", "FrozenSet", "Generator", "Generic",
        "Iterable", "Iterator", "List", "Literal", "Mapping", "Sequence", "Set", "Tuple", "Type",
    )
)  # fmt: skip


def keywords(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        origin = source.origin(call.func)
        for keyword in call.keywords:
            name = keyword.arg or ""
            instead = KEYWORDS.get(origin, {}).get(name)
            if instead and not _is_usual(origin, name, keyword.value):
                yield source.problem(
                    keyword, f"{origin}() takes no `{name}` in the sandbox", instead
                )


def _is_usual(origin: str, name: str, value: ast.expr) -> bool:
    usual = USUAL.get(origin, {})
    return name in usual and isinstance(value, ast.Constant) and value.value is usual[name]


def unreachable(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        found = UNREACHABLE.get(source.origin(call.func))
        if found:
            yield source.problem(call, *found)
        elif _is_path_file(source, call.func):
            yield source.problem(call, "a task has no files", _NO_FILES)
    for node in (*source.nodes(ast.Name), *source.nodes(ast.Attribute)):
        if source.origin(node) in USED_BY_NAME:
            yield source.problem(node, *UNREACHABLE[source.origin(node)])


def _is_path_file(source: Source, function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr not in PATH_FILES:
        return False
    return source.type(function.value) == "Path"


def exceptions(source: Source) -> Iterator[Problem]:
    """Exceptions take one text at most; anything else is an internal error of the VM."""
    for call in source.nodes(ast.Call):
        if not is_exception(source.origin(call.func)):
            continue
        name = source.text(call.func)
        if len(call.args) > 1 or call.keywords:
            text = 'f"..."' if len(call.args) > 1 else '"..."'
            yield source.problem(
                call, "an exception takes one text and nothing else", f"`{name}({text})`"
            )
        elif call.args and not _can_be_text(source, call.args[0]):
            yield source.problem(
                call.args[0], "an exception takes a text here", f"`{name}(str(...))`"
            )


def is_exception(origin: str) -> bool:
    if not origin or origin not in vm_names().builtins:
        return False
    return origin.endswith(("Error", "Exception", "Exit", "Interrupt", "Iteration"))


def _can_be_text(source: Source, node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return source.type(node) in ("", "str")


def lazy_lists(source: Source) -> Iterator[Problem]:
    """What is lazy in Python is a list at once here."""
    for call in source.nodes(ast.Call):
        origin = source.origin(call.func)
        if origin == "next" and call.args and source.type(call.args[0]) == LAZY:
            yield source.problem(
                call,
                "this is a list in the sandbox, so `next()` does not take it",
                "`next(iter([...]), default)`",
            )
        elif origin in EAGER and len(call.args) == EAGER[origin]:
            yield from _endless(source, call.args[-1])
        elif origin == "zip" and all(_is_endless(source, argument) for argument in call.args):
            for argument in call.args[:1]:
                yield from _endless(source, argument)
    for part in source.nodes(ast.comprehension):
        yield from _endless(source, part.iter)


def _endless(source: Source, node: ast.expr) -> Iterator[Problem]:
    if _is_endless(source, node):
        yield source.problem(
            node,
            "this never ends: the sandbox makes a list of it at once",
            "a `for` loop over it with `break`",
        )


def _is_endless(source: Source, node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return False
    origin = source.origin(node.func)
    is_repeat = origin == "itertools.repeat" and len(node.args) == 1 and not node.keywords
    return origin in ENDLESS or is_repeat


def gathered_lists(source: Source) -> Iterator[Problem]:
    """`gather([a, b])` instead of `gather(a, b)`."""
    for call in source.nodes(ast.Call):
        name = source.origin(call.func)
        if name not in ("gather", "asyncio.gather", "settle") or len(call.args) != 1:
            continue
        if source.type(call.args[0]) in ("list", "tuple", "set", "dict", LAZY):
            yield source.problem(
                call.args[0],
                f"{name}() takes the calls one by one, not a list of them",
                f"a star before it: `await {name}(*calls)`",
            )


def replacements(source: Source) -> Iterator[Problem]:
    """`re.sub` with a function."""
    for call in source.nodes(ast.Call):
        position = None
        if source.origin(call.func) == "re.sub":
            position = 1
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "sub":
            position = 0 if source.type(call.func.value) == "Pattern" else None
        if position is not None and len(call.args) > position:
            given = call.args[position]
            if isinstance(given, ast.Lambda) or source.function(given):
                yield source.problem(
                    given,
                    "re.sub() takes no function in the sandbox",
                    "a loop over `re.finditer(pattern, text)` that puts the parts together",
                )


def encodings(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        for given in _encodings(source, call):
            match given:
                case ast.Constant(value=str(name)) if not ENCODINGS.fullmatch(name):
                    yield source.problem(
                        given,
                        f'the sandbox has no encoding "{name}"',
                        '"utf-8"; others are ascii, utf-16 and utf-32',
                    )


def _encodings(source: Source, call: ast.Call) -> Iterator[ast.expr]:
    origin = source.origin(call.func)
    is_type = origin in ("str", "bytes")
    is_method = False
    if isinstance(call.func, ast.Attribute) and not origin:
        is_method = call.func.attr in {"encode", "decode"} - source.members
    if is_method or is_type:
        yield from call.args[int(is_type) : int(is_type) + 1]
        yield from (one.value for one in call.keywords if one.arg == "encoding")


def partial_dates(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        if source.origin(call.func) != "datetime.datetime.strptime" or len(call.args) != 2:
            continue
        match call.args[1]:
            case ast.Constant(value=str(text)):
                parts = [any(code in text for code in codes) for codes in DATE_PARTS]
                if not all(parts) and not any(code in text for code in WHOLE_DATES):
                    yield source.problem(
                        call,
                        "strptime() needs a year, a month and a day here",
                        'add what is missing: `strptime(text + "-01", "%Y-%m-%d")`, or split the '
                        "text",
                    )


def bytes_of_numbers(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        if source.origin(call.func) != "bytes" or len(call.args) != 1:
            continue
        if source.type(call.args[0]) in ("list", "tuple", "range", LAZY):
            yield source.problem(
                call,
                "bytes() takes no list of numbers in the sandbox",
                '`bytes.fromhex("".join("%02x" % n for n in numbers))`',
            )


def typing_values(source: Source) -> Iterator[Problem]:
    """`Alias = List[int]`: only annotations are left alone."""
    for node in source.nodes(ast.Subscript):
        origin = source.origin(node.value)
        if origin in TYPING_ALIASES and node not in source.annotations:
            name = origin.rpartition(".")[2]
            small = name.lower() if name.lower() in ("dict", "list", "set", "tuple") else ""
            yield source.problem(
                node,
                f"`{name}[...]` can only stand in an annotation here",
                f"`{small}[...]`" if small else "leave it out",
            )


RULES: tuple[Callable[[Source], Iterator[Problem]], ...] = (
    keywords,
    unreachable,
    exceptions,
    lazy_lists,
    gathered_lists,
    replacements,
    encodings,
    partial_dates,
    bytes_of_numbers,
    typing_values,
)

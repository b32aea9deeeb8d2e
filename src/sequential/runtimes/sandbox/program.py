"""A task's source made ready for the sandbox, line for line: nothing moves, so tracebacks fit.

Four things differ from what the author wrote. The names of `sequential.task` are there without
being imported, so their import statements become plain assignments. A block under
`if __name__ == "__main__":` is for running the file by hand, so its condition becomes false. Where
`fetch` is named it carries its line number, because the machine itself would name the line inside
of `fetch`. And after the last line comes one more that calls the entry function with the input.

A line ends at LF, CR LF or CR, as in Python; the machine is only shown the first.
"""

import ast
import functools
import re
import warnings
from collections.abc import Sequence
from typing import TypeGuard

import msgspec

from sequential.core.names import snake_case
from sequential.core.syntax import parse
from sequential.errors import InvalidTaskError
from sequential.runtimes.sandbox.stubs import IMPORTED_NAMES

INPUT_NAME = "__input__"
FETCH_AT = "__fetch_at__"
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Replacement = tuple[ast.stmt | ast.expr, str]

# For sources that cannot be parsed here.
_TASK_IMPORT = re.compile(
    r"^([ \t]*)(from[ \t]+sequential\.task[ \t]+import[ \t]+(?:\([^)]*\)|[\w, \t]+))", re.MULTILINE
)
_MAIN_GUARD = re.compile(r"^if[ \t]+__name__[ \t]*==[ \t]*(['\"])__main__\1[ \t]*:", re.MULTILINE)
_FUNCTION = re.compile(r"^(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_LONGEST_HEADER = 4000  # characters


class Prepared(msgspec.Struct, frozen=True):
    """Source for the virtual machine. `input_fields` None: the entry takes the input as a whole."""

    source: str
    entry: str
    input_fields: tuple[str, ...] | None


@functools.lru_cache(maxsize=256)
def prepare(
    source: str, task: str, input_names: tuple[str, ...] = (), handler: str | None = None
) -> Prepared:
    """Make `source` ready; raises `InvalidTaskError` when no entry function can be found.

    A source that this Python cannot parse is passed on, because the sandbox knows newer syntax; it
    reports what it does not know. What can be found without parsing is replaced there.
    """
    source = _with_plain_lines(source)
    try:
        with warnings.catch_warnings(action="ignore"):  # about the task's style; the linter speaks
            tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _unparsed(source, task, input_names)
    if handler is None:
        entry = entry_function(tree, task)
        fields, call = _call(entry, input_names)
    else:
        entry = _handler_function(tree, handler)
        fields, call = None, _handler_call(entry)
    return Prepared(f"{_rewritten(source, tree)}\n{call}\n", entry.name, fields)


def source_lines(source: str) -> list[str]:
    """The lines of a source as they are counted in tracebacks."""
    return _with_plain_lines(source).split("\n")


def blank_for_sandbox(source: str) -> str:
    """`source` with imports of `sequential.task` and main guards replaced, for checkers."""
    source = _with_plain_lines(source)
    return _replace(source, _statements(parse(source)))


def entry_function(tree: ast.Module, task: str) -> FunctionNode:
    """The function a run starts with: the task's name, `main`, or the only public function."""
    functions = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return functions[_entry_name(list(functions), task)]


def _entry_name(functions: Sequence[str], task: str) -> str:
    for name in (snake_case(task), "main"):
        if name in functions:
            return name
    public = [name for name in dict.fromkeys(functions) if not name.startswith("_")]
    if len(public) == 1:
        return public[0]
    why = f"there are {len(public)} public functions" if public else "there is no public function"
    names = " or ".join(dict.fromkeys((f"{snake_case(task)}()", "main()")))
    raise InvalidTaskError(
        f"no entry function: {why} in {task}; name the one to start with {names}"
    )


def _call(entry: FunctionNode, input_names: tuple[str, ...]) -> tuple[tuple[str, ...] | None, str]:
    """Which input fields the entry takes, and the line that calls it.

    One parameter that is no field of the input takes the input as a whole, as in
    `main(input)`, unless its default shows that it is a field; otherwise parameters are filled by
    name.
    """
    parameters = entry.args
    names = [a.arg for a in (*parameters.posonlyargs, *parameters.args)]
    keywords = [a.arg for a in parameters.kwonlyargs]
    waits = "await " if isinstance(entry, ast.AsyncFunctionDef) else ""
    if not names and not keywords and not parameters.kwarg:
        return (), f"{waits}{entry.name}()"
    if len(names) == 1 and not keywords and names[0] not in input_names and not _has_field(entry):
        return None, f"{waits}{entry.name}({INPUT_NAME})"
    fields = None if parameters.kwarg else (*names, *keywords)
    given = f"**{INPUT_NAME}"
    if only := tuple(a.arg for a in parameters.posonlyargs):
        given = f"*[{INPUT_NAME}.pop(n) for n in {only} if n in {INPUT_NAME}], {given}"
    return fields, f"{waits}{entry.name}({given})"


def _has_field(entry: FunctionNode) -> bool:
    """Whether the only parameter has a default that no input as a whole could be."""
    match entry.args.defaults:
        case [] | [ast.Constant(value=None)] | [ast.Dict()] | [ast.Call(func=ast.Name(id="dict"))]:
            return False
    return True


def _handler_function(tree: ast.Module, name: str) -> FunctionNode:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    raise InvalidTaskError(f"there is no handler {name}() in the code")


def _handler_call(entry: FunctionNode) -> str:
    """The lines that call the handler of a state with as much as it takes of (input, context)."""
    parameters = entry.args
    most = 2 if parameters.vararg else len(parameters.posonlyargs) + len(parameters.args)
    given = ", ".join(f"{INPUT_NAME}[{name!r}]" for name in ("input", "context")[:most])
    waits = "await " if isinstance(entry, ast.AsyncFunctionDef) else ""
    return f"currentState = {INPUT_NAME}['context']['state']\n{waits}{entry.name}({given})"


def _unparsed(source: str, task: str, input_names: tuple[str, ...]) -> Prepared:
    text = _TASK_IMPORT.sub(_without_import, source)
    text = _MAIN_GUARD.sub("if False:", text)
    headers = {found[1]: found.start() for found in _FUNCTION.finditer(text)}
    try:
        name = _entry_name(list(headers), task)
    except InvalidTaskError as error:  # which counts only if the sandbox finds nothing worse
        return Prepared(f"{text}\nraise ImportError({str(error)!r})\n", "", None)
    entry = _header(text[headers[name] :])
    fields, call = _call(entry, input_names) if entry else (None, f"{name}({INPUT_NAME})")
    return Prepared(f"{text}\n{call}\n", name, fields)


def _header(text: str) -> FunctionNode | None:
    """The function that `text` begins with, without its body."""
    text = re.sub(r"(def\s+\w+\s*)\[[^\]]*\]", r"\1", text[:_LONGEST_HEADER], count=1)
    for colon in re.finditer(":", text):
        try:
            (node,) = ast.parse(text[: colon.end()] + " pass").body
        except (SyntaxError, ValueError):
            continue
        return node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    return None


def _without_import(found: re.Match[str]) -> str:
    try:
        (node,) = ast.parse(found[2]).body
    except (SyntaxError, ValueError):
        return found[0]
    text = _assignments(node) if isinstance(node, ast.ImportFrom) else found[2]
    return found[1] + text + "\n" * found[2].count("\n")


def _rewritten(source: str, tree: ast.Module) -> str:
    statements, fetches = _statements(tree), _fetches(tree)
    in_text = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
               for part in ast.walk(node)}  # fmt: skip
    text = _replace(source, [*statements, *fetches])
    if any(id(node) in in_text for node, _ in fetches) and not _holds(text, len(fetches)):
        # Before Python 3.12, what stands in an f-string may be said to stand elsewhere.
        fetches = [found for found in fetches if id(found[0]) not in in_text]
        text = _replace(source, [*statements, *fetches])
    return text


def _holds(text: str, fetches: int) -> bool:
    try:
        tree = parse(text)
    except SyntaxError:
        return False
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return sum(node.id == FETCH_AT for node in names) == fetches


def _statements(tree: ast.Module) -> list[Replacement]:
    found: list[Replacement] = [
        (node.test, "False")
        for node in tree.body
        if isinstance(node, ast.If) and is_main_guard(node.test)
    ]
    found += [(node, _assignments(node)) for node in ast.walk(tree) if _is_task_import(node)]
    return found


def _fetches(tree: ast.Module) -> list[Replacement]:
    """Where the task names the `fetch` it was given, under this name or one it imported it as."""
    names: set[str | None] = {"fetch"}
    own: set[str | None] = set()
    for node in ast.walk(tree):
        if _is_task_import(node):
            names |= {a.asname or a.name for a in node.names if a.name == "fetch"}
            own |= {a.asname or a.name for a in node.names if a.name != "fetch"}
        else:
            own |= _bound(node)
    return [
        (node, f"{FETCH_AT}({node.lineno})")
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in names - own
    ]


def _bound(node: ast.AST) -> set[str | None]:
    """The names that a node gives a meaning to."""
    match node:
        case ast.Name(name, ast.Store() | ast.Del()) | ast.arg(name):
            return {name}
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return {name}
        case ast.Import(names) | ast.ImportFrom(names=names):
            return {(a.asname or a.name).partition(".")[0] for a in names}
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return {name}
        case ast.MatchMapping(rest=name) | ast.MatchClass(cls=ast.Name(name)):
            return {name}
    return set()


def _is_task_import(node: ast.AST) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and node.module == "sequential.task" and not node.level


def is_main_guard(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`."""
    match test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
        case ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
            return True
    return False


def _assignments(node: ast.ImportFrom) -> str:
    found = [(a.asname or a.name, a.name) for a in node.names]
    renamed = [f"{name} = {hidden(of)}" for name, of in found if name != hidden(of)]
    return "; ".join(renamed) or "pass"


def hidden(name: str) -> str:
    """What a name of `sequential.task` is called in the prelude."""
    return f"__task_{name}__" if name in IMPORTED_NAMES else name


def _with_plain_lines(source: str) -> str:
    return re.sub(r"\r\n?", "\n", source.removeprefix("\ufeff"))


def _replace(source: str, replacements: list[Replacement]) -> str:
    """Put a text in the place of each node, keeping the number of lines it spans."""
    lines = source.split("\n")
    for node, text in sorted(replacements, key=lambda r: (r[0].lineno, r[0].col_offset))[::-1]:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head = lines[first].encode()[: node.col_offset].decode(errors="replace")
        tail = lines[last].encode()[node.end_col_offset or 0 :].decode(errors="replace")
        lines[first : last + 1] = [head + text + tail, *[""] * (last - first)]
    return "\n".join(lines)

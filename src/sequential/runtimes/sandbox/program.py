"""A task's source made ready for the sandbox, line for line: nothing moves, so tracebacks fit.

Four things differ from what the author wrote. The names of `sequential.task` are there without
being imported, so their import statements become plain assignments. A block under
`if __name__ == "__main__":` is for running the file by hand, so its condition becomes false. A
call of `fetch` carries its line number, because the machine itself would name the line inside of
`fetch`. And after the last line comes one more that calls the entry function with the input.
"""

import ast
import functools
import re
import warnings

import msgspec

from sequential.core.names import snake_case
from sequential.errors import InvalidTaskError

INPUT_NAME = "__input__"
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Prepared(msgspec.Struct, frozen=True):
    """Source for the virtual machine. `input_fields` None: the entry takes the input as a whole."""

    source: str
    entry: str
    input_fields: tuple[str, ...] | None


@functools.lru_cache(maxsize=256)
def prepare(source: str, task: str, input_names: tuple[str, ...] = ()) -> Prepared:
    """Make `source` ready; raises `InvalidTaskError` when no entry function can be found.

    A source that this Python cannot parse is passed on as it is, with `main` or the task's name as
    the entry: the sandbox may know newer syntax, and reports what it does not.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about the task's style; the linter speaks
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _unparsed(source, task)
    entry = entry_function(tree, task)
    fields, call = _call(entry, input_names)
    text = _replace(source, _replacements(tree))
    return Prepared(f"{text}\n{call}\n", entry.name, fields)


def blank_for_sandbox(source: str) -> str:
    """`source` with imports of `sequential.task` and main guards replaced, for checkers."""
    found = [r for r in _replacements(ast.parse(source)) if not r[1].startswith("__fetch")]
    return _replace(source, found)


def entry_function(tree: ast.Module, task: str) -> FunctionNode:
    """The function a run starts with: the task's name, `main`, or the only public function."""
    functions = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for name in (snake_case(task), "main"):
        if name in functions:
            return functions[name]
    public = [node for name, node in functions.items() if not name.startswith("_")]
    if len(public) == 1:
        return public[0]
    why = f"there are {len(public)} public functions" if public else "there is no public function"
    raise InvalidTaskError(
        f"no entry function: {why} in {task}; name the one to start with "
        f"{snake_case(task)}() or main()"
    )


def _call(entry: FunctionNode, input_names: tuple[str, ...]) -> tuple[tuple[str, ...] | None, str]:
    """Which input fields the entry takes, and the line that calls it.

    One parameter that is no field of the input takes the input as a whole, as in
    `main(input)`; otherwise parameters are filled by name.
    """
    parameters = entry.args
    names = [a.arg for a in (*parameters.posonlyargs, *parameters.args)]
    keywords = [a.arg for a in parameters.kwonlyargs]
    waits = "await " if isinstance(entry, ast.AsyncFunctionDef) else ""
    if not names and not keywords and not parameters.kwarg:
        return (), f"{waits}{entry.name}()"
    if len(names) == 1 and not keywords and names[0] not in input_names:
        return None, f"{waits}{entry.name}({INPUT_NAME})"
    fields = tuple(input_names) if parameters.kwarg else (*names, *keywords)
    return fields, f"{waits}{entry.name}(**{INPUT_NAME})"


def _unparsed(source: str, task: str) -> Prepared:
    for name in (snake_case(task), "main"):
        if found := re.search(rf"^(async )?def {name}\s*\((\s*\))?", source, re.MULTILINE):
            waits, empty = found[1], found[2]
            call = f"{'await ' if waits else ''}{name}({'' if empty else INPUT_NAME})"
            return Prepared(f"{source}\n{call}\n", name, None)
    return Prepared(source, "main", None)  # the sandbox says what is wrong with it


def _replacements(tree: ast.Module) -> list[tuple[ast.stmt | ast.expr, str]]:
    found: list[tuple[ast.stmt | ast.expr, str]] = [
        (node.test, "False")
        for node in tree.body
        if isinstance(node, ast.If) and is_main_guard(node.test)
    ]
    own_fetch = False
    fetches: list[ast.Name] = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="sequential.task", level=0):
                found.append((node, _assignments(node)))
            case ast.Call(func=ast.Name("fetch") as name):
                fetches.append(name)
            case ast.Name("fetch", ast.Store()) | ast.arg("fetch") | ast.alias(asname="fetch"):
                own_fetch = True
            case ast.FunctionDef("fetch") | ast.AsyncFunctionDef("fetch") | ast.ClassDef("fetch"):
                own_fetch = True
    if not own_fetch:
        found += [(name, f"__fetch_at__({name.lineno})") for name in fetches]
    return found


def is_main_guard(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`."""
    match test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
        case ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
            return True
    return False


def _assignments(node: ast.ImportFrom) -> str:
    renamed = [f"{a.asname} = {a.name}" for a in node.names if a.asname and a.asname != a.name]
    return "; ".join(renamed) or "pass"


def _replace(source: str, replacements: list[tuple[ast.stmt | ast.expr, str]]) -> str:
    """Put a text in the place of each node, keeping the number of lines it spans."""
    lines = source.split("\n")
    for node, text in sorted(replacements, key=lambda r: (r[0].lineno, r[0].col_offset))[::-1]:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head = lines[first].encode()[: node.col_offset].decode()
        tail = lines[last].encode()[node.end_col_offset or 0 :].decode()
        lines[first : last + 1] = [head + text + tail, *[""] * (last - first)]
    return "\n".join(lines)

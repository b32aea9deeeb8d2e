"""Programs of `SequentialFlow` made into tasks: a script has no entry function, and gets one.

A script is code that awaits at its top level, or calls its own entry function there, or has no
entry function at all. What it leaves in `result` is its result; without that name, the value of its
last line is, if that is an expression. An answer of `fetch` counts as its body: a value if it is
JSON, else text. All that is added comes after the last line, so lines keep their numbers.
"""

import ast
import re
import warnings
from collections.abc import Iterator

from sequential.core.names import LONGEST, check_task_name, snake_case
from sequential.core.syntax import parse
from sequential.errors import InvalidNameError

RESULT = "result"
_DEEPEST = 20  # names of a method of a service
_LAST = "__flow_result__"
_NAMED = f"{_LAST} = "
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENTRY = """
def {entry}():
    try:
        value = {name}
    except NameError:
        return None
    if not hasattr(value, "raise_for_status"):
        return value
    try:
        return value.json()
    except ValueError:
        return value.text
"""
_FUNCTION = re.compile(r"^(?:async[ \t]+)?def[ \t]", re.MULTILINE)  # where nothing can be parsed
_ADDED = re.compile(
    re.escape(_ENTRY).replace(r"\{entry\}", r"\w+").replace(r"\{name\}", r"(\w+)") + r"\Z"
)


def task_name(name: str) -> str:
    """A task's name that `name`, which may be any text, is shown under where names are narrow."""
    words = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-_")
    for candidate in (name, words[:LONGEST], f"flow-{words}"[:LONGEST].strip("-")):
        try:
            if snake_case(candidate) != RESULT:
                return check_task_name(candidate)
        except InvalidNameError:
            continue
    return "flow"


def as_task(code: str, task: str) -> str:
    """`code` as a task of this name; a script gets an entry function after its last line."""
    code = re.sub(r"\r\n?", "\n", code.removeprefix("\ufeff"))
    tree = _parsed(code)
    if tree is None and not _FUNCTION.search(code):
        return code + _ENTRY.format(entry=snake_case(task), name=RESULT)
    if tree is None or not _is_script(tree, task):
        return code
    if any(_stores(node, RESULT) for node in _top_level(tree)):
        return code + _ENTRY.format(entry=snake_case(task), name=RESULT)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        code = _named(code, last)
        return code + _ENTRY.format(entry=snake_case(task), name=_LAST)
    return code + _ENTRY.format(entry=snake_case(task), name=None)


def original(code: str) -> str:
    """The code that `as_task` made this of."""
    found = _ADDED.search(code)
    if found is None:
        return code
    script = code[: found.start()]
    if found[1] != _LAST:
        return script
    before, _, last = script.rpartition(_NAMED)
    return before + last


def service_methods(code: str) -> tuple[str, ...]:
    """What the code calls as `services.<service>.<method>`, sorted."""
    tree = _parsed(code)
    found = {_dotted(node) for node in ast.walk(tree)} if tree else set()
    names = {name for name in found if name.count(".") >= 1}
    # `services.a.b.c` is a method of `a`; its beginning `services.a.b` is none beside it.
    return tuple(sorted(names - {name.rpartition(".")[0] for name in names}))


def _parsed(code: str) -> ast.Module | None:
    """None for what this Python cannot read: the sandbox says what is wrong, or knows better."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_script(tree: ast.Module, task: str) -> bool:
    functions = [node.name for node in tree.body if isinstance(node, _FUNCTIONS)]
    public = [name for name in dict.fromkeys(functions) if not name.startswith("_")]
    named = [name for name in (snake_case(task), "main") if name in functions]
    entry = (named or (public if len(public) == 1 else []))[:1]
    if not entry:
        return True
    return any(
        isinstance(node, ast.Await) or (isinstance(node, ast.Name) and node.id == entry[0])
        for node in _top_level(tree)
    )


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run as the program begins; functions and a main guard are left out."""
    left: list[ast.AST] = [node for node in tree.body if not _is_main_guard(node)]
    while left:
        node = left.pop()
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            continue
        yield node
        left.extend(ast.iter_child_nodes(node))


def _is_main_guard(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    match node.test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
        case ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
            return True
    return False


def _stores(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)


def _named(code: str, expression: ast.Expr) -> str:
    """`code` with its last expression assigned to a name."""
    lines = code.split("\n")
    line = lines[expression.lineno - 1].encode()
    start = expression.col_offset
    lines[expression.lineno - 1] = (line[:start] + _NAMED.encode() + line[start:]).decode()
    return "\n".join(lines)


def _dotted(node: ast.AST) -> str:
    """`crm.find` for the expression `services.crm.find`, else an empty text."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and len(names) < _DEEPEST:
        names.append(node.attr)
        node = node.value
    is_service = isinstance(node, ast.Name) and node.id == "services"
    return ".".join(reversed(names)) if is_service else ""

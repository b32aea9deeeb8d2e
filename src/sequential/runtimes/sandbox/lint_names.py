"""Rules for names: imports, members of modules, builtins, services, and names nobody defines."""

import ast
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from sequential.runtimes.sandbox.lint_source import Problem, Source
from sequential.runtimes.sandbox.lint_words import BUILTINS, FOREIGN, MEMBERS, MODULES
from sequential.runtimes.sandbox.stubs import IMPORTED_NAMES, TASK_MODULE, TASK_NAMES
from sequential.runtimes.sandbox.vm_names import vm_names

MODULE_GLOBALS = frozenset({"__name__", "__file__", "__doc__"})
FUTURE = frozenset({"annotations"})
_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError"}
_NAME_ERRORS = {"NameError"}
_ANY_ERROR = {"Exception", "BaseException"}
_SMALL = ast.Import | ast.ImportFrom | ast.Assign | ast.Expr | ast.Pass


def closest(name: str, known: Iterable[str]) -> str:
    """What was probably meant, or nothing."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.7)), "")


def _or_meant(what: str, name: str, known: Iterable[str], instead: str) -> tuple[str, str]:
    """What is wrong with a name, and what was probably meant instead."""
    if found := closest(name, known):
        return f"{what}; did you mean `{found}`?", f"`{found}`"
    return what, instead


def imports(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.Import):
        for alias in node.names:
            if not _is_caught(source, node, _IMPORT_ERRORS):
                yield from _module(source, node, alias.name)
    for statement in source.nodes(ast.ImportFrom):
        if not _is_caught(source, statement, _IMPORT_ERRORS):
            yield from _from(source, statement)


def _module(source: Source, node: ast.AST, name: str) -> Iterator[Problem]:
    root, _, rest = name.partition(".")
    if root == "services":
        yield from _service(source, node, name)
    elif name == TASK_MODULE:
        yield source.problem(
            node,
            f"`{name}` is no module of the sandbox",
            f"`from {TASK_MODULE} import fetch`, or no import at all: its names are there",
        )
    elif name not in vm_names().modules:
        instead = MODULES.get(name) or MODULES.get(root, "")
        known = () if instead or rest else vm_names().modules
        what = f"the sandbox has no module `{name}`"
        yield source.problem(node, *_or_meant(what, name, known, instead or "leave it out"))


def _from(source: Source, node: ast.ImportFrom) -> Iterator[Problem]:
    names = [alias.name for alias in node.names if alias.name != "*"]
    module = node.module or ""
    if node.level:
        yield source.problem(
            node, "a task is one file, it cannot import its neighbours", "put the code in this file"
        )
    elif module == "__future__":
        yield from _unknown(source, node, module, names, FUTURE)
    elif module == TASK_MODULE:
        yield from _unknown(source, node, module, names, TASK_NAMES | IMPORTED_NAMES)
    elif module.partition(".")[0] == "services":
        for name in names:
            yield from _service(source, node, f"{module}.{name}")
    elif module in vm_names().modules:
        submodules = {name for name in names if f"{module}.{name}" in vm_names().modules}
        known = vm_names().modules[module] | submodules
        yield from _unknown(source, node, module, names, known)
    else:
        yield from _module(source, node, module)


def _unknown(
    source: Source, node: ast.AST, module: str, names: Iterable[str], known: Iterable[str]
) -> Iterator[Problem]:
    known = frozenset(known)
    for name in names:
        if name not in known:
            yield _no_member(source, node, module, name, known)


def _no_member(
    source: Source, node: ast.AST, module: str, name: str, known: Iterable[str]
) -> Problem:
    what = f"the sandbox's `{module}` has no `{name}`"
    instead = MEMBERS.get(f"{module}.{name}", "")
    if instead:
        known = ()
    return source.problem(node, *_or_meant(what, name, known, instead or "leave it out"))


def members(source: Source) -> Iterator[Problem]:
    """`module.name` where the module has no such name in the sandbox."""
    for node in source.nodes(ast.Attribute):
        owner = source.origin(node.value)
        if node in source.annotations or owner not in vm_names().modules:
            continue
        known = vm_names().modules[owner]
        if node.attr not in known and f"{owner}.{node.attr}" not in vm_names().modules:
            yield _no_member(source, node, owner, node.attr, known)


def services(source: Source) -> Iterator[Problem]:
    """`services.<service>.<method>` where there is no such service or method."""
    for node in source.nodes(ast.Attribute):
        if isinstance(source.parents[node], ast.Attribute):
            continue  # only the whole path
        origin = source.origin(node)
        if origin.startswith("services."):
            yield from _service(source, node, origin)


def host_tools(source: Source) -> Iterator[Problem]:
    """`call_host_tool("service", "method")` with names that nobody serves."""
    for node in source.nodes(ast.Call):
        if source.origin(node.func) in ("call_host_tool", "__callHostTool__"):
            match node.args:
                case [ast.Constant(value=str(service)), ast.Constant(value=str(method)), *_]:
                    yield from _service(source, node, f"services.{service}.{method}")


def _service(source: Source, node: ast.AST, path: str) -> Iterator[Problem]:
    if not source.services:
        return
    _, name, method = [*path.split(".", 2), "", ""][:3]
    if not name:
        return
    if name not in source.services:
        known = f"one of: {', '.join(sorted(source.services))}"
        what = f"there is no service `{name}`"
        yield source.problem(node, *_or_meant(what, name, source.services, known))
        return
    methods = source.services[name]
    is_part = any(one == method or one.startswith(f"{method}.") for one in methods)
    if method and methods and not is_part:
        known = f"one of: {', '.join(sorted(methods)[:12])}"
        what = f"the service `{name}` has no method `{method}`"
        yield source.problem(node, *_or_meant(what, method, methods, known))


def undefined_names(source: Source) -> Iterator[Problem]:
    names = vm_names()
    known = names.builtins | MODULE_GLOBALS | TASK_NAMES
    for node in source.undefined():
        name = node.id
        if name in known or _is_caught(source, node, _NAME_ERRORS):
            continue
        if name in names.absent_builtins or name in FOREIGN:
            if node not in source.annotations:
                message, instead = BUILTINS.get(name) or FOREIGN.get(name) or ("", "")
                message = message or f"the sandbox has no `{name}`"
                yield source.problem(node, message, instead)
        elif node in source.annotations:
            instead = "leave the annotation out"
            yield source.problem(node, f"`{name}` is not defined", instead, "warning")
        else:
            yield _undefined(source, node, known)


def _undefined(source: Source, node: ast.Name, known: frozenset[str]) -> Problem:
    what = f"`{node.id}` is not defined"
    instead = MODULES.get(node.id) or _import_of(source, node)
    names = _visible(source, node)
    if not instead:
        names |= known
        instead = "define it, import it, or take it as a parameter of the function"
    if node.id in vm_names().modules or node.id in MODULES:
        names = set()
    return source.problem(node, *_or_meant(what, node.id, names, instead))


def _import_of(source: Source, node: ast.Name) -> str:
    """The import statement that brings this name, if there is one."""
    modules = vm_names().modules
    homes = [module for module, names in modules.items() if node.id in names]
    if node.id in modules:
        parent = source.parents[node]
        is_type = isinstance(parent, ast.Attribute) and parent.attr not in modules[node.id]
        statement = f"from {homes[0]} import" if is_type and homes else "import"
        return f"`{statement} {node.id}` at the top of the file"
    if homes and len(node.id) > 2:
        return f"`from {homes[0]} import {node.id}` at the top of the file"
    return ""


def _visible(source: Source, node: ast.AST) -> set[str]:
    scope = source.scopes[node]
    found = {*scope.bindings}
    while scope.parent is not None:
        scope = scope.parent
        found.update(scope.bindings)
    return found


def _is_caught(source: Source, node: ast.AST, errors: set[str]) -> bool:
    """Whether the author expects that this may fail: it stands in a `try` that says so.

    One that catches everything says so if it is about nothing else.
    """
    below: ast.AST = node
    for above in source.above(node):
        if isinstance(above, ast.Try) and below in above.body:
            is_small = len(above.body) == 1 and isinstance(above.body[0], _SMALL)
            expected = errors | _ANY_ERROR if is_small and isinstance(node, ast.stmt) else errors
            for handler in above.handlers:
                caught = _caught(source, handler.type) if handler.type else _ANY_ERROR
                if caught & expected:
                    return True
        below = above
    return False


def _caught(source: Source, node: ast.expr) -> set[str]:
    nodes = node.elts if isinstance(node, ast.Tuple) else [node]
    return {source.origin(one) for one in nodes}


RULES = (imports, members, services, host_tools, undefined_names)

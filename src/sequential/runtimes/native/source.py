"""A task's source as a module, and the function that a run starts with."""

import ast
import builtins
import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable
from types import CodeType
from typing import Any

from sequential import task as task_module
from sequential.core.names import snake_case
from sequential.errors import InvalidTaskError
from sequential.runtimes.base import Program
from sequential.runtimes.native.patches import clock_of

CLOCK = "__sequential_clock__"
ATTEMPTS = 10
SERVICES = "services"
SERVICES_HERE = "__sequential_services__"
_parsing = threading.Lock()
_MOMENTS = ("now", "today", "utcnow")


class Source:
    """The module of one program; `close` forgets it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.module = types.ModuleType(f"{snake_case(program.task)}_of_{program.run_id}")
        self.module.__file__ = program.filename
        names = [name for name in task_module.__all__ if name not in task_module.IMPORTED]
        given = {name: getattr(task_module, name) for name in names}
        vars(self.module).update(given, __callHostTool__=task_module.call_host_tool)
        vars(self.module)["__builtins__"] = vars(builtins) | {
            CLOCK: clock_of,
            SERVICES_HERE: task_module.services,
        }

    def load(self) -> Callable[..., Any]:
        """Execute the source and return the entry function; raises whatever the source raises."""
        code = _compiled(self._program.source, self._program.filename)
        sys.modules[self.module.__name__] = self.module  # dataclasses look their module up
        exec(code, vars(self.module))  # noqa: S102 - trusted code: an operator chose this runtime
        return self._entry()

    def close(self) -> None:
        """Take the module out of `sys.modules`."""
        sys.modules.pop(self.module.__name__, None)

    def _entry(self) -> Callable[..., Any]:
        """The task's name, `main`, or the only public function, as in the sandbox."""
        task, names = self._program.task, vars(self.module)
        if (handler := self._program.handler) is not None:
            if inspect.isroutine(found := names.get(handler)):
                return found
            raise InvalidTaskError(f"there is no handler {handler}() in the code")
        for name in (snake_case(task), "main"):
            if inspect.isroutine(found := names.get(name)):
                return found
        own = self.module.__name__
        public = [
            value
            for name, value in names.items()
            if inspect.isfunction(value) and value.__module__ == own and not name.startswith("_")
        ]
        if len(public) == 1:
            return public[0]
        why = f"there are {len(public)} public functions" if public else "there is no function"
        wanted = " or ".join(dict.fromkeys((f"{snake_case(task)}()", "main()")))
        raise InvalidTaskError(
            f"no entry function: {why} in {task}; name the one to start with {wanted}"
        )


def arguments(
    entry: Callable[..., Any], input: Any, input_names: tuple[str, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """What the entry is called with.

    One parameter that is no field of the input takes the input as a whole, unless its default shows
    that it is a field; otherwise parameters are filled by name.
    """
    parameters = list(inspect.signature(entry).parameters.values())
    if not isinstance(input, dict):
        return ([input] if parameters else []), {}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        given = input
    else:
        given = {one.name: input[one.name] for one in parameters if one.name in input}
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if (
        len(parameters) == len(named) == 1
        and named[0].kind is not named[0].KEYWORD_ONLY
        and named[0].name not in input_names
        and (named[0].default in (named[0].empty, None) or isinstance(named[0].default, dict))
    ):
        return [input], {}
    positional = [one.name for one in named if one.kind is one.POSITIONAL_ONLY]
    first = [given[name] for name in positional if name in given]
    return first, {name: value for name, value in given.items() if name not in positional}


def handler_arguments(entry: Callable[..., Any], given: dict[str, Any]) -> list[Any]:
    """As much of (input, context) as the handler of a state takes."""
    kinds = [one.kind for one in inspect.signature(entry).parameters.values()]
    positional = sum(one in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in kinds)
    most = 2 if inspect.Parameter.VAR_POSITIONAL in kinds else positional
    return [given["input"], given["context"]][:most]


@functools.lru_cache(maxsize=100)
def _compiled(source: str, filename: str) -> CodeType:
    """The code of a source; the runs of a task share it.

    Up to Python 3.12, threads that parse at the same time disturb each other's count of how deep
    they are (CPython issue 106905). Those of native programs wait for each other here; others, such
    as the sandbox's, may still come between, and then it is done again.
    """
    for _ in range(ATTEMPTS):
        try:
            with _parsing:
                tree = _with_names(ast.parse(source, filename))
                return compile(tree, filename, "exec", dont_inherit=True)
        except SystemError as error:
            mismatch = error
    raise mismatch


def _with_names(tree: ast.Module) -> ast.Module:
    """`datetime.now` and its like asked of the run, whatever name the class was imported under.

    They are methods of built-in types, which cannot be replaced, so the places are that ask. And
    `services` is no module: imported, it is the name that is there without an import.
    """
    changed: ast.Module = ast.fix_missing_locations(_Names().visit(tree))
    return changed


def _named(name: str, service: str | None) -> ast.stmt:
    """`name = services`, or a service of it."""
    value: ast.expr = ast.Name(SERVICES_HERE, ast.Load())
    if service is not None:
        value = ast.Attribute(value, service, ast.Load())
    return ast.Assign([ast.Name(name, ast.Store())], value)


class _Names(ast.NodeTransformer):
    def visit_Import(self, node: ast.Import) -> list[ast.AST]:
        """`import services` is the name that tasks have, as in the sandbox."""
        others = [name for name in node.names if name.name != SERVICES]
        found = [_named(name.asname or SERVICES, None) for name in node.names if name not in others]
        kept = [ast.Import(others)] if others else []
        return [ast.copy_location(one, node) for one in (*kept, *found)]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.module != SERVICES or node.level:
            return node
        names = [_named(name.asname or name.name, name.name) for name in node.names]
        return [ast.copy_location(one, node) for one in names]

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        if node.guard is not None:  # in the pattern itself, there can be no call
            node.guard = self.visit(node.guard)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr not in _MOMENTS or not isinstance(node.ctx, ast.Load):
            return node
        asked = ast.Call(
            ast.Name(CLOCK, ast.Load()), [node.value, ast.Constant(node.attr)], keywords=[]
        )
        return ast.copy_location(asked, node)

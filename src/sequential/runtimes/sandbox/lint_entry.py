"""Rules for the function that a run starts with, and for those that handle states of a graph."""

import ast
from collections.abc import Collection, Iterator, Sequence

from sequential.core.names import snake_case
from sequential.errors import InvalidTaskError
from sequential.runtimes.sandbox.lint_source import FunctionNode, Problem
from sequential.runtimes.sandbox.program import entry_function


def entry_problems(tree: ast.Module, task: str, input_names: Sequence[str]) -> Iterator[Problem]:
    """What keeps a run of this task from being started with its inputs."""
    try:
        entry = entry_function(tree, task)
    except InvalidTaskError:
        yield _no_entry(tree, snake_case(task))
    else:
        yield from _unfilled_parameters(entry, input_names)
        yield from _second_starts(tree, entry)


def handler_problems(tree: ast.Module, handlers: Collection[str]) -> Iterator[Problem]:
    """What keeps the functions that a graph calls from being called with (input, context)."""
    for node in tree.body:
        if not isinstance(node, FunctionNode) or node.name not in handlers:
            continue
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        keywords = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        required = positional[: len(positional) - len(given.defaults)][2:]
        required += [one for one, default in keywords if default is None]
        for one in required:
            yield Problem(
                one.lineno,
                one.col_offset + 1,
                f"{node.name}() needs `{one.arg}`, but a handler is called with its input and the "
                "context of its state only",
                f"def {node.name}(input, context):",
            )


def _no_entry(tree: ast.Module, name: str) -> Problem:
    functions = [node.name for node in tree.body if isinstance(node, FunctionNode)]
    public = [one for one in functions if not one.startswith("_")]
    if public:
        message = f"it is not clear which function to start: {', '.join(public)}"
        return Problem(1, 1, message, f"name the one to start with `{name}` or `main`")
    return Problem(1, 1, "there is no function to start", "`async def main():` around the code")


def _unfilled_parameters(entry: FunctionNode, input_names: Sequence[str]) -> Iterator[Problem]:
    """Parameters that no declared input fills. A single one of another name takes them all."""
    given = entry.args
    positional = [*given.posonlyargs, *given.args]
    if not input_names or (len(positional) == 1 and not given.kwonlyargs):
        return
    required = positional[: len(positional) - len(given.defaults)]
    keywords = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    required += [one for one, default in keywords if default is None]
    for one in required:
        if one.arg not in input_names:
            yield Problem(
                one.lineno,
                one.col_offset + 1,
                f"{entry.name}() needs `{one.arg}`, which is no input of the task",
                f"one of its inputs ({', '.join(input_names)}), or a default value",
            )


def _second_starts(tree: ast.Module, entry: FunctionNode) -> Iterator[Problem]:
    """Calls of the entry function by the module itself, which runs before it is started."""
    for statement in tree.body:
        if isinstance(statement, FunctionNode | ast.ClassDef | ast.If):
            continue
        for node in ast.walk(statement):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name == entry.name:
                    yield Problem(
                        statement.lineno,
                        statement.col_offset + 1,
                        f"{name}() is started by the run itself, so here it would run once more",
                        'leave the line out, or put it under `if __name__ == "__main__":`',
                    )

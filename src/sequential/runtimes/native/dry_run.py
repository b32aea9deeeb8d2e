"""What is wrong with a native task, without running any of it."""

import ast
import warnings
from collections.abc import Iterator, Sequence

from sequential.errors import InvalidTaskError
from sequential.runtimes.sandbox.lint_entry import entry_problems, handler_problems
from sequential.runtimes.sandbox.lint_source import Problem
from sequential.runtimes.sandbox.program import entry_function


def dry_run(
    source: str,
    *,
    task: str,
    input_names: Sequence[str] = (),
    handlers: Sequence[str] | None = None,
) -> list[Problem]:
    """Problems of a task that is ordinary Python: those of its syntax and of its entry function.

    A task whose entry is imported is taken as it is: nothing is imported here. `handlers` are the
    functions that its graph calls, if it has one.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes such as "\\d"
            tree = ast.parse(source)
            compile(source, "code.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        return [Problem(error.lineno or 1, error.offset or 1, f"syntax error: {error.msg}")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Problem(1, 1, f"this cannot be compiled: {error}")]
    if handlers is not None:
        return sorted(set(handler_problems(tree, handlers)))
    if _imports_entry(tree, task):
        return []
    return sorted(set(entry_problems(tree, task, input_names)))


def _imports_entry(tree: ast.Module, task: str) -> bool:
    try:
        entry_function(tree, task)
    except InvalidTaskError:
        return "main" in _imported(tree) or task.replace("-", "_") in _imported(tree)
    return False


def _imported(tree: ast.Module) -> set[str]:
    def names() -> Iterator[str]:
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                yield from (alias.asname or alias.name for alias in node.names)

    return set(names())

"""What is wrong with a task, from its text alone: all problems at once, and nothing is run.

The sandbox's VM knows a part of Python and reports one problem at a time, some of them only when
the line is reached, after calls were made. `lint` knows the same facts (`vm_names.json`, tied to
the VM's version) and reads the whole file in a few milliseconds.
"""

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence

from sequential.runtimes.sandbox import (
    lint_await,
    lint_callbacks,
    lint_calls,
    lint_names,
    lint_syntax,
    lint_values,
)
from sequential.runtimes.sandbox.lint_source import Problem, Source
from sequential.runtimes.sandbox.program import is_main_guard

__all__ = ["Problem", "lint", "parse"]

# Rules about what fails when a line runs: not for code that never runs in the sandbox.
_RUNNING = (
    *lint_names.RULES,
    *lint_calls.RULES,
    *lint_values.RULES,
    *lint_await.RULES,
    *lint_callbacks.RULES,
)


def lint(source: str, *, services: Mapping[str, Sequence[str]] = {}) -> list[Problem]:
    """All problems of a task's source, in the order of its lines.

    `services` maps the services it may call to their dotted methods; with none given, names of
    services are not checked, and a service without methods may have any.
    """
    tree = parse(source)
    if isinstance(tree, Problem):
        return [tree]
    return sorted(_problems(Source(source, tree, services)))


def parse(source: str) -> ast.Module | Problem:
    """The tree of a source, or why this Python cannot parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes such as "\d"
            return ast.parse(source)
    except SyntaxError as error:
        return Problem(error.lineno or 1, error.offset or 1, f"syntax error: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Problem(1, 1, f"this cannot be read as Python: {error}")


def _problems(source: Source) -> set[Problem]:
    found = {problem for rule in lint_syntax.RULES for problem in rule(source)}
    resting = [*_resting_lines(source)]
    for rule in _RUNNING:
        for problem in rule(source):
            if not any(problem.line in lines for lines in resting):
                found.add(problem)
    return found


def _resting_lines(source: Source) -> Iterator[range]:
    """Lines that never run: under `if __name__ == "__main__":` and `if TYPE_CHECKING:`."""
    for node in source.nodes(ast.If):
        is_module_level = source.parents[node] is source.tree
        if (is_module_level and is_main_guard(node.test)) or _is_for_checkers(source, node.test):
            yield range(node.body[0].lineno, (node.body[-1].end_lineno or node.body[-1].lineno) + 1)


def _is_for_checkers(source: Source, test: ast.expr) -> bool:
    return source.origin(test) == "typing.TYPE_CHECKING"

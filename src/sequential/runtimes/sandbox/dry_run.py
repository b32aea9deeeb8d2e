"""Everything that is wrong with a task, without running any of it.

Three readers look at the source: the linter (`lint`), the compiler of the sandbox's VM, and the
VM's type checker. What two of them find is reported once.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from pydantic_monty import (
    ExternalModule,
    FunctionSnapshot,
    Monty,
    MontyError,
    MontyRuntimeError,
    MontySession,
    MontySyntaxError,
    MontyTypingError,
)

from sequential.runtimes.sandbox.lint import Problem, lint, parse
from sequential.runtimes.sandbox.lint_entry import entry_problems, handler_problems
from sequential.runtimes.sandbox.lint_syntax import REFUSED
from sequential.runtimes.sandbox.modules import never
from sequential.runtimes.sandbox.program import blank_for_sandbox
from sequential.runtimes.sandbox.stubs import ServiceStub, service_stub, stubs
from sequential.runtimes.sandbox.type_findings import Finding, TypeFindings

__all__ = ["Problem", "dry_run"]

# Not one line of the task runs: the compiled one stops at a call of the host before its first
# line, and after the check of types the compiler refuses its last.
_HALT = "__halt__()\n"
_SENTINEL = "\nclass _DryRunEnd(object): pass\n"
_STATE = '\ncurrentState: str = ""\n'  # what handlers find: the name of the state they run for
_WAIT = 15.0  # seconds; an ordinary task takes a hundredth of one
_UNSAID = ("syntax error: invalid syntax", "syntax error: invalid decimal literal")


def dry_run(
    source: str,
    *,
    task: str,
    input_names: Sequence[str] = (),
    services: Mapping[str, Sequence[str]] = {},
    handlers: Sequence[str] | None = None,
) -> list[Problem]:
    """All problems of a task, in the order of its lines; none means that it can be started.

    `input_names` are the declared inputs of the task, `services` as for `lint`; `handlers` are the
    functions that its graph calls, if it has one. Takes some 50 ms.
    """
    if handlers is not None:
        source += _STATE
    tree = parse(source)
    found = lint(source, services=services)
    text = source
    if isinstance(tree, ast.Module):
        if handlers is None:
            found += entry_problems(tree, task, input_names)
        else:
            found += handler_problems(tree, handlers)
        with warnings.catch_warnings(action="ignore"):  # of odd escapes such as "\d"
            text = blank_for_sandbox(source)
    with (
        Monty(max_processes=1, request_timeout=_WAIT) as pool,
        pool.checkout(
            type_check=True,
            type_check_stubs=stubs(services),
            type_check_format="json",
            external_modules=_modules(service_stub(services)) if services else None,
        ) as session,
    ):
        types = _types(session, text)
        refused = _compile(session, text)
    if isinstance(tree, Problem):
        found = [*_syntax_problems(tree, refused)]
    elif refused and not _is_known(refused, found):
        found.append(refused)
    if isinstance(tree, ast.Module) or not refused or not _is_syntax(refused):
        found += TypeFindings(source, tree, found).problems(types)
    return sorted(set(found))


def _modules(stub: ServiceStub) -> dict[str, ExternalModule]:
    return {"services": _module(stub)}


def _module(stub: ServiceStub) -> ExternalModule:
    return ExternalModule(
        {name: _module(below) for name, below in stub.below.items()} or {"call": never},
        stubs=stub.text,
    )


def _compile(session: MontySession, text: str) -> Problem | None:
    """What the VM's compiler refuses first."""
    try:
        stop = session.feed_start(_HALT + text, skip_type_check=True)
    except (MontySyntaxError, MontyRuntimeError) as error:
        frames = error.traceback()
        line, column = (frames[-1].line - 1, frames[-1].column) if frames else (1, 1)
        last = text.rstrip().count("\n") + 1
        return _refusal(str(error.exception()), min(line, last), column)
    except MontyError as error:
        return Problem(1, 1, f"the sandbox cannot read this: {error}")
    assert isinstance(stop, FunctionSnapshot), "a task was run"
    return None


def _refusal(message: str, line: int, column: int) -> Problem:
    for refused in REFUSED:
        if refused.heard_as and refused.heard_as in message:
            return Problem(line, column, refused.message, refused.instead)
    if unknown := re.search(r"does not yet support (.+)$", message):
        return Problem(line, column, f"the sandbox does not know {unknown[1]}")
    return Problem(line, column, f"syntax error: {message}")


def _is_known(refused: Problem, found: Sequence[Problem]) -> bool:
    """Whether the linter has said so already, perhaps with another column."""
    return any(one.line == refused.line or one.message == refused.message for one in found)


def _syntax_problems(here: Problem, refused: Problem | None) -> Iterator[Problem]:
    """Of two opinions on a source that this Python cannot parse, the better informed one.

    The VM follows a later Python: what it accepts is right, and what it can name is not wrong but
    unsupported. Otherwise this Python's words are clearer, if it has any.
    """
    if refused is None:
        return
    yield here if _is_syntax(refused) and here.message not in _UNSAID else refused


def _is_syntax(refused: Problem) -> bool:
    return refused.message.startswith("syntax error")


def _types(session: MontySession, text: str) -> list[Finding]:
    try:
        stop = session.feed_start(text + _SENTINEL)
        while isinstance(stop, FunctionSnapshot):
            stop = stop.resume_auto()  # the declarations of services
    except MontyTypingError as error:
        return msgspec.json.decode(error.display(), type=list[Finding])
    except MontyError:
        return []  # nothing to say about types, so the compiler came to its turn
    raise AssertionError("a task was run")

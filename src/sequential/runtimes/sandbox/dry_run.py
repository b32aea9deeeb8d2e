"""Everything that is wrong with a task, without running any of it.

Three readers look at the source: the linter (`lint`), the compiler of the sandbox's VM, and the
VM's type checker. What two of them find is reported once.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from pydantic_monty import (
    ExternalModule,
    FunctionSnapshot,
    Monty,
    MontyRuntimeError,
    MontySession,
    MontySyntaxError,
    MontyTypingError,
    NameLookupSnapshot,
)

from sequential.runtimes.sandbox.lint import Problem, lint, parse
from sequential.runtimes.sandbox.lint_entry import entry_problems
from sequential.runtimes.sandbox.lint_syntax import REFUSED
from sequential.runtimes.sandbox.modules import never
from sequential.runtimes.sandbox.program import blank_for_sandbox
from sequential.runtimes.sandbox.stubs import ServiceStub, service_stub, stubs
from sequential.runtimes.sandbox.type_findings import Finding, TypeFindings

__all__ = ["Problem", "dry_run"]

# The compiler refuses this last line, so not one line of the task runs.
_SENTINEL = "\nclass _DryRunEnd(object): pass\n"
_WAIT = 15.0  # seconds; an ordinary task takes a hundredth of one
_UNSAID = ("syntax error: invalid syntax", "syntax error: invalid decimal literal")


def dry_run(
    source: str,
    *,
    task: str,
    input_names: Sequence[str] = (),
    services: Mapping[str, Sequence[str]] = {},
) -> list[Problem]:
    """All problems of a task, in the order of its lines; none means that it can be started.

    `input_names` are the declared inputs of the task, `services` as for `lint`. Takes some 50 ms.
    """
    tree = parse(source)
    found = lint(source, services=services)
    text = source
    if isinstance(tree, ast.Module):
        found += entry_problems(tree, task, input_names)
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
        refused = _compile(session, text)
        if isinstance(tree, Problem):
            found = [*_syntax_problems(tree, refused)]
        elif refused and not _is_known(refused, found):
            found.append(refused)
        if not (refused and refused.message.startswith("syntax error")):
            found += TypeFindings(source, tree, found).problems(_types(session, text))
    return sorted(set(found))


def _modules(stub: ServiceStub) -> dict[str, ExternalModule]:
    return {"services": _module(stub)}


def _module(stub: ServiceStub) -> ExternalModule:
    return ExternalModule(
        {name: _module(below) for name, below in stub.below.items()} or {"call": never},
        stubs=stub.text,
    )


def _feed(session: MontySession, text: str, *, types: bool) -> None:
    """Hand a source over. It always ends with an exception: of a reader, or of the sentinel."""
    snapshot = session.feed_start(text + _SENTINEL, skip_type_check=not types)
    while isinstance(snapshot, FunctionSnapshot):
        snapshot = snapshot.resume_auto()  # stubs of services
    assert not isinstance(snapshot, NameLookupSnapshot), "a task was run"


def _compile(session: MontySession, text: str) -> Problem | None:
    """What the VM's compiler refuses first."""
    try:
        _feed(session, text, types=False)
    except (MontySyntaxError, MontyRuntimeError) as error:
        frames = error.traceback()
        frame = frames[-1] if frames else None
        if frame and frame.line > text.count("\n") + 1:
            return None
        line, column = (frame.line, frame.column) if frame else (1, 1)
        return _refusal(str(error.exception()), line, column)
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
    is_syntax = refused.message.startswith("syntax error")
    yield here if is_syntax and here.message not in _UNSAID else refused


def _types(session: MontySession, text: str) -> list[Finding]:
    try:
        _feed(session, text, types=True)
    except MontyTypingError as error:
        return msgspec.json.decode(error.display(), type=list[Finding])
    except (MontySyntaxError, MontyRuntimeError):
        pass  # the types are right: this is the compiler again
    return []

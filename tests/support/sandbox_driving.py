"""Drives programs on the sandbox runtime, without an engine around it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sequential.core.model import Call, Finished, Limits, Outcome, Raised, Turn, Waiting
from sequential.runtimes.base import Program
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
METHODS = ("tool.echo", "tool.mail.send")

Answer = Callable[[Call], Outcome]


def program(body: str, *, run: str = "run", limits: Limits | None = None) -> Program:
    """The program of a source, or of the indented body of `async def job(input)`."""
    source = f"async def job(input):\n{body}" if body.startswith(" ") else body
    return Program(run, "job", source, methods=METHODS, limits=limits or Limits())


def values_of(*values: Any) -> list[tuple[int, Outcome]]:
    """Outcomes of the calls 0, 1, 2, ..."""
    return [(number, Outcome(value=value)) for number, value in enumerate(values)]


def echo(call: Call) -> Outcome:
    """Answers a call with its first argument."""
    args = call.arguments.get("$call", [[None]])[0] if isinstance(call.arguments, dict) else [None]
    return Outcome(value=args[0] if args else None)


async def to_end(runtime: SandboxRuntime, turn: Turn, answer: Answer = echo) -> Sequence[Turn]:
    """Go on until the program ends, answering all it waits for at once; returns all turns."""
    turns, calls = [turn], {}
    while isinstance(turn.state, Waiting):
        calls.update({call.sequence: call for call in turn.calls})
        outcomes = [(number, answer(calls[number])) for number in turn.state.calls]
        turn = await runtime.resume(outcomes, NOW)
        turns.append(turn)
    return turns


async def run_all(
    pool: SandboxPool, body: str | Program, answer: Answer = echo, input: Any = None
) -> Sequence[Turn]:
    """All turns of a program."""
    what = program(body) if isinstance(body, str) else body
    runtime = SandboxRuntime(pool)
    try:
        return await to_end(runtime, await runtime.start(what, input or {}, NOW), answer)
    finally:
        await runtime.close()


async def result(
    pool: SandboxPool, body: str | Program, answer: Answer = echo, input: Any = None
) -> Any:
    """What a program returns, as a tree, or the failure it ends with."""
    state = (await run_all(pool, body, answer, input))[-1].state
    assert isinstance(state, Finished | Raised)
    return state.value if isinstance(state, Finished) else state.error

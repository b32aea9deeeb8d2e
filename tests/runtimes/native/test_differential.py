"""The same program in the sandbox and in the native runtime: same calls, same log, same end.

What differs is listed here, and told to users in docs/native.md.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sequential.core import values
from sequential.core.model import Call, Failure, Finished, Outcome, Turn, Waiting
from sequential.runtimes.base import Program, Runtime
from sequential.runtimes.native.runtime import NativeRuntime
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime
from support.programs import programs, work
from support.sandbox_tasks import GIVEN, tasks
from support.sandbox_vm import MESSAGES, METHODS, PAGE

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
Answer = Callable[[Call], Outcome]
Choose = Callable[[int, tuple[int, ...]], list[int]]
Both = Callable[[Program, Any, Answer, Choose], tuple[Any, Any]]


def all_at_once(_: int, waiting: tuple[int, ...]) -> list[int]:
    return sorted(waiting)


async def drive(
    runtime: Runtime, program: Program, input: Any, answer: Answer, choose: Choose
) -> list[Any]:
    """What can be seen of each turn: the calls, the log, and what it waits for or how it ended."""
    turn = await runtime.start(program, input, START)
    calls: dict[int, Call] = {}
    seen = [visible(turn)]
    while isinstance(turn.state, Waiting) and len(seen) < 500:
        calls.update({call.sequence: call for call in turn.calls})
        chosen = choose(len(seen), turn.state.calls)
        outcomes = [(sequence, answer(calls[sequence])) for sequence in chosen]
        turn = await runtime.resume(outcomes, START + timedelta(seconds=len(seen)))
        seen.append(visible(turn))
    await runtime.close()
    return seen


def visible(turn: Turn) -> Any:
    calls = [
        (c.sequence, c.operation, c.arguments, c.where.line if c.where else None)
        for c in turn.calls
    ]
    state: Any = turn.state
    if isinstance(state, Waiting):
        end: Any = sorted(state.calls)
    elif isinstance(state, Finished):
        end = state.value
    else:
        end = (state.error.type, state.error.message, [f.line for f in state.error.traceback])
    return calls, turn.log, end


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """Drives a program in both runtimes; returns what can be seen in each."""
    with asyncio.Runner() as runner:
        pool = SandboxPool(1)

        def run(program: Program, input: Any, answer: Answer, choose: Choose) -> tuple[Any, Any]:
            sandboxed = runner.run(drive(SandboxRuntime(pool), program, input, answer, choose))
            return sandboxed, runner.run(drive(NativeRuntime(), program, input, answer, choose))

        yield run
        runner.run(pool.close())


def working(call: Call) -> Outcome:
    try:
        value = work(call.arguments["$call"][0][0]) if call.service == "tool" else None
        return Outcome(value=value)
    except OSError as error:
        return Outcome(error=Failure(type="OSError", message=str(error)))


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=CHECKS,
)
@given(source=programs().filter(lambda source: "randint" not in source), seed=st.integers(0, 99))
def test_random_programs_do_the_same(both: Both, source: str, seed: int) -> None:
    """Calls at the same time begin in another order, so orders are not compared.

    Random numbers come from another generator in each, so they are left out.
    """

    chance = random.Random(seed)

    def choose(_: int, waiting: tuple[int, ...]) -> list[int]:
        order = chance.sample(sorted(waiting), len(waiting))
        first: list[int] = order[: chance.randint(1, len(order))]
        return first

    program = Program("run-1", "job", source.replace("len(seen)", "7"), methods=("tool.work",))
    sandboxed, native = both(program, {}, working, choose)
    assert without_order(native) == without_order(sandboxed)


def without_order(turns: list[Any]) -> Any:
    calls = sorted(repr(call[1:]) for calls, _, _ in turns for call in calls)
    log = sorted(line for _, printed, _ in turns for line in printed.splitlines())
    end = turns[-1][2]
    # The sandbox names another line for an error that has gone through a `finally`.
    return calls, log, end[:2] if isinstance(end, tuple) else sorted(map(repr, end))


# --- tasks as people write them ------------------------------------------------------------------

DIFFERENT = {
    "async-helpers": "asyncio.sleep(0) is no call in the native runtime",
    "optional-import": "a module that the sandbox does not have",
    "services-parallel": "a call begins when it is awaited, in the sandbox when it is written",
    "started-early": "the same",
}


def page(call: Call) -> Outcome:
    """What a plausible server answers."""
    _, arguments = values.arguments_from_json(call.arguments)
    match call.operation:
        case "http.fetch":
            url = arguments["url"]
            if "down" in url:
                return Outcome(error=Failure(type="OSError", message="no connection"))
            status = 404 if "missing" in url else 200
            headers = [["Content-Type", "application/json"], ["X-Left", "5"]]
            text = values.dumps(PAGE).decode()
            return Outcome(value={"status": status, "headers": headers, "url": url, "text": text})
        case "clock.sleep":
            return Outcome()
    return Outcome(value=MESSAGES)


@pytest.mark.parametrize("name", sorted(tasks().keys() - DIFFERENT.keys()))
def test_tasks_of_the_sandbox_do_the_same(both: Both, name: str) -> None:
    program = Program("run-1", name, tasks()[name], input_names=tuple(GIVEN), methods=METHODS)
    sandboxed, native = both(program, GIVEN, page, all_at_once)
    assert native == sandboxed


@pytest.mark.parametrize("name", sorted(DIFFERENT.keys() - {"optional-import"}))
def test_tasks_that_differ_in_the_order_of_calls_end_the_same(both: Both, name: str) -> None:
    program = Program("run-1", name, tasks()[name], input_names=tuple(GIVEN), methods=METHODS)
    sandboxed, native = both(program, GIVEN, page, all_at_once)
    assert native[-1][2] == sandboxed[-1][2]

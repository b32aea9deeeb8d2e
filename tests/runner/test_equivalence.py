"""Driving live, from snapshots, and by replay alone are the same: same calls, same result."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequential.config import Settings
from sequential.core.model import Call, Failure, Outcome, TaskConfig, TaskRun, Turn, Waiting
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runtimes.base import Program
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService
from support.programs import programs, work

START = datetime(2026, 1, 1, tzinfo=UTC)
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
Batch = list[tuple[int, Outcome]]


def answer(call: Call) -> Outcome:
    try:
        value = work(call.arguments["$call"][0][0]) if call.service == "tool" else None
        return Outcome(value=value)
    except OSError as error:
        return Outcome(error=Failure(type="OSError", message=str(error)))


async def drive(
    runtime: SandboxRuntime, program: Program, choose: Any, again: Any
) -> tuple[list[Turn], list[Batch]]:
    """Take a program to its end: `choose` picks what to deliver, `again` may replace the state."""
    turn = await runtime.start(program, {}, START)
    turns: list[Turn] = [turn]
    batches: list[Batch] = []
    open_calls: dict[int, Call] = {}
    while isinstance(turn.state, Waiting):
        open_calls.update({call.sequence: call for call in turn.calls})
        chosen = choose([s for s in turn.state.calls if s in open_calls])
        batch = [(s, answer(open_calls.pop(s))) for s in chosen]
        await again(runtime, turns, batches)
        turn = await runtime.resume(batch, START + timedelta(seconds=len(turns)))
        turns.append(turn)
        batches.append(batch)
    return turns, batches


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(source=programs(), data=st.data())
def test_a_program_does_the_same_live_from_snapshots_and_replayed(source: str, data: Any) -> None:
    program = Program("run-1", "job", source, methods=("tool.work",))

    def choose(waiting: list[int]) -> list[int]:
        order: list[int] = data.draw(st.permutations(waiting))
        return order[: data.draw(st.integers(1, len(order)))]

    async def nothing(*_: Any) -> None: ...

    async def from_snapshot(runtime: SandboxRuntime, turns: list[Turn], batches: Any) -> None:
        if data.draw(st.booleans()):
            snapshot = await runtime.snapshot()
            assert snapshot is not None
            await runtime.close()
            waiting = await runtime.restore(program, snapshot)
            assert set(waiting.calls) == set(turns[-1].state.calls)  # type: ignore[union-attr]

    async def from_journal(runtime: SandboxRuntime, turns: list[Turn], batches: Any) -> None:
        if len(batches) % 3 == 2:
            await runtime.close()
            replayed = [await runtime.start(program, {}, START)]
            for number, batch in enumerate(batches, 1):
                now = START + timedelta(seconds=number)
                replayed.append(await runtime.resume(batch, now))
            assert replayed == turns

    async def compare() -> None:
        pool = SandboxPool(1)
        try:
            live, batches = await drive(SandboxRuntime(pool), program, choose, nothing)
            for again in (from_snapshot, from_journal):
                recorded = iter([[s for s, _ in batch] for batch in batches])
                same, _ = await drive(
                    SandboxRuntime(pool), program, lambda _, r=recorded: next(r), again
                )
                assert same == live
        finally:
            await pool.close()

    asyncio.run(compare())


class Forgetful(MemoryAdapter):
    """A store that loses every snapshot."""

    async def get_snapshot(self, run_id: str) -> None:
        return None


async def run_engine(source: str, storage: MemoryAdapter, **runner: Any) -> tuple[TaskRun, Any]:
    tool = FakeService("tool", {"work": work})
    settings_ = Settings(project=Path(), runner=RunnerSettings(**runner))
    engine = Engine(
        storage,
        Services([ClockService(), tool]),
        settings_,
        secret=b"k" * 32,
        clock=FakeClock(patience=0.0005),
    )
    try:
        await engine.store_task("job", source, TaskConfig(name="job"))
        run = await engine.run("job")
        calls = await engine.list_calls(run.id)
        for call in calls:
            assert call.delivered_turn is not None or call.status == "cancelled"
        assert len(tool.performed) == len(
            [c for c in calls if c.service == "tool" and c.status != "cancelled"]
        )
        log = "".join(line.text for line in await engine.get_log(run.id))
        return run, (sorted(c.fingerprint for c in calls), sorted(log.split("\n")))
    finally:
        await engine.close()


@settings(max_examples=25, deadline=None, suppress_health_check=CHECKS)
@given(source=programs().filter(lambda source: "random" not in source.partition("job")[2]))
def test_engines_that_park_hibernate_or_forget_get_the_same_result(source: str) -> None:
    """The order of parallel outcomes differs between the engines, so orders are not compared."""
    source = source.replace("len(seen)", "7")  # which depends on that order

    async def compare() -> None:
        live, what = await run_engine(source, MemoryAdapter(), park_after=1e6, idle_after=1e6)
        parking, same = await run_engine(source, MemoryAdapter(), park_after=0.5, idle_after=0.0)
        replaying, also = await run_engine(source, Forgetful(), park_after=0.5, idle_after=0.0)
        assert live.status == parking.status == replaying.status
        assert what == same == also

    asyncio.run(compare())

"""Runs native tasks that use HTTP libraries, against servers on this machine, and replays them."""

from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core import journal, times, values
from sequential.core.model import Allow, Finished, StackRun, TaskConfig, TaskRun, Waiting
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runtimes.base import Program
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.http import HttpService
from sequential.services.http_settings import HttpSettings
from sequential.services.registry import Services
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock


class HttpLab:
    """Its runs may fetch from this machine, and have a clock for which a month is a moment."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of the http service."""
        self.options = {"settings": HttpSettings(allow_loopback=True), **options}
        self.storage = MemoryAdapter()
        self.clock = FakeClock()

    def engine(self) -> Engine:
        http = HttpService(**self.options)
        return Engine(
            self.storage,
            Services([ClockService(), EventsService(), http]),
            Settings(project=Path(), runner=RunnerSettings(native=True)),
            secret=b"k" * 32,
            clock=self.clock,
        )

    async def run(
        self, code: str, hosts: tuple[str, ...] | None = None, **input: Any
    ) -> tuple[TaskRun, list[StackRun]]:
        """Run a task to its end and replay it; returns the run and its calls."""
        engine = self.engine()
        try:
            config = TaskConfig(name="job", runtime="native", allow=Allow(hosts=hosts))
            await engine.store_task("job", code, config)
            run = await engine.run("job", input)
            calls = await engine.list_calls(run.id)
            await self._replay(engine, run, calls)
            return run, calls
        finally:
            await engine.close()

    async def log(self, run_id: str) -> str:
        """What a run has printed, or was told."""
        engine = self.engine()
        try:
            return "".join([entry.text for entry in await engine.get_log(run_id)])
        finally:
            await engine.close()

    async def value(self, code: str, **input: Any) -> Any:
        """What a task returns."""
        run, _ = await self.run(code, **input)
        assert run.error is None, run.error
        return values.from_json(run.result)

    async def _replay(self, engine: Engine, run: TaskRun, calls: list[StackRun]) -> None:
        """From the journal alone, years later, the program does the same."""
        runtime = engine._runtimes.create("native")
        program = Program(
            run_id=run.id,
            task="job",
            source=run.code,
            filename=run.filename,
            input_names=(),
            methods=engine.services.methods(run.config.allow),
            limits=run.config.limits,
        )
        try:
            turn = None
            for entry in journal.entries(calls, run.started_at or ""):
                now = times.from_text(entry.clock)
                if entry.turn == 1:
                    turn = await runtime.start(program, run.input, now)
                else:
                    turn = await runtime.resume(entry.outcomes, now)
                journal.check_turn(entry, turn)
            assert turn is None or not isinstance(turn.state, Waiting)
            if turn is not None and isinstance(turn.state, Finished):
                assert turn.state.value == run.result
        finally:
            await runtime.close()

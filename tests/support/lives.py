"""What holds for runs whatever was done to them: journals, outcomes, events and children."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from sequential.core import journal, times, values
from sequential.core.model import CallStatus, Finished, StackRun, Status, TaskRun, Waiting
from sequential.runner.child_runs import child_of
from sequential.runner.engine import Engine
from sequential.runtimes.base import Program


async def check_lives(
    engine: Engine, answers: Mapping[tuple[str, int], int], cancelled: Collection[str]
) -> None:
    """Check all runs of a store, which are over.

    `answers` says how often each run was given each (unique) piece of data, `cancelled` are runs
    that were cancelled by somebody.
    """
    runs = {run.id: await engine.get_run(run.id) for run in await engine.list_runs()}
    made = []
    for run in runs.values():
        calls = await engine.list_calls(run.id)
        made += [child_of(call) for call in calls if call.operation == "tasks.run"]
        _check_calls(run, calls)
        _check_events(answers, run, calls)
        if run.status is Status.COMPLETED:
            _check_result(values.from_json(run.input)["steps"], run.value, runs, calls)
            await _check_replay(engine, run, calls)
        else:
            assert cancelled, run.error  # itself, its parent or a child of it
    assert {run.id for run in runs.values() if run.parent_run_id} <= set(made)


def _check_calls(run: TaskRun, calls: list[StackRun]) -> None:
    """Every outcome has been delivered once; those of a completed run all were."""
    assert [call.sequence for call in calls] == list(range(len(calls)))
    known = [(c.delivered_turn, c.delivered_order) for c in calls if c.delivered_turn is not None]
    places = [(turn, order) for turn, order in known if order is not None]  # others: given up
    assert len(set(places)) == len(places)
    assert all(call.status.is_settled for call in calls)
    if run.status is Status.COMPLETED:
        assert len(known) == len(calls)


def _check_events(
    answers: Mapping[tuple[str, int], int], run: TaskRun, calls: list[StackRun]
) -> None:
    """An answer has been taken by one call, or is there still."""
    taken = [
        call.result
        for call in calls
        if call.operation == "events.wait" and call.status is CallStatus.COMPLETED
    ]
    there = [event.data for event in run.events]
    given = {data: times for (run_id, data), times in answers.items() if run_id == run.id}
    assert Counter([*taken, *there]) == given


def _check_result(
    program: Any, result: Any, runs: dict[str, TaskRun], calls: list[StackRun]
) -> None:
    """What the program returned is what it says; the results of its children are among it."""
    children = [runs[child_of(call)] for call in calls if call.operation == "tasks.run"]
    results = [child.value for child in children]
    for step, outcomes in zip(program, result, strict=True):
        for (kind, argument), outcome in zip(step, outcomes, strict=True):
            match kind:
                case "echo":
                    assert outcome == argument
                case "sleep":
                    assert outcome is None
                case "event" | "timed":
                    assert isinstance(outcome, int) or (kind, outcome) == ("timed", "late")
                case "child":
                    results.remove(outcome)
    assert results == []


async def _check_replay(engine: Engine, run: TaskRun, calls: list[StackRun]) -> None:
    """The journal, from its beginning, is the life of this program."""
    runtime = engine._runtimes.create(run.config.runtime)
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
        waiting: tuple[int, ...] = ()
        turn = None
        for entry in journal.entries(calls, run.started_at or ""):
            now = times.from_text(entry.clock)
            if entry.turn == 1:
                turn = await runtime.start(program, run.input, now)
            else:
                journal.check_delivery(entry, waiting)
                turn = await runtime.resume(entry.outcomes, now)
            journal.check_turn(entry, turn)
            waiting = turn.state.calls if isinstance(turn.state, Waiting) else ()
        assert turn is not None
        assert isinstance(turn.state, Finished)
        assert turn.state.value == run.result
    finally:
        await runtime.close()

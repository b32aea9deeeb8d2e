"""What people and programs do to runs that follow a graph, on several stores."""

import json
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import RunEvent, Status, TaskConfig
from sequential.errors import InvalidInputError, InvalidTransitionError
from sequential.runner.engine import Engine
from sequential.testing.clock import FakeClock

GRAPH = {
    "id": "order",
    "initial": "charge",
    "states": {
        "charge": {"onDone": "approval"},
        "approval": {
            "on": {
                "APPROVE": {"target": "ship", "guard": {"$expr": "event.by != 'me'"}},
                "REJECT": "refused",
                "note.*": {"actions": [{"type": "log", "params": {"$expr": "event.type"}}]},
            }
        },
        "ship": {"onDone": "shipped"},
        "shipped": {"type": "final"},
        "refused": {"type": "final"},
    },
}
CODE = """
async def charge(input):
    return {"n": input["n"]}

async def ship(input):
    answer = await wait_for_event("parcel") if input["n"] == 2 else "sent"
    return {**input, "parcel": answer}
"""


@pytest.fixture(params=["memory", "folder", "sqlite"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    place = "" if request.param == "memory" else f":{tmp_path}/{request.param}"
    store_url = f"{request.param}{place}"
    async with Engine(store_url, project=tmp_path, clock=FakeClock()) as engine:
        await store(engine, CODE)
        yield engine


async def store(engine: Engine, code: str) -> None:
    await engine.store_task("order", code, TaskConfig(name="order", graph=json.dumps(GRAPH)))


async def waiting(engine: Engine, n: int = 1) -> str:
    """A run that waits for approval, driven by nobody."""
    run = await engine.create_run("order", {"n": n})
    while "APPROVE" not in await engine.accepted_events(run.id) or not run.turn:
        run = await engine.drive(run.id, budget=0)
        for child in await engine.list_children(run.id):
            if not child.status.is_final:
                await engine.drive(child.id)
    return run.id


async def test_an_event_that_is_accepted_is_taken_with_its_data(engine: Engine) -> None:
    run_id = await waiting(engine)
    await engine.send(run_id, "APPROVE", {"by": "Ann"})
    run = await engine.resume(run_id)
    assert run.value == {"n": 1, "parcel": "sent"}


@pytest.mark.parametrize("way", ["send", "answer"])
async def test_another_is_refused_with_those_that_are(engine: Engine, way: str) -> None:
    run_id = await waiting(engine)
    before = await engine.get_run(run_id)
    told = "does not accept the event APROVE in approval: it accepts APPROVE, REJECT, note.*"
    with pytest.raises(InvalidTransitionError, match=told.replace("*", r"\*")):
        await getattr(engine, way)(run_id, "APROVE", {"by": "Ann"})
    assert await engine.get_run(run_id) == before


async def test_a_name_with_a_star_accepts_all_that_begin_like_it(engine: Engine) -> None:
    run_id = await waiting(engine)
    assert await engine.accepted_events(run_id) == ["APPROVE", "REJECT", "note.*"]
    for name in ("note", "note.late", "note.late.again"):
        await engine.send(run_id, name)
    with pytest.raises(InvalidTransitionError):
        await engine.send(run_id, "notes")
    await engine.send(run_id, "REJECT")
    await engine.resume(run_id)
    log = [json.loads(line.text) for line in await engine.get_log(run_id)]
    assert log == ["note", "note.late", "note.late.again"]


async def test_before_it_begins_every_event_of_the_graph_is_accepted(engine: Engine) -> None:
    run = await engine.create_run("order", {"n": 1})
    await engine.send(run.id, "REJECT")
    with pytest.raises(InvalidTransitionError, match="APPROVE, REJECT"):
        await engine.send(run.id, "CANCEL")
    assert (await engine.resume(run.id)).value == {"n": 1}


async def test_an_event_with_an_id_counts_once_even_when_the_state_was_left(engine: Engine) -> None:
    run_id = await waiting(engine, n=2)
    for _ in range(3):
        run = await engine.send(run_id, "APPROVE", {"by": "Ann"}, id="click-1")
    assert [(event.id, event.name) for event in run.events] == [("click-1", "APPROVE")]
    await engine.drive(run_id, budget=0)
    again = await engine.send(run_id, "APPROVE", {"by": "Ann"}, id="click-1")
    assert again.events == ()
    with pytest.raises(InvalidTransitionError, match="it accepts no event now"):
        await engine.send(run_id, "APPROVE", {"by": "Ann"}, id="click-2")


async def test_names_of_the_machine_and_runs_without_a_graph_are_refused(engine: Engine) -> None:
    run_id = await waiting(engine)
    with pytest.raises(InvalidInputError, match="reserved"):
        await engine.send(run_id, "xstate.done.actor.charge")
    await engine.store_task("plain", "def main(): return 1", TaskConfig(name="plain"))
    plain = await engine.create_run("plain")
    with pytest.raises(InvalidInputError, match=r"follows no graph: .* `answer`"):
        await engine.send(plain.id, "GO")
    assert await engine.accepted_events(plain.id) == []


async def test_a_run_that_is_over_takes_no_event(engine: Engine) -> None:
    run_id = await waiting(engine)
    await engine.cancel(run_id)
    with pytest.raises(InvalidTransitionError, match="cancelled"):
        await engine.send(run_id, "APPROVE")
    assert await engine.accepted_events(run_id) == []


async def test_two_events_at_once_are_both_kept(engine: Engine) -> None:
    run_id = await waiting(engine)
    await engine.send(run_id, "APPROVE", {"by": "me"})  # the guard is against it
    run = await engine.send(run_id, "REJECT")
    assert [type(event) for event in run.events] == [RunEvent, RunEvent]
    assert (await engine.resume(run_id)).value == {"n": 1}


async def test_lists_have_the_runs_of_a_task_and_not_those_of_its_handlers(engine: Engine) -> None:
    ids = sorted([await waiting(engine) for _ in range(3)], reverse=True)
    assert len(await engine.list_children(ids[0])) == 1
    assert [run.id for run in await engine.list_runs("order")] == ids
    assert [run.id for run in await engine.list_runs(limit=2)] == ids[:2]
    assert [run.id for run in await engine.list_runs(unfinished=True)] == ids
    for run_id in ids:
        await engine.send(run_id, "REJECT")
    await engine.resume(ids[0])
    assert [run.id for run in await engine.list_runs(limit=1)] == ids[:1]


async def test_a_short_id_means_the_run_and_not_its_first_handler(engine: Engine) -> None:
    run_id = await waiting(engine)
    (handler,) = await engine.list_children(run_id)
    shared = run_id[:13].rstrip("-")
    assert handler.id.startswith(shared)  # made in the same millisecond
    assert (await engine.find_run(shared, "order")).id == run_id
    assert (await engine.find_run(handler.id)).id == handler.id


async def test_retry_goes_on_from_the_handler_that_failed(engine: Engine) -> None:
    await store(engine, CODE.replace('"sent"', "1 / input['zero']"))
    run_id = await waiting(engine)
    await engine.send(run_id, "APPROVE", {"by": "Ann"})
    run = await engine.resume(run_id)
    assert (run.status, run.error and run.error.type) == (Status.FAILED, "KeyError")
    shipping = (await engine.list_children(run_id))[-1]
    with pytest.raises(InvalidTransitionError, match="retry that one"):
        await engine.retry(shipping.id)
    await engine.retry(run_id)
    run = await engine.resume(run_id)
    assert run.status is Status.FAILED  # the same code with the same input
    handlers = [child.config.handler for child in await engine.list_children(run_id)]
    assert handlers == ["charge", "ship"]  # what succeeded was not done again


async def test_cancelling_the_run_cancels_its_handler(engine: Engine) -> None:
    run_id = await waiting(engine, n=2)
    await engine.send(run_id, "APPROVE", {"by": "Ann"})
    while len(await engine.list_children(run_id)) < 2:
        await engine.drive(run_id, budget=0)
    await engine.cancel(run_id)
    children = {c.config.handler: c.status for c in await engine.list_children(run_id)}
    assert children == {"charge": Status.COMPLETED, "ship": Status.CANCELLED}


async def test_handlers_go_with_their_run_and_not_before(engine: Engine) -> None:
    gone, kept = await waiting(engine), await waiting(engine)
    (handler,) = await engine.list_children(kept)
    await engine.cancel(gone)
    await engine.cancel(kept)
    with pytest.raises(InvalidTransitionError, match=f"is a part of run {kept}: delete that one"):
        await engine.delete_run(handler.id)
    await engine.delete_run(gone)
    assert await engine.list_children(gone) == []
    assert await engine.prune(-86400.0, dry_run=True) == [kept]
    assert await engine.prune(-86400.0) == [kept]
    assert await engine.storage.query_task_runs() == []

"""Graph tasks from their first state to their last, with handlers that are runs of their own."""

import json
from typing import Any

import pytest

from sequential.core.model import Status, TaskConfig
from sequential.core.statechart.problems import GraphError
from sequential.runner.engine import Engine
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock

ORDER = {
    "id": "order",
    "initial": "fetchData",
    "states": {
        "fetchData": {"onDone": "check", "onError": "errorHandler"},
        "check": {"onSuccess": "approval", "onFail": "rejected"},
        "approval": {
            "on": {"APPROVE": "ship", "REJECT": "rejected"},
            "after": {"3600000": "rejected"},
        },
        "ship": {"onDone": "shipped", "onError": "errorHandler"},
        "shipped": {"type": "final"},
        "rejected": {"type": "final"},
        "errorHandler": {"type": "final"},
    },
}
CODE = """
async def fetchData(input, context):
    await sleep(5)
    print("in", context["state"])
    return {"n": input["n"], "success": True}

def check(input, context):
    return {**input, "success": input["n"] > 2}

async def ship(input):
    await sleep(1)
    if input["n"] > 100:
        raise ValueError("too many")
    return {"shipped": input["n"]}

def errorHandler(error):
    return {"handled": error}
"""


@pytest.fixture(params=["sandbox", "native"])
async def engine(request: pytest.FixtureRequest) -> Any:
    async with Engine(MemoryAdapter(), clock=FakeClock()) as engine:
        config = TaskConfig(name="order", graph=json.dumps(ORDER), runtime=request.param)
        await engine.store_task("order", CODE, config)
        yield engine


async def test_states_follow_one_another(engine: Engine) -> None:
    run = await (await engine.start("order", {"n": 1})).wait()
    assert run.result == {"n": 1, "success": False}
    steps = [call for call in await engine.list_calls(run.id) if call.operation == "graph.step"]
    assert [step.input["entered"] for step in steps] == [
        ["order", "order.fetchData"],
        ["order.check"],
        ["order.rejected"],
    ]


async def test_it_waits_for_an_event_or_for_the_time_to_be_over(engine: Engine) -> None:
    approved, forgotten = [await engine.start("order", {"n": 7}) for _ in range(2)]
    await approved.answer("APPROVE", {"by": "Ann"})
    assert (await approved.wait()).result == {"shipped": 7}
    assert (await forgotten.wait()).result == {"n": 7, "success": True}
    assert forgotten.record.ended_at
    assert forgotten.record.ended_at > forgotten.record.created_at[:11] + "01:00"


async def test_the_error_of_a_handler_leads_somewhere(engine: Engine) -> None:
    run = await engine.start("order", {"n": 101})
    await run.answer("APPROVE")
    assert (await run.wait()).result == {"handled": {"name": "ValueError", "message": "too many"}}


async def test_a_graph_with_mistakes_starts_nothing(engine: Engine) -> None:
    wrong = json.dumps(ORDER).replace('"check", "onError"', '"chekc", "onError"')
    await engine.store_task("order", CODE, TaskConfig(name="order", graph=wrong))
    with pytest.raises(GraphError, match=r'did you mean "check"'):
        await engine.start("order", {"n": 1})
    assert await engine.list_runs() == []


async def test_leaving_a_state_ends_its_handler() -> None:
    graph = {
        "initial": "work",
        "states": {
            "work": {"onDone": "late", "on": {"STOP": "stopped"}},
            "late": {"type": "final"},
            "stopped": {"type": "final", "invoke": {"src": "after"}},
        },
    }
    code = "async def work(input):\n    await wait_for_event('never')\n"
    code += "async def after(input):\n    await sleep(3600)\n    return 'stopped'\n"
    async with Engine(MemoryAdapter(), clock=FakeClock()) as engine:
        await engine.store_task("job", code, TaskConfig(name="job", graph=json.dumps(graph)))
        run = await engine.start("job")
        await run.answer("STOP")
        assert (await run.wait()).status is Status.COMPLETED
        children = {c.config.handler: c.status for c in await engine.list_children(run.id)}
        assert children == {"work": Status.CANCELLED, "after": Status.COMPLETED}

"""What a graph may contain, each run to its end with handlers on both runtimes."""

from typing import Any

import pytest

from runtimes.graph.conftest import Start, entered, handlers, over
from sequential.core.model import Allow, InputField, Status, TaskConfig
from sequential.runner.engine import Engine


async def test_regions_have_their_handlers_run_at_the_same_time(start: Start) -> None:
    graph = {
        "initial": "both",
        "states": {
            "both": {
                "type": "parallel",
                "states": {
                    side: {
                        "initial": "work",
                        "states": {
                            "work": {"invoke": {"src": side, "onDone": "end"}},
                            "end": {"type": "final"},
                        },
                    }
                    for side in ("left", "right")
                },
                "onDone": "over",
            },
            "over": {"type": "final"},
        },
    }
    code = "".join(f"async def {s}(input):\n    await sleep(3600)\n" for s in ("left", "right"))
    run = await over(await start(graph, code))
    assert run.status is Status.COMPLETED
    assert run.record.ended_at
    assert run.record.ended_at[:13] == run.record.created_at[:11] + "01"  # not two hours


async def test_a_history_state_goes_on_where_the_work_was_left(
    engine: Engine, start: Start
) -> None:
    graph = {
        "id": "player",
        "initial": "on",
        "states": {
            "on": {
                "initial": "play",
                "states": {
                    "play": {"on": {"NEXT": "shuffle"}},
                    "shuffle": {"on": {"NEXT": "#player.over"}},
                    "last": {"type": "history"},
                },
                "on": {"OFF": "off"},
            },
            "off": {"on": {"ON": "on.last"}},
            "over": {"type": "final"},
        },
    }
    run = await start(graph)
    for event in ("NEXT", "OFF", "ON", "NEXT"):
        await until_accepted(engine, run.id, event)
        await engine.send(run.id, event)
    assert (await over(run)).status is Status.COMPLETED
    assert (await entered(engine, run))[-2:] == [
        ["player.on", "player.on.shuffle"],
        ["player.over"],
    ]


async def until_accepted(engine: Engine, run_id: str, event: str) -> None:
    """Let the run come to where it takes the event."""
    while event not in await engine.accepted_events(run_id):
        await engine.wait(run_id, 0.01)


async def test_guards_choose_and_always_goes_on_by_itself(start: Start) -> None:
    graph = {
        "initial": "rate",
        "context": {"score": None},
        "states": {
            "rate": {
                "invoke": {
                    "src": "rate",
                    "input": {"$expr": "input.n"},
                    "onDone": {
                        "target": "choose",
                        "actions": {
                            "type": "assign",
                            "params": {"score": {"$expr": "event.output"}},
                        },
                    },
                }
            },
            "choose": {
                "always": [
                    {"target": "good", "guard": {"$expr": "context.score > 10"}},
                    {"target": "bad"},
                ]
            },
            "good": {"type": "final"},
            "bad": {"type": "final"},
        },
        "output": {"good": {"$expr": "context.score > 10"}, "score": {"$expr": "context.score"}},
    }
    code = "def rate(input):\n    return input * 2\n"
    runs = [await start(graph, code, {"n": n}) for n in (3, 30)]
    results = [(await over(run)).result for run in runs]
    assert results == [{"good": False, "score": 6}, {"good": True, "score": 60}]


async def test_a_handler_is_run_again_as_often_as_its_state_says(
    engine: Engine, start: Start
) -> None:
    retry = {"retries": 2, "delay": 3600, "max_delay": 86400, "jitter": 0}
    invoke = {"src": "work", "retry": retry, "onDone": "end", "onError": "lost"}
    states = {"work": {"invoke": invoke}, "end": {"type": "final"}, "lost": {"type": "final"}}
    graph = {"initial": "work", "states": states}
    run = await over(await start(graph, "def work(input):\n    raise OSError('down')\n"))
    assert (await entered(engine, run))[-1] == ["(machine).lost"]
    assert await handlers(engine, run) == [("work", "failed")] * 3
    hours = [child.created_at[11:13] for child in await engine.list_children(run.id)]
    assert hours == ["00", "01", "03"]  # the second pause is twice as long


async def test_leaving_a_state_during_the_pause_before_a_retry_ends_it(
    engine: Engine, start: Start
) -> None:
    invoke = {
        "src": "work",
        "retry": {"retries": 9, "delay": 86400, "max_delay": 86400},
        "onDone": "end",
    }
    graph = {
        "initial": "work",
        "states": {
            "work": {"invoke": invoke, "after": {"3600000": "end"}},
            "end": {"type": "final"},
        },
    }
    run = await over(await start(graph, "def work(input):\n    raise OSError('down')\n"))
    assert run.status is Status.COMPLETED
    assert await handlers(engine, run) == [("work", "failed")]


@pytest.mark.parametrize("src", ["slow", "task:slow"])
async def test_a_handler_may_take_only_so_long(
    engine: Engine, start: Start, kind: str, src: str
) -> None:
    slow = "async def slow(input):\n    await sleep(86400)\n"
    await engine.store_task("slow", slow, TaskConfig(name="slow", runtime=kind))
    graph = {
        "initial": "work",
        "states": {
            "work": {
                "invoke": {"src": src, "input": {}, "timeoutMs": 2000, "onDone": "end",
                           "onError": {"target": "late", "actions": {
                               "type": "assign",
                               "params": {"error": {"$expr": "event.error.message"}}}}}
            },
            "end": {"type": "final"},
            "late": {"type": "final"},
        },
        "output": {"$expr": "context.error"},
    }  # fmt: skip
    run = await over(await start(graph, slow))
    assert "2 s" in run.result
    (child,) = await engine.list_children(run.id)
    assert child.status is Status.FAILED
    assert child.ended_at
    assert child.ended_at[11:13] == "00"  # o'clock: not after a day


async def test_a_state_may_run_another_task(engine: Engine, start: Start, kind: str) -> None:
    config = TaskConfig(name="double", runtime=kind, inputs=(InputField("n", "number"),))
    await engine.store_task("double", "def double(n):\n    return n * 2\n", config)
    to = {"src": "task:double", "input": {"n": {"$expr": "input.n"}}, "onDone": "end"}
    graph = {
        "initial": "work",
        "states": {
            "work": {"invoke": to},
            "end": {"type": "final", "output": {"$expr": "event.output"}},
        },
        "output": {"$expr": "event.output"},
    }
    run = await over(await start(graph, "", {"n": 4}))
    assert run.result == 8


@pytest.mark.parametrize(
    ("given", "error"),
    [("1/0", "ZeroDivisionError"), ("object()", "TypeError")],
)
async def test_whatever_a_handler_does_wrong_goes_where_its_state_says(
    start: Start, given: str, error: str
) -> None:
    graph = {
        "initial": "work",
        "states": {
            "work": {"onDone": "end", "onError": "handle"},
            "handle": {"onDone": "end"},
            "end": {"type": "final"},
        },
    }
    code = f"def work(input):\n    return {given}\n\ndef handle(error):\n    return error['name']\n"
    run = await over(await start(graph, code))
    assert run.result == error


async def test_one_function_may_handle_all_states(start: Start) -> None:
    states: dict[str, Any] = {"first": {"onDone": "second"}, "second": {"onDone": "end"}}
    graph = {"initial": "first", "states": {**states, "end": {"type": "final"}}}
    code = "def job(input, context):\n    return [currentState, context['state'], input]\n"
    run = await over(await start(graph, code, {"n": 1}))
    assert run.result == ["second", "second", ["first", "first", {"n": 1}]]


async def test_handlers_are_found_in_snake_case(engine: Engine, start: Start) -> None:
    states: dict[str, Any] = {"fetchUsers": {"onDone": "send-mail"}, "send-mail": {"onDone": "end"}}
    graph = {"initial": "fetchUsers", "states": {**states, "end": {"type": "final"}}}
    code = "def fetch_users(input):\n    return 1\n\ndef send_mail(input):\n    return input + 1\n"
    run = await over(await start(graph, code))
    assert run.result == 2
    assert {name for name, _ in await handlers(engine, run)} == {"fetch_users", "send_mail"}


async def test_what_is_emitted_and_logged_is_written_down(engine: Engine, start: Start) -> None:
    actions = [
        {"type": "log", "params": {"n": {"$expr": "event.n"}}},
        {"type": "emit", "params": {"type": "seen", "n": {"$expr": "event.n"}}},
    ]
    graph = {"initial": "a", "states": {"a": {"on": {"GO": {"target": "b", "actions": actions}}},
                                        "b": {"type": "final"}}}  # fmt: skip
    run = await start(graph)
    await run.answer("GO", {"n": 7})
    assert (await over(run)).status is Status.COMPLETED
    assert [line.text for line in await engine.get_log(run.id)] == ['{"n":7}\n']
    (emitted,) = [c for c in await engine.list_calls(run.id) if c.operation == "graph.emit"]
    assert (emitted.input, emitted.status) == ({"type": "seen", "n": 7}, "completed")


async def test_a_graph_that_goes_round_for_ever_fails(start: Start) -> None:
    graph = {"initial": "a", "states": {"a": {"always": "b"}, "b": {"always": "a"}}}
    run = await over(await start(graph))
    assert run.status is Status.FAILED
    assert "1000 microsteps" in str(run.error)


async def test_an_error_that_no_state_takes_ends_the_run(engine: Engine, start: Start) -> None:
    graph = {"initial": "a", "states": {"a": {"onDone": "b"}, "b": {"type": "final"}}}
    run = await over(await start(graph, "def a(input):\n    raise KeyError('x')\n"))
    assert run.status is Status.FAILED
    assert run.error
    assert run.error.type == "KeyError"


async def test_a_graph_is_not_kept_from_its_handlers_by_what_the_task_may_reach(
    start: Start,
) -> None:
    graph = {"initial": "a", "states": {"a": {"onDone": "b"}, "b": {"after": {"10": "c"}},
                                        "c": {"type": "final"}}}  # fmt: skip
    run = await start(graph, "def a(input):\n    return 5\n", allow=Allow(services=(), hosts=()))
    assert (await over(run)).result == 5


@pytest.mark.parametrize("limit", [1, 2])
async def test_handlers_of_a_limited_task_have_room(
    engine: Engine, start: Start, limit: int
) -> None:
    states = {"a": {"onDone": "b"}, "b": {"onDone": "c"}, "c": {"type": "final"}}
    code = "async def a(input):\n    await sleep(1)\n\nasync def b(input):\n    await sleep(100)\n"
    graph = {"initial": "a", "states": states}
    runs = [await start(graph, code, concurrency=limit) for _ in range(3)]
    assert [(await over(run)).status for run in runs] == [Status.COMPLETED] * 3


@pytest.mark.parametrize("value", [{"$datetime": "rubbish"}, {"$float": "x"}])
async def test_no_graph_can_write_what_cannot_be_read(start: Start, value: Any) -> None:
    graph = {
        "initial": "a",
        "states": {
            "a": {
                "entry": [{"type": "log", "params": value}, {"type": "emit", "params": value}],
                "invoke": {"src": "a", "input": value, "onDone": "b"},
            },
            "b": {"type": "final"},
        },
        "output": value,
    }
    run = await over(await start(graph, "def a(input):\n    return sorted(input)\n"))
    assert run.status is Status.FAILED
    assert "begins with" in str(run.error)

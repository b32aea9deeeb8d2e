"""Graph tasks on the command line: made, checked, run, sent events to, shown."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from sequential.runner.engine import Engine
from support.command_line import Project, Start
from support.http_api import HttpApi

GRAPH: dict[str, Any] = {
    "id": "order",
    "initial": "charge",
    "states": {
        "charge": {"onDone": "approval", "onError": "errorHandler"},
        "approval": {"on": {"APPROVE": "ship", "REJECT": "refused"}, "after": {"86400000": "late"}},
        "ship": {"onDone": "shipped"},
        "shipped": {"type": "final"},
        "refused": {"type": "final"},
        "late": {"type": "final"},
        "errorHandler": {"type": "final"},
    },
}
CODE = """\
async def charge(input, context):
    print("charging in", context["state"])
    await sleep(0.01)
    return {"n": input["n"]}

async def ship(input):
    await sleep(0.01)
    return {"shipped": input["n"]}

def errorHandler(error):
    return {"handled": error["message"]}
"""


@pytest.fixture
def order(project: Project) -> Project:
    """A project with a graph task."""
    write(project, CODE, GRAPH)
    return project


def write(project: Project, code: str, graph: Any) -> None:
    folder = project.task("order", code)
    (folder / "graph.json").write_text(graph if isinstance(graph, str) else json.dumps(graph))


def waiting(project: Project) -> str:
    """A run that waits for approval, driven by nobody."""

    async def until_it_waits() -> str:
        async with Engine(project=project.folder) as engine:
            run = await engine.create_run("order", {"n": 3})
            while not run.turn or "APPROVE" not in await engine.accepted_events(run.id):
                run = await engine.drive(run.id)
                for child in await engine.list_children(run.id):
                    if not child.status.is_final:
                        await engine.drive(child.id)
            return run.id

    return asyncio.run(until_it_waits())


def test_an_event_that_is_accepted_is_taken(order: Project) -> None:
    run_id = waiting(order)
    done = order.ok("send", run_id[:18], "APPROVE", "--data", '{"by": "Ann"}', "--json")
    assert done.json["events"][0]["data"] == {"by": "Ann"}
    assert f"sent APPROVE to {run_id} of order" in done.err
    assert f"resume {run_id}" in done.err
    assert order.ok("resume", run_id, "--json").json["result"] == {"shipped": 3}


@pytest.mark.parametrize("command", ["send", "answer"])
def test_another_is_refused_and_nothing_is_changed(order: Project, command: str) -> None:
    run_id = waiting(order)
    before = order.ok("show", "order", run_id, "--json").json
    done = order(command, run_id, "APROVE")
    assert (done.code, done.out) == (2, "")
    assert "does not accept the event APROVE" in done.err
    assert "it accepts APPROVE, REJECT (did you mean APPROVE?)" in done.err
    assert order.ok("show", "order", run_id, "--json").json == before


def test_answer_and_send_are_the_same_for_a_graph(order: Project) -> None:
    run_id = waiting(order)
    order.ok("answer", run_id, "REJECT")
    assert order.ok("resume", run_id, "--json").json["result"] == {"n": 3}


def test_an_id_counts_once(order: Project) -> None:
    run_id = waiting(order)
    for _ in range(2):
        done = order.ok("send", run_id, "APPROVE", "--id", "click", "--json")
    assert [event["id"] for event in done.json["events"]] == ["click"]


def test_a_run_without_a_graph_is_to_be_answered(order: Project) -> None:
    order.task("plain", "async def main():\n    return 1\n")
    order.ok("run", "plain")
    done = order("send", order.run_ids("plain")[0], "GO")
    assert done.code == 2
    assert "follows no graph: what its task waits for is given with `answer`" in done.err
    assert order("send", order.run_ids("plain")[0], "xstate.init").code == 2


def test_show_tells_states_transitions_and_handlers_before_the_calls(order: Project) -> None:
    run_id = waiting(order)
    shown = order.ok("show", "order", run_id).out
    assert shown.startswith("Waiting ")
    assert f"Send: sequential-ecosystem send {run_id} APPROVE --data JSON" in shown
    assert "for the event APPROVE or REJECT" in shown
    headings = ["Input", "States", "Transitions", "Handlers", "Calls"]
    places = [shown.index(f"\n{heading}\n") for heading in headings]
    assert places == sorted(places)
    assert "graph.step" not in shown
    assert "tasks.run" not in shown
    table = {line.split()[0]: line.split() for line in part(shown, "States")[1:]}
    assert list(table) == ["charge", "approval"]
    assert table["charge"][-1] == "start"
    assert table["approval"][-4:] == ["so", "far", "charge", "done"]
    assert part(shown, "Transitions")[1].endswith("charge done  charge -> approval")
    (handler,) = part(shown, "Handlers")[1:]
    assert handler.endswith('-> {"n": 3}  1 sleep 10 ms')
    assert "states    approval\naccepts   APPROVE, REJECT\n" in shown


def part(shown: str, heading: str) -> list[str]:
    """The lines below a heading."""
    return shown.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()


def test_show_as_json_has_all_of_it(order: Project) -> None:
    run_id = waiting(order)
    order.ok("send", run_id, "APPROVE")
    order.ok("resume", run_id)
    document = order.ok("show", "order", run_id, "--json").json
    graph = document["graph"]
    assert [(s["state"], s["event"]) for s in graph["states"]] == [
        ("charge", "xstate.init"),
        ("approval", "xstate.done.actor.charge"),
        ("ship", "APPROVE"),
        ("shipped", "xstate.done.actor.ship"),
    ]
    ends = [(s["entered_at"], s["left_at"]) for s in graph["states"]]
    assert all(left == entered for (_, left), (entered, _) in pairwise(ends))
    assert ends[-1][1] == document["ended_at"]
    assert [(t["source"], t["targets"]) for t in graph["transitions"]] == [
        ("charge", ["approval"]),
        ("approval", ["ship"]),
        ("ship", ["shipped"]),
    ]
    assert (graph["active"], graph["accepts"]) == ([], [])
    assert [(h["state"], h["status"], h["result"]) for h in graph["handlers"]] == [
        ("charge", "completed", {"n": 3}),
        ("ship", "completed", {"shipped": 3}),
    ]
    assert [c["operation"] for c in graph["handlers"][0]["stack_runs"]] == ["clock.sleep"]
    assert [step["value"] for step in graph["steps"]] == ["charge", "approval", "ship", "shipped"]
    assert {call["operation"] for call in document["stack_runs"]} == {
        *("tasks.run", "events.wait", "clock.sleep")
    }
    order.task("plain", "async def main():\n    return 1\n")
    order.ok("run", "plain")
    (plain,) = order.run_ids("plain")
    assert order.ok("show", "plain", plain, "--json").json["graph"] is None


def test_a_worker_tells_runs_of_handlers_from_those_of_tasks(order: Project) -> None:
    run_id = order.ok("submit", "order", "--input", '{"n": 3}').out.strip()
    told = order.ok("worker", "--until-idle").err
    assert f"{run_id} order: driving" in told
    assert " order, handler charge: driving" in told


def test_a_handler_that_waits_for_an_answer_of_its_own_is_named(order: Project) -> None:
    asking = CODE.replace(
        'await sleep(0.01)\n    return {"sh', "await wait_for_event('parcel')\n    return {\"sh"
    )
    write(order, asking, GRAPH)
    run_id = waiting(order)
    order.ok("send", run_id, "APPROVE")

    async def go_on() -> str:
        async with Engine(project=order.folder) as engine:
            while len(children := await engine.list_children(run_id)) < 2:
                await engine.drive(run_id)
            return (await engine.drive(children[1].id)).id

    handler = asyncio.run(go_on())
    assert (
        f"Answer: sequential-ecosystem answer {handler} parcel"
        in order.ok("show", "order", run_id).out
    )


def test_runs_of_handlers_are_not_listed(order: Project) -> None:
    run_id = waiting(order)
    assert order.run_ids("order") == [run_id]
    (task,) = order.ok("list", "--json").json
    assert (task["runs"]["total"], task["last_run"]["id"]) == (1, run_id)
    assert order.ok("delete", "order", "--force").out == "removed  order with 1 run\n"
    assert not (order.folder / "tasks" / "order").exists()


def test_retry_goes_on_from_the_handler_that_failed(order: Project) -> None:
    failing = CODE.replace('await sleep(0.01)\n    return {"shipped"', 'return {"shipped"')
    write(order, failing.replace('input["n"]}\n\ndef', "services.gone.go()}\n\ndef"), GRAPH)
    run_id = waiting(order)
    order.ok("send", run_id, "APPROVE")
    assert order("resume", run_id).code == 1
    shown = order.ok("show", "order", run_id).out
    assert shown.startswith("Failed")
    assert f"retry {run_id}" in shown
    order.ok("retry", run_id)
    assert order("resume", run_id).code == 1
    graph = order.ok("show", "order", run_id, "--json").json["graph"]
    assert [handler["status"] for handler in graph["handlers"]] == ["completed", "failed"]


def test_describe_names_the_states(order: Project) -> None:
    names = "charge, approval, ship, shipped, refused, late, errorHandler"
    assert f"states       {names}\n" in order.ok("describe", "order").out
    assert order.ok("describe", "order", "--json").json["states"] == names.split(", ")


def test_a_graph_travels_with_its_task(order: Project) -> None:
    graph = (order.folder / "tasks" / "order" / "graph.json").read_text()
    store = ("--adaptor", f"sqlite:{order.folder}/store.db")
    order.ok("sync-tasks", *store)
    (order.folder / "tasks" / "order" / "graph.json").unlink()
    assert order("pull-tasks", *store).code == 1  # it was changed here
    order.ok("pull-tasks", "--force", *store)
    assert (order.folder / "tasks" / "order" / "graph.json").read_text() == graph


def test_a_graph_that_is_pulled_finds_its_schema(project: Project) -> None:
    project.ok("init")
    project.ok("config", "set", "adaptor", "sqlite")
    project.ok("create-task", "order", "--with-graph")
    project.ok("pull-tasks", "--dry-run")
    assert not (project.folder / "tasks" / "graph.schema.json").exists()
    project.ok("pull-tasks")
    file = project.folder / "tasks" / "order" / "graph.json"
    schema = file.parent / json.loads(file.read_text())["$schema"]
    assert json.loads(schema.read_text())["title"].startswith("graph.json")


def test_a_task_with_a_broken_graph_is_not_copied(order: Project) -> None:
    write(order, CODE, json.dumps(GRAPH).replace('"approval", "onE', '"aproval", "onE'))
    done = order("sync-tasks", "--adaptor", f"sqlite:{order.folder}/store.db")
    assert done.code == 1
    assert 'did you mean "approval"' in done.out


@pytest.mark.parametrize("kind", [(), ("--native",)])
@pytest.mark.parametrize("inputs", ["", "userId,limit:integer", "userId,rows:array"])
def test_a_new_graph_task_runs_as_it_is(
    project: Project, api: HttpApi, kind: tuple[str, ...], inputs: str
) -> None:
    made = project.ok("create-task", "complex-flow", "--with-graph", "--inputs", inputs, *kind)
    folder = project.folder / "tasks" / "complex-flow"
    for name in ("code.py", "graph.json", "config.json", "meta.json", "runs/"):
        assert f"created  tasks/complex-flow/{name}\n" in made.out
    graph = json.loads((folder / "graph.json").read_text())
    assert json.loads((folder / graph["$schema"]).read_text())["title"].startswith("graph.json")
    assert (graph["id"], graph["initial"]) == ("complexFlow", "step1")
    assert project.ok("run", "complex-flow", "--dry-run").out == "no problems\n"
    code = (folder / "code.py").read_text()
    (folder / "code.py").write_text(code.replace("https://postman-echo.com/", api.url + "/echo?"))
    given = {"userId": "7", "limit": 1, "rows": []} if inputs else {}
    given = {name: given[name] for name in given if name in inputs}
    done = project.ok("run", "complex-flow", "--input", json.dumps(given))
    assert json.loads(done.out)["success"] is True
    (run_id,) = project.run_ids("complex-flow")
    states = project.ok("show", "complex-flow", run_id, "--json").json["graph"]["states"]
    assert [one["state"] for one in states] == ["step1", "step2", "complete"]


def test_what_goes_wrong_in_the_first_state_is_handled(project: Project, api: HttpApi) -> None:
    project.ok("create-task", "flow", "--with-graph")
    code = project.folder / "tasks" / "flow" / "code.py"
    code.write_text(
        code.read_text().replace("https://postman-echo.com/get", api.url + "/status/404")
    )
    result = json.loads(project.ok("run", "flow").out)
    assert result["success"] is False
    assert "404" in result["error"]


def test_a_dry_run_lists_all_that_is_wrong_with_graph_and_handlers(order: Project) -> None:
    text = json.dumps(GRAPH).replace('"onDone": "approval"', '"onDone": "aproval", "cond": 1')
    write(order, CODE.replace("(error)", "(error, context, more)") + "\nprint(os.name)\n", text)
    done = order("run", "order", "--dry-run")
    assert done.code == 1
    graph, code = "tasks/order/graph.json: $.states.charge", "tasks/order/code.py:"
    places = [line.partition(": ")[0] for line in done.out.splitlines() if "tasks/" in line]
    assert f"{graph}.onDone: target" in done.out
    assert 'did you mean "approval"' in done.out
    assert f'{graph}: key "cond"' in done.out
    assert places[-1].startswith(code)
    document = order("run", "order", "--dry-run", "--json").json
    assert {problem["severity"] for problem in document} == {"error"}


def test_a_dry_run_looks_at_what_handlers_take(order: Project) -> None:
    write(order, CODE.replace("(error)", "(error, context, more)"), GRAPH)
    for runtime in ("sandbox", "native"):
        order.task(
            "order", CODE.replace("ship(input)", "ship(input, context, to)"), runtime=runtime
        )
        done = order("run", "order", "--dry-run")
        assert (done.code, done.out.count("tasks/order/code.py")) == (1, 1)
        assert "code.py:6:32: ship() needs `to`, but a handler is called with its input" in done.out


def test_a_dry_run_tells_warnings_and_notes_as_such(order: Project) -> None:
    lost = {**GRAPH, "states": {**GRAPH["states"], "lost": {"on": {"GO": "ship"}}}}
    write(order, CODE, lost)
    done = order("run", "order", "--dry-run")
    assert done.code == 1
    assert "graph.json: warning: $.states.lost: state" in done.out
    noted = {"initial": "a", "states": {"a": {"type": "final", "output": 1}}}
    write(order, CODE, noted)
    done = order.ok("run", "order", "--dry-run")
    assert "graph.json: note: $.states.a" in done.out
    assert done.out.endswith("no problems\n")


def test_one_function_may_handle_every_state(order: Project) -> None:
    code = "def order(input):\n    return {'status': 'success', 'state': currentState}\n"
    write(
        order,
        code,
        {
            "initial": "a",
            "states": {"a": {"onDone": "b"}, "b": {"onDone": "c"}, "c": {"type": "final"}},
        },
    )
    assert order.ok("run", "order", "--dry-run").out == "no problems\n"
    assert json.loads(order.ok("run", "order").out)["state"] == "b"


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_graph_with_mistakes_starts_nothing_and_says_all_of_them(
    order: Project, command: str
) -> None:
    text = json.dumps(GRAPH).replace(': "ship"', ': "shop"').replace(': "late"', ': "lat"')
    write(order, CODE, text)
    done = order(command, "order")
    assert (done.code, done.out) == (2, "")
    first, *problems = done.err.splitlines()
    assert first == "Error: graph.json has 2 problems:"
    assert [problem.partition(": ")[0] for problem in problems] == [
        '  $.states.approval.on["APPROVE"]',
        '  $.states.approval.after["86400000"]',
    ]
    assert order.run_ids("order") == []


def test_a_run_says_what_to_send_and_goes_on_when_it_comes(order: Project, start: Start) -> None:
    running = start("run", "order", "--input", '{"n": 3}')
    assert running.popen.stderr is not None
    lines = iter(running.popen.stderr.readline, "")
    asked = next(line for line in lines if line.startswith("Waiting"))
    (run_id,) = order.run_ids("order")
    command = f"sequential-ecosystem send {run_id} APPROVE --data JSON"
    assert asked == f"Waiting for the event APPROVE or REJECT. Send: {command}\n"
    order.ok("send", run_id, "APPROVE")
    assert json.loads(running.wait().out) == {"shipped": 3}


def test_wait_says_what_to_send(order: Project, start: Start) -> None:
    run_id = waiting(order)
    watching = start("wait", run_id, "--json")
    assert watching.popen.stderr is not None
    lines = iter(watching.popen.stderr.readline, "")
    typed = f"sequential-ecosystem send {run_id} APPROVE --data JSON"
    assert next(line for line in lines if line.startswith("Send")) == f"Send: {typed}\n"
    order.ok("send", run_id, "REJECT")
    order.ok("resume", run_id)
    assert json.loads(watching.wait().out)["result"] == {"n": 3}


def test_a_paused_run_keeps_the_event(order: Project) -> None:
    run_id = waiting(order)
    order.ok("pause", run_id)
    done = order.ok("send", run_id, "APPROVE")
    assert f"The run is paused: sequential-ecosystem unpause {run_id}" in done.err
    order.ok("unpause", run_id)
    assert order.ok("resume", run_id, "--json").json["result"] == {"shipped": 3}


def test_lists_say_in_which_state_a_run_waits(order: Project) -> None:
    waiting(order)
    assert "waits in approval" in order.ok("history", "order").out
    assert "Unfinished: order, waits in approval" in order.ok("list").err


def test_the_run_of_a_handler_names_its_parent(order: Project) -> None:
    run_id = waiting(order)
    graph = order.ok("show", "order", run_id, "--json").json["graph"]
    shown = order.ok("show", "order", graph["handlers"][0]["run_id"]).out
    assert f"parent    {run_id} of order\n" in shown
    assert "handler   charge\n" in shown


def test_a_handler_that_failed_once_succeeds_when_it_is_retried(
    order: Project, api: HttpApi
) -> None:
    asking = f"await fetch('{api.url}/flaky/order/1', retries=0)"
    code = CODE.replace(
        'return {"shipped"', f'({asking}).raise_for_status()\n    return {{"shipped"'
    )
    write(order, code, GRAPH)
    run_id = waiting(order)
    order.ok("send", run_id, "APPROVE")
    assert order("resume", run_id).code == 1
    order.ok("retry", run_id)
    assert order.ok("resume", run_id, "--json").json["result"] == {"shipped": 3}
    graph = order.ok("show", "order", run_id, "--json").json["graph"]
    assert [one["handler"] for one in graph["handlers"]] == ["charge", "ship"]
    assert api.count("/flaky/order/1") == 2


def test_names_of_a_graph_play_no_tricks_on_a_terminal(project: Project) -> None:
    hostile = "\x1b]0;title\x07\x9b31m\u202e\r\n"
    states = {
        f"a{hostile}": {"on": {f"GO{hostile}": f"b{hostile}", "END": f"c{hostile}"}},
        f"b{hostile}": {"always": f"a{hostile}"},
        f"c{hostile}": {"type": "final"},
    }
    write(project, "def main():\n    pass\n", {"initial": f"a{hostile}", "states": states})
    run_id = project.ok("submit", "order").out.strip()
    project.ok("worker", "--until-idle")
    shown = [
        project("show", "order", run_id),
        project("send", run_id, f"NO{hostile}"),
        project("history", "order"),
        project("describe", "order"),
        project("run", "order", "--dry-run"),
    ]
    project.ok("send", run_id, "END")
    project.ok("worker", "--until-idle")
    shown.append(project("show", "order", run_id))
    for done in shown:
        assert not set("\x1b\x07\x9b\u202e\r") & set(done.out + done.err)

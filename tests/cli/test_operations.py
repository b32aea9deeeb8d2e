"""What operators do: `answer`, `cancel`, `pause`, `unpause` and `retry`, on files and in SQLite."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Done, Open, Process, Project, Start, wait_until
from support.http_api import HttpApi

APPROVAL = """\
async def job(input):
    answer = await wait_for_event("approval")
    return [input["n"], answer]
"""
HOSTILE = "\x1b]0;title\x07\x9b31m\u202e\r\n"
NOBODY = "0195a000-0000-7000-8000-000000000000"

Put = Callable[..., None]


class Store:
    """A project on one of the stores, with commands on it in this process and in others."""

    def __init__(self, project: Project, flags: tuple[str, ...], start: Start) -> None:
        self.project = project
        self.flags = flags
        self._start = start

    def __call__(self, *arguments: str) -> Done:
        return self.project(*self.flags, *arguments)

    def ok(self, *arguments: str) -> Done:
        return self.project.ok(*self.flags, *arguments)

    def start(self, *arguments: str) -> Process:
        return self._start(*self.flags, *arguments)

    def task(self, code: str, name: str = "job") -> None:
        if not self.flags:
            self.project.task(name, code)
            return
        self.ok("create-task", name)
        with sqlite3.connect("runs.db") as connection:
            connection.execute(
                "UPDATE task_functions SET code = ? WHERE identifier = ?", (code, name)
            )
        connection.close()

    def run(self, run_id: str, task: str = "job") -> Any:
        return self.ok("show", task, run_id, "--json").json

    def newest(self, task: str = "job") -> Any:
        return self.ok("history", task, "--json").json[0]

    def is_waiting(self, event: str) -> bool:
        runs = self.ok("history", "job", "--json").json
        calls = self.run(runs[0]["id"])["stack_runs"] if runs else []
        return ("events.wait", {"name": event}) in [(c["operation"], c["input"]) for c in calls]


@pytest.fixture(params=["folder", "sqlite"])
def store(request: pytest.FixtureRequest, project: Project, start: Start) -> Store:
    flags = () if request.param == "folder" else ("--storage", "sqlite:runs.db")
    return Store(project, flags, start)


def submit(store: Store, **given: Any) -> str:
    return store.ok("submit", "job", "--input", json.dumps({"n": 1, **given})).out.strip()


def test_a_run_is_answered_from_another_process(store: Store) -> None:
    store.task(APPROVAL)
    running = store.start("run", "job", "--input", '{"n": 7}')
    wait_until(lambda: store.is_waiting("approval"))
    run_id = store.newest()["id"]
    done = store.ok("answer", run_id[:13], "approval", "--data", '{"by": "Ann"}')
    assert f"answered {run_id}: it waits for approval and goes on" in done.err
    assert f"resume {run_id}" in done.err
    ended = running.wait()
    assert (ended.code, json.loads(ended.out)) == (0, [7, {"by": "Ann"}])
    assert f"Waiting for the event approval. Answer: sequential-ecosystem answer {run_id}" in (
        ended.err
    )


def test_a_run_that_a_worker_drives_is_answered(store: Store) -> None:
    store.task(APPROVAL)
    worker = store.start("worker")
    run_id = submit(store)
    wait_until(lambda: store.is_waiting("approval"))
    store.ok("answer", run_id, "approval", "--data", "true")
    assert store.ok("wait", run_id, "--timeout", "15").json == [1, True]
    worker.kill(15)
    assert "waits at line 2 for an answer" in worker.wait().err


def test_an_answer_may_come_early(store: Store) -> None:
    store.task(APPROVAL)
    run_id = submit(store)
    done = store.ok("answer", run_id, "approval", "--json")
    assert done.json["events"][0]["name"] == "approval"
    assert "does not wait for an event yet" in done.err
    assert store.ok("resume", run_id).json == [1, None]


def test_the_event_it_waits_for_instead_is_named(store: Store) -> None:
    store.task(APPROVAL)
    run_id = submit(store)
    store.ok("worker", "--until-idle")
    done = store.ok("answer", run_id, "two words", "--data", "1")
    assert "it will find 'two words' later, now it waits for approval" in done.err
    store.ok("worker", "--until-idle")  # it looks, finds nothing for itself, and waits on
    shown = store.ok("show", "job", run_id).out
    assert "Waiting " in shown
    assert "for the event approval." in shown
    assert f"Answer: sequential-ecosystem answer {run_id} approval --data JSON" in shown
    assert "No process drives it" not in shown
    assert "Answers that were not taken" in shown
    assert re.search(r"^'two words' .*1$", shown, re.MULTILINE)
    assert "waits at line 2 for an answer" in store.ok("history", "job").out
    assert f"Answer: sequential-ecosystem show job {run_id}" in store.ok("list").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("approval", "--data", "{not json"), "--data is not JSON"),
        (("approval", "--data", "@nowhere.json"), "--data @nowhere.json cannot be read"),
        (("",), "not a name of an event: ''"),
        ((HOSTILE,), "not a name of an event"),
        (("x" * 201,), "use 1 to 200 printable characters"),
    ],
)
def test_what_cannot_be_an_answer_is_refused(
    store: Store, arguments: tuple[str, ...], message: str
) -> None:
    store.task(APPROVAL)
    run_id = submit(store)
    done = store("answer", run_id, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not set("\x1b\x07\x9b\u202e\r") & set(done.err)
    assert store.run(run_id)["events"] == []


def test_data_is_read_from_a_file(store: Store) -> None:
    store.task(APPROVAL)
    run_id = submit(store)
    Path("answer.json").write_text('{"text": "grüße"}')
    store.ok("answer", run_id, "approval", "--data", "@answer.json")
    assert store.ok("resume", run_id).json == [1, {"text": "grüße"}]


def test_a_run_that_is_over_takes_no_answer(store: Store) -> None:
    store.task("def job(input):\n    return 1\n")
    run_id = store.ok("run", "job", "--json").json["id"]
    done = store("answer", run_id, "approval")
    assert done.code == 2
    assert "is completed: answer is not possible" in done.err


def test_hostile_names_and_data_are_harmless(store: Store, terminal: Open) -> None:
    store.task(
        f"async def job(input):\n    await gather(*[wait_for_event(x) for x in {[HOSTILE, 'b']!r}])"
    )
    run_id = submit(store)
    store.ok("worker", "--until-idle")
    store.ok("answer", run_id, "a;b", "--data", json.dumps(HOSTILE))
    for command in (("show", "job", run_id), ("history", "job"), ("answer", run_id, "c")):
        done = store.ok(*command)
        text = terminal(*store.flags, *command).wait()[1]
        shown = done.out + done.err + re.sub(r"\x1b\[[0-9;]*m|\r\n", "", text)
        assert not set("\x1b\x07\x9b\u202e\r") & set(shown), shown


def test_a_run_that_a_worker_drives_is_cancelled(store: Store, api: HttpApi) -> None:
    store.task(
        f"async def job(input):\n    await fetch('{api.url}/slow/5', timeout=9)\n    return 1"
    )
    worker = store.start("worker")
    run_id = submit(store)
    wait_until(lambda: api.requests)
    done = store.ok("cancel", run_id[:13], "--json")
    assert [run["status"] for run in done.json] == ["cancelled"]
    assert f"cancelled {run_id} of job" in done.err
    run = store.run(run_id)
    assert (run["status"], run["stack_runs"][0]["status"]) == ("cancelled", "cancelled")
    worker.kill(15)
    worker.wait()
    assert store.run(run_id)["status"] == "cancelled"
    assert len(api.requests) == 1


def test_a_paused_run_rests_until_it_is_unpaused(store: Store) -> None:
    store.task(APPROVAL)
    run_id = submit(store)
    store.ok("worker", "--until-idle")
    done = store.ok("pause", run_id)
    assert f"paused {run_id} of job; go on: sequential-ecosystem unpause {run_id}" in done.err
    assert "The run is paused" in store.ok("answer", run_id, "approval", "--data", "2").err
    store.ok("worker", "--until-idle")
    shown = store.ok("show", "job", run_id).out
    assert shown.startswith("Paused by an operator. Waiting ")
    assert f"Go on: sequential-ecosystem unpause {run_id}" in shown
    assert "paused at line 2" in store.ok("history", "job").out
    resumed = store("resume", run_id)
    assert (resumed.code, f"unpause {run_id}" in resumed.err) == (1, True)
    again = store("pause", run_id)
    assert (again.code, "is paused: pause is not possible" in again.err) == (2, True)
    assert f"a worker takes it, or sequential-ecosystem resume {run_id}" in (
        store.ok("unpause", run_id).err
    )
    store.ok("worker", "--until-idle")
    assert store.ok("wait", run_id).json == [1, 2]


def test_pausing_a_run_in_another_process_ends_its_command(store: Store) -> None:
    store.task(APPROVAL)
    running = store.start("run", "job", "--input", '{"n": 1}')
    wait_until(lambda: store.is_waiting("approval"))
    run_id = store.newest()["id"]
    store.ok("pause", run_id)
    ended = running.wait()
    assert ended.code == 1
    assert f"The run is paused: sequential-ecosystem unpause {run_id}" in ended.err


def test_only_the_call_that_failed_is_made_again(store: Store, api: HttpApi) -> None:
    """The server refuses for a while; once it works again, the run goes on with the same keys."""
    store.task(
        f"""\
async def job(input):
    first = await fetch("{api.url}/echo", method="POST", json=1)
    second = await fetch("{api.url}/flaky/a/1", method="POST", json=2, retries=0)
    second.raise_for_status()
    return [first.status, second.status]
"""
    )
    run_id = submit(store)
    assert store("resume", run_id).code == 1
    shown = store.ok("show", "job", run_id).out
    assert f"Try again from there: sequential-ecosystem retry {run_id}" in shown
    done = store.ok("retry", run_id[:13])
    assert f"due again {run_id} of job: a worker takes it" in done.err
    assert store.run(run_id)["status"] == "suspended"
    store.ok("worker", "--until-idle")
    assert store.ok("wait", run_id).json == [200, 200]
    assert [request.path for request in api.requests] == ["/echo", "/flaky/a/1", "/flaky/a/1"]
    keys = [request.headers["idempotency-key"] for request in api.requests]
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.parametrize("command", ["cancel", "pause", "unpause", "retry"])
def test_nothing_is_changed_when_one_of_several_is_refused(store: Store, command: str) -> None:
    store.task(APPROVAL)
    one, two = submit(store), submit(store)
    before = [store.run(run_id) for run_id in (one, two)]
    for unknown in (NOBODY, "0", "not-an-id", two[:1]):
        done = store(command, one, unknown, two)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("Error: ")
        assert done.err.count("\n") == 1
    assert store(command).code == 2
    if command in ("unpause", "retry"):
        assert store(command, one, two).code == 2
    else:
        store.ok("cancel", two)
        before[1] = store.run(two)
        assert store(command, one, two).code == 2
    assert [store.run(run_id) for run_id in (one, two)] == before


def test_several_runs_at_once_each_only_once(store: Store) -> None:
    store.task(APPROVAL)
    ids = [submit(store) for _ in range(3)]
    done = store.ok("pause", *ids, ids[0], "--json")
    assert [run["id"] for run in done.json] == ids
    assert [line.split()[:2] for line in done.err.splitlines()] == [["paused", i] for i in ids]
    assert [run["status"] for run in store.ok("unpause", *ids, "--json").json] == ["suspended"] * 3
    assert [run["status"] for run in store.ok("cancel", *ids, "--json").json] == ["cancelled"] * 3


def test_child_runs_are_listed_under_their_parent(store: Store) -> None:
    store.task("async def kid(input):\n    return await wait_for_event('x')\n", "kid")
    store.task("async def job(input):\n    return await run_task('kid', {'n': 1})\n")
    run_id = submit(store)
    store.ok("worker", "--until-idle")
    child = store.newest("kid")
    assert child["parent_run_id"] == run_id
    shown = store.ok("show", "job", run_id).out
    assert "for the task kid." in shown
    assert re.search(rf"Child runs\n.*\n{child['id'][:13]} +kid +suspended .*for an answer", shown)
    assert store.run(run_id)["children"] == [
        {"id": child["id"], "task_identifier": "kid", "status": "suspended"}
    ]
    assert f"{run_id} of job" in store.ok("show", "kid", child["id"]).out
    listed = store.ok("list").err
    assert f"resume {child['id']}" not in listed
    store.ok("answer", child["id"], "x", "--data", "5")
    store.ok("worker", "--until-idle")
    assert store.ok("wait", run_id).json == 5


def test_cancelling_a_run_cancels_its_child_runs(store: Store) -> None:
    store.task("async def kid(input):\n    return await wait_for_event('x')\n", "kid")
    store.task("async def job(input):\n    return await run_task('kid')\n")
    run_id = submit(store)
    store.ok("worker", "--until-idle")
    store.ok("cancel", run_id)
    assert [child["status"] for child in store.run(run_id)["children"]] == ["cancelled"]


def test_a_child_is_retried_with_its_parent(store: Store, api: HttpApi) -> None:
    store.task(
        f"""\
async def kid(input):
    answer = await fetch("{api.url}/flaky/a/1", method="POST", retries=0)
    return answer.raise_for_status().status
""",
        "kid",
    )
    store.task("async def job(input):\n    return await run_task('kid')\n")
    run_id = submit(store)
    assert store("resume", run_id).code == 1
    child = store.newest("kid")["id"]
    done = store("retry", child)
    assert done.code == 2
    assert f"was started by run {run_id}, which is over: retry that one" in done.err
    assert "Try again" not in store.ok("show", "kid", child).out
    assert store("retry", run_id, child).code == 2
    assert [store.run(run_id)["status"], store.newest("kid")["status"]] == ["failed", "failed"]
    store.ok("retry", run_id)
    assert store.ok("resume", run_id).json == 200
    assert [run["id"] for run in store.ok("history", "kid", "--json").json] == [child]
    keys = [request.headers["idempotency-key"] for request in api.requests]
    assert keys[0] == keys[1]


def test_a_delayed_run_says_when_it_begins(store: Store) -> None:
    store.task(APPROVAL)
    run_id = store.ok("submit", "job", "--delay", "10m", "--priority", "3").out.strip()
    store.ok("worker", "--until-idle")
    shown = store.ok("show", "job", run_id).out
    assert re.match(r"Not started yet, begins .* \(in (10|9) min.*\), priority 3\.\n", shown)
    assert f"Begin at once: sequential-ecosystem resume {run_id}" in shown
    assert "not started, begins " in store.ok("history", "job").out
    assert run_id not in store.ok("list").err


def test_runs_of_higher_priority_are_driven_first(store: Store) -> None:
    store.task("def job(input):\n    return 1\n")
    ids = {n: store.ok("submit", "job", "--priority", str(n)).out.strip() for n in (0, 5, -5)}
    done = store.ok("worker", "--until-idle", "--concurrency", "1")
    ended = re.findall(r"(\S+) job: completed", done.err)
    assert ended == [ids[5], ids[0], ids[-5]]


def test_a_run_that_nobody_answers_expires(project: Project) -> None:
    project.task("job", APPROVAL, ttl=0.2)
    run_id = project.ok("submit", "job", "--input", '{"n": 1}', "--json").json["id"]
    failed = project("resume", run_id)
    assert failed.code == 1
    assert "expired: no answer came within the task's ttl of 0.2 s" in failed.err
    assert project.ok("show", "job", run_id, "--json").json["error"]["code"] == "expired"
    shown = project.ok("describe", "job")
    assert re.search(r"^ttl +0.20 s$", shown.out, re.MULTILINE)


def test_the_storage_has_another_name(project: Project) -> None:
    project.ok("--adaptor", "sqlite:other.db", "create-task", "job")
    assert Path("other.db").exists()
    assert "--adaptor" in project.ok("--help").out


@pytest.mark.parametrize("delay", ["soon", "-5", "10 years", "", "1e9", "٣m"])
def test_a_delay_that_is_no_span_of_time_is_refused(project: Project, delay: str) -> None:
    project.task("job", APPROVAL)
    done = project("submit", "job", "--delay", delay)
    assert done.code == 2
    assert project.run_ids("job") == []

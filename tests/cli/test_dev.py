"""`dev` in a real process: what is saved counts from the next run on, what is wrong is told."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.command_line import Open, Project
from support.server_process import PATIENCE, SCRIPT, ServerProcess, new_project

SOON = 5.0  # seconds that a save may take to count, on a machine that is busy
HELLO = "async def hello(name='you'):\n    return {!r}"
CALLS = "async def calls():\n    return await services.crm.find()"
CRM = "def find():\n    return {!r}"
# A service is a program of the project, so it may do this to the process it is in.
BREAKS = """
from pathlib import Path
from sequential.runner.worker import Worker

real = Worker._take_due

async def once(self):
    if Path("break").exists():
        Path("break").unlink()
        raise ZeroDivisionError("somewhere in the worker")
    return await real(self)

Worker._take_due = once

def nothing():
    pass
"""


class Dev(ServerProcess):
    """A `dev` at work, in its folder."""

    def __init__(self, folder: Path, *arguments: str, storage: str = "folder") -> None:
        super().__init__(folder, *arguments, storage=storage, command="dev")
        self.folder = folder
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def save(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, task: str, **given: Any) -> Any:
        """What a run of a task gives, or its error."""
        ended = self.http.post(f"/tasks/{task}", json={"input": given}).json()
        assert "status" in ended, ended
        return ended["error"]["message"] if ended["status"] == "failed" else ended["result"]

    def until_run(self, task: str, result: Any) -> None:
        """Run a task until it gives this, which has to be soon."""
        until(lambda: self.run(task), result)

    def state(self) -> Any:
        return self.http.get("/dev/state").json()

    def problems(self, task: str) -> list[str]:
        tasks = [one for one in self.state()["tasks"] if one["name"] == task]
        return [problem["message"] for one in tasks for problem in one["problems"]]

    def end(self) -> None:
        self.http.close()
        super().end()


def until(look: Callable[[], Any], wanted: Any) -> None:
    end = time.monotonic() + SOON
    while (found := look()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.01)


Begin = Callable[..., Dev]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Start `dev` on a project with tasks and a service; what still runs at the end is killed."""
    monkeypatch.chdir(tmp_path)
    started: list[Dev] = []
    folder = new_project(tmp_path, {"hello": HELLO.format("old"), "calls": CALLS})
    (folder / "services/crm.py").write_text(CRM.format("old"))

    def start(*arguments: str, **options: Any) -> Dev:
        started.append(Dev(folder, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_what_is_saved_counts_for_the_next_run(begin: Begin) -> None:
    dev = begin()
    assert (dev.run("hello"), dev.run("calls")) == ("old", "old")

    dev.save("tasks/hello/code.py", HELLO.format("new"))
    dev.until_run("hello", "new")
    dev.save("services/crm.py", CRM.format("new"))
    dev.until_run("calls", "new")
    dev.save(".sequentialrc.json", '{"defaults": {"name": "Ada"}}')
    dev.save("tasks/greet/code.py", "async def greet(name):\n    return name")
    dev.save("tasks/greet/config.json", '{"name": "greet", "inputs": [{"name": "name"}]}')
    until(lambda: dev.http.post("/tasks/greet", json={}).json().get("result"), "Ada")


def test_syntax_errors_end_nothing(begin: Begin) -> None:
    dev = begin()
    dev.save("services/crm.py", "def find(")
    dev.save(".sequentialrc.json", '{"defaults": ')
    dev.save("tasks/calls/code.py", "async def calls(")
    until(lambda: any("syntax error" in one for one in dev.problems("calls")), True)
    until(lambda: bool(dev.state()["services"] and dev.state()["settings"]), True)
    assert dev.run("hello") == "old"
    assert "Expected" in dev.run("calls")

    dev.save("tasks/calls/code.py", CALLS)
    dev.until_run("calls", "old")  # of the service that was there before
    dev.save("services/crm.py", CRM.format("new"))
    dev.until_run("calls", "new")
    dev.save(".sequentialrc.json", "{}")
    until(lambda: dev.state()["settings"], [])

    dev.signal(signal.SIGINT)
    assert dev.wait() == 130
    for told in ("crm.py:1: SyntaxError", "calls/code.py:1", ".sequentialrc.json is not right"):
        assert told in dev.told
    assert "Traceback" not in dev.told


@pytest.mark.parametrize("storage", ["folder", "sqlite"])
def test_a_run_in_flight_keeps_its_source_also_when_dev_is_killed(
    begin: Begin, storage: str
) -> None:
    waits = "async def waits():\n    word = await wait_for_event('word')\n    return {!r} + word"
    dev = begin(storage=storage)
    dev.save("tasks/waits/code.py", waits.format("old "))
    body = {"task": "waits"}
    until(lambda: "waits" in {one["name"] for one in dev.state()["tasks"]}, True)
    run = dev.http.post("/api/v1/runs", json=body).json()["id"]
    until(lambda: dev.http.get(f"/api/v1/runs/{run}").json()["status"], "suspended")
    dev.save("tasks/waits/code.py", waits.format("new "))
    until(lambda: "new" in dev.http.get("/api/v1/tasks/waits").json()["code"], True)
    dev.signal(signal.SIGKILL)
    dev.wait()

    again = begin(storage=storage)
    new = again.http.post("/api/v1/runs", json=body).json()["id"]
    for one in (run, new):
        answer = {"name": "word", "data": "there"}
        assert again.http.post(f"/api/v1/runs/{one}/answer", json=answer).status_code < 300
    ended = [again.http.get(f"/api/v1/runs/{one}/wait").json() for one in (run, new)]

    assert [one["result"] for one in ended] == ["old there", "new there"]


def test_tasks_are_copied_into_a_database_when_they_are_fine(begin: Begin) -> None:
    dev = begin(storage="sqlite")
    until(lambda: dev.http.get("/api/v1/tasks/hello").status_code, 200)
    dev.until_run("hello", "old")
    dev.save("tasks/hello/code.py", "async def hello(name='you'):\n    return open(name)")
    until(lambda: len(dev.problems("hello")), 1)
    assert dev.run("hello") == "old"

    dev.save("tasks/hello/code.py", HELLO.format("new"))
    dev.until_run("hello", "new")


def test_it_ends_soon_also_when_a_page_is_open(begin: Begin) -> None:
    dev = begin()
    with dev.http.stream("GET", "/dev/events") as page:
        lines = page.iter_lines()
        until(lambda: next(lines).startswith("data: "), True)
        begun = time.monotonic()
        dev.signal(signal.SIGINT)
        for _ in lines:
            pass
    assert dev.wait() == 130
    assert time.monotonic() - begun < SOON


def test_the_request_that_is_shown_works(begin: Begin) -> None:
    dev = begin()
    line = dev.until(r"^  (curl .*/tasks/.*)$")
    done = subprocess.run(
        [*shlex.split(line), "-s"], check=True, capture_output=True, text=True, timeout=PATIENCE
    )

    assert '"status":"completed"' in done.stdout


def test_a_worker_that_breaks_is_shown_and_runs_go_on(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "services/breaks.py").write_text(BREAKS)
    dev = begin()
    assert dev.run("hello") == "old"
    (tmp_path / "break").touch()
    dev.http.post("/api/v1/runs", json={"task": "hello"})
    dev.until("somewhere in the worker")
    dev.until("Starting again")
    dev.until("Serving")

    assert dev.run("hello") == "old"
    runs = dev.http.get("/api/v1/runs").json()["items"]
    ids = [one["id"] for one in runs]
    until(
        lambda: {dev.http.get(f"/api/v1/runs/{one}").json()["status"] for one in ids}, {"completed"}
    )


def test_a_service_that_is_broken_at_the_start_is_waited_for(begin: Begin, tmp_path: Path) -> None:
    crm = tmp_path / "services/crm.py"
    crm.write_text("def find(")
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    with subprocess.Popen(
        [SCRIPT, "dev", "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        crm.write_text(CRM.format("new"))
        serving = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.stderr.read()

    assert "crm.py:1: SyntaxError" in told
    assert "when that is mended" in told
    assert serving.startswith("Serving")


def test_a_folder_that_is_no_project_is_refused_where_nobody_can_be_asked(project: Project) -> None:
    done = project("dev", "--port", "0")

    assert done.code == 2
    assert "`sequential-ecosystem init` makes this folder a project" in done.err
    assert list(project.folder.iterdir()) == []


def test_on_a_terminal_the_folder_can_be_made_a_project(project: Project, terminal: Open) -> None:
    shown = terminal("dev", "--port", "0", columns=200)
    shown.until("Make it one?")
    shown.type("\n")
    shown.until("No task yet: sequential-ecosystem create-task hello")
    shown.type("\x03")
    code, _ = shown.wait()

    assert code == 130
    assert (project.folder / ".sequentialrc.json").exists()
    assert (project.folder / "tasks").is_dir()


def test_a_port_that_is_taken(begin: Begin, project: Project) -> None:
    dev = begin()
    done = project("dev", "--port", str(dev.port))

    assert done.code == 2
    assert "choose another one with --port" in done.err

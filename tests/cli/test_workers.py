"""Runs that others drive: submitted, worked on by any number of processes, and waited for."""

import functools
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from support.command_line import Process, Project, Start, wait_until
from support.http_api import HttpApi, serve
from support.valkey_server import valkey

CODE = """
import asyncio
async def job(input):
    for i in range(3):
        await fetch(f"{input['url']}/json/{input['n'] * 10 + i}", method="POST")
    await asyncio.sleep(0.05)
    return input["n"]
"""


def submit(project: Project, url: str, n: int) -> str:
    return project.ok("submit", "job", "--input", f'{{"url": "{url}", "n": {n}}}').out.strip()


def has_requests(api: HttpApi, number: int) -> bool:
    return len(api.requests) >= number


def status(project: Project) -> str:
    (run,) = project.ok("history", "job", "--json").json
    return str(run["status"])


def test_submit_writes_a_run_and_drives_nothing(project: Project) -> None:
    project.task("job", "def job():\n    return 1\n")
    run_id = project.ok("submit", "job").out.strip()
    (run,) = project.ok("history", "job", "--json").json
    assert (run["id"], run["status"]) == (run_id, "pending")
    assert project.ok("submit", "job", "--json").json["status"] == "pending"


def test_a_worker_drives_what_is_due(project: Project) -> None:
    project.task("job", "def job():\n    return 41 + 1\n")
    run_id = project.ok("submit", "job").out.strip()
    done = project.ok("worker", "--until-idle")
    assert f"{run_id} job: completed" in done.err
    assert project.ok("wait", run_id).out.strip() == "42"


def test_wait_gives_up_after_its_timeout(project: Project) -> None:
    project.task("job", "def job():\n    return 1\n")
    run_id = project.ok("submit", "job").out.strip()
    done = project("wait", run_id, "--timeout", "0.1")
    assert done.code == 1
    assert "still pending" in done.err


def test_wait_for_a_failed_run_shows_why(project: Project) -> None:
    project.task("job", "def job():\n    return 1 / 0\n")
    run_id = project.ok("submit", "job").out.strip()
    project.ok("worker", "--until-idle")
    done = project("wait", run_id)
    assert done.code == 1
    assert "ZeroDivisionError" in done.err


def test_wait_says_once_which_answer_a_run_waits_for(project: Project, start: Start) -> None:
    code = "async def job():\n    return await wait_for_event('the boss')\n"
    project.task("job", code)
    run_id = project.ok("submit", "job").out.strip()
    project.ok("worker", "--until-idle")
    waiting = start("wait", run_id)
    assert waiting.popen.stderr
    told = [waiting.popen.stderr.readline() for _ in range(2)]
    assert re.fullmatch(r"Waiting .* for the event 'the boss'\.\n", told[0])
    assert told[1] == f"Answer: sequential-ecosystem answer {run_id} 'the boss' --data JSON\n"
    project.ok("answer", run_id, "the boss", "--data", "7")
    project.ok("worker", "--until-idle")
    done = waiting.wait()
    assert done.out == "7\n"
    assert "Waiting" not in done.err


def test_wait_says_nothing_of_an_answer_that_has_come(project: Project) -> None:
    project.task("job", "async def job():\n    return await wait_for_event('go')\n")
    run_id = project.ok("submit", "job").out.strip()
    project.ok("worker", "--until-idle")
    assert "Answer: " in project("wait", run_id, "--timeout", "0.1").err
    project.ok("answer", run_id, "go")
    assert "Answer: " not in project("wait", run_id, "--timeout", "0.1").err


def test_an_unknown_task_is_refused(project: Project) -> None:
    assert project("worker", "--task", "nobody", "--until-idle").code == 2
    assert project("submit", "nobody").code == 2


def test_sigterm_parks_what_is_driven(project: Project) -> None:
    project.task("job", "import asyncio\nasync def job():\n    await asyncio.sleep(3)\n")
    project.ok("submit", "job")
    worker = Process("worker")
    wait_until(lambda: status(project) == "running")
    worker.kill(signal.SIGTERM)
    assert worker.wait().code == 128 + signal.SIGTERM
    assert status(project) == "suspended"


@pytest.mark.timeout(60)
def test_workers_that_are_killed_lose_nothing(project: Project, tmp_path: Path) -> None:
    """Three workers share 30 runs; one of them is killed again and again."""
    with serve() as api:
        project.task("job", CODE)
        ids = [submit(project, api.url, n) for n in range(30)]
        workers = [Process("worker", "--concurrency", "4") for _ in range(3)]
        try:
            for victim in range(3):
                enough = 20 * (victim + 1)
                wait_until(functools.partial(has_requests, api, enough))
                workers[victim].kill()
                workers.append(Process("worker", "--concurrency", "4"))
            done = [project.ok("wait", run_id, "--timeout", "30", "--json").json for run_id in ids]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        requests = list(api.requests)
    assert [run["result"] for run in done] == list(range(30))
    keys = Counter((r.path, r.headers["idempotency-key"]) for r in requests)
    assert len(keys) == len({path for path, _ in keys}) == 90  # one key for each call, for ever
    assert sum(keys.values()) - 90 <= 3 * 4  # again only what was in progress at a kill


def test_all_workers_together_keep_to_the_concurrency_of_a_task(
    project: Project, start: Start, api: HttpApi
) -> None:
    """Two workers that drive two runs each would be four; neither could be three alone."""
    seconds = 0.4
    project.ok("init")
    project.ok("config", "set", "adaptor", "sqlite")
    code = f'async def job():\n    return (await fetch("{api.url}/slow/{seconds}")).status\n'
    project.task("job", code, concurrency=3)
    project.ok("sync-tasks")
    for worker in [start("worker", "--concurrency", "2") for _ in range(2)]:
        assert worker.popen.stderr
        assert worker.popen.stderr.readline().startswith("Looking for runs")
    for run_id in [project.ok("submit", "job").out.strip() for _ in range(9)]:
        assert project.ok("wait", run_id, "--timeout", "20").out == "200\n"
    begun = sorted(request.at for request in api.requests)
    overlapping = [sum(at <= one < at + seconds for at in begun) for one in begun]
    assert len(begun) == 9
    assert max(overlapping) == 3


def test_a_worker_goes_on_when_its_store_is_back(project: Project, start: Start) -> None:
    project.task("job", "def job():\n    return 1\n")
    worker = start("worker")
    first = project.ok("submit", "job").out.strip()
    project.ok("wait", first)
    tasks = project.folder / "tasks"
    tasks.rename(project.folder / "away")
    tasks.write_text("not a folder any more")
    told = ""
    while "trying again" not in told:
        told += worker.popen.stderr.readline() if worker.popen.stderr else ""
    tasks.unlink()
    (project.folder / "away").rename(tasks)
    second = project.ok("submit", "job").out.strip()
    assert project.ok("wait", second, "--timeout", "15").out == "1\n"
    worker.kill(signal.SIGTERM)
    told += worker.wait().err
    assert told.count("looking for runs: ") == 2
    assert re.search(r"looking for runs: .*; trying again\n.* looking for runs: well again\n", told)


def test_a_worker_that_ends_in_trouble_says_so(project: Project, start: Start) -> None:
    project.task("job", "def job():\n    return 1\n")
    worker = start("worker")
    project.ok("wait", project.ok("submit", "job").out.strip())
    (project.folder / "tasks").rename(project.folder / "away")
    (project.folder / "tasks").write_text("")
    told = ""
    while "trying again" not in told:
        told += worker.popen.stderr.readline() if worker.popen.stderr else ""
    worker.kill(signal.SIGTERM)
    done = worker.wait()
    assert done.code == 128 + signal.SIGTERM
    assert "Error: looking for runs: " in done.err


def test_a_worker_waits_for_a_store_that_is_not_up_yet(project: Project, start: Start) -> None:
    project.task("job", "def job():\n    return 1\n")
    with valkey() as server:
        adaptor = f"--adaptor={server.url}"
        project.ok(adaptor, "sync-tasks")
        run_id = project.ok(adaptor, "submit", "job").out.strip()
        server.kill()
        assert project(adaptor, "wait", run_id).code == 1  # others say at once what is wrong
        worker = start(adaptor, "worker", "--until-idle")
        assert worker.popen.stderr
        told = worker.popen.stderr.readline()
        assert re.search(r"looking for runs: .* cannot be reached: .*; trying again$", told)
        server.start()
        done = worker.wait()
        assert done.code == 0
        assert re.match(r"\S+ looking for runs: well again\n", done.err)
        assert len(done.err.splitlines()) == 1 + len(["driving", "completed"])

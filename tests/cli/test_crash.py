"""A run that is killed or interrupted goes on where it was."""

import signal
import time
from typing import Any

import pytest

from support.command_line import Process, Project, Start, wait_until
from support.http_api import HttpApi

CHAIN = """\
async def chain():
    seen = []
    for number in range(6):
        print("asking", number)
        seen.append((await fetch("URL/json/" + str(number))).json()["n"])
        if number == 3:
            seen.append((await fetch("URL/slow/1", retries=0)).json()["slept"])
    return seen
"""
RESULT = [0, 1, 2, 3, 1.0, 4, 5]


@pytest.fixture
def chain(project: Project, api: HttpApi, start: Start) -> Process:
    """A run that is in the middle of its chain of calls, in a process of its own."""
    project.task("chain", CHAIN.replace("URL", api.url))
    process = start("run", "chain", "--json")
    wait_until(lambda: api.count("/slow/1"))
    return process


def _was_asked_once(api: HttpApi) -> Any:
    return [api.count(f"/json/{number}") for number in range(6)] == [1] * 6


def test_kill_9_then_list_mentions_it_and_resume_finishes(
    project: Project, api: HttpApi, chain: Process
) -> None:
    chain.kill()
    assert chain.wait().code == -signal.SIGKILL
    (run_id,) = project.run_ids("chain")
    listed = project.ok("list")
    assert f"resume {run_id}" in listed.err
    assert "line 7" in listed.err
    shown = project.ok("show", "chain", run_id)
    assert shown.out.startswith("Waiting ")
    assert f"resume {run_id}" in shown.out
    done = project.ok("resume", run_id)
    assert done.json == RESULT
    assert _was_asked_once(api)
    assert done.err.splitlines()[:2] == ["asking 4", "asking 5"]  # the others were printed before
    assert [line["text"] for line in project.ok("show", "chain", run_id, "--json").json["log"]] == [
        f"asking {number}\n" for number in range(6)
    ]
    assert "Unfinished" not in project.ok("list").err


def test_run_mentions_an_unfinished_run_of_the_task(
    project: Project, api: HttpApi, chain: Process
) -> None:
    chain.kill()
    chain.wait()
    (run_id,) = project.run_ids("chain")
    done = project.ok("run", "chain")
    assert done.json == RESULT
    assert done.err.splitlines()[0].startswith("Unfinished: chain,")
    assert run_id in done.err.splitlines()[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_parks_the_run_and_says_how_to_go_on(
    project: Project, api: HttpApi, chain: Process, number: int, code: int
) -> None:
    chain.kill(number)
    done = chain.wait()
    assert done.code == code
    (run_id,) = project.run_ids("chain")
    assert done.json["id"] == run_id
    assert done.json["status"] == "suspended"
    assert f"sequential-ecosystem resume {run_id}" in done.err
    assert "Traceback" not in done.err
    assert project.ok("resume", run_id).json == RESULT
    assert _was_asked_once(api)


def test_a_second_ctrl_c_exits_at_once_and_loses_nothing(
    project: Project, api: HttpApi, chain: Process
) -> None:
    chain.kill(signal.SIGINT)
    time.sleep(0.005)  # two signals at once are one
    chain.kill(signal.SIGINT)
    done = chain.wait()
    # On a slow machine the first one has done its work by then, and the second ends Python.
    assert done.code in (130, -signal.SIGINT)
    (run_id,) = project.run_ids("chain")
    assert project.ok("resume", run_id).json == RESULT
    assert _was_asked_once(api)


def test_ctrl_c_while_sleeping_for_long(project: Project, start: Start) -> None:
    project.task("night", "import asyncio\nasync def night():\n    await asyncio.sleep(9999)\n")
    process = start("run", "night")
    wait_until(lambda: "suspended" in project.ok("history", "night").out)
    assert "Sleeping until" in project.ok("show", "night", project.run_ids("night")[0]).out
    process.kill(signal.SIGINT)
    done = process.wait()
    assert (done.code, done.out) == (130, "")
    assert "resume" in done.err
    assert "waits at line 3 until" in project.ok("list").err


def test_a_second_ctrl_c_does_not_wait_for_a_task_that_computes(
    project: Project, start: Start
) -> None:
    project.task(
        "busy", "def busy():\n    while True:\n        pass\n", limits={"turn_seconds": 1.5}
    )
    process = start("run", "busy")
    wait_until(lambda: project.ok("list", "--json").json[0]["runs"].get("running"))
    time.sleep(0.3)
    process.kill(signal.SIGINT)
    assert process.popen.stderr
    assert "once more" in process.popen.stderr.readline()
    process.kill(signal.SIGINT)
    assert process.popen.wait(2) == 130

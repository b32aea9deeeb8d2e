"""What is shown on a terminal: progress while a run is driven, tables that fit, colour."""

import re
from typing import Any

import pytest

from support.command_line import Open, Project
from support.http_api import HttpApi

ANSI = re.compile(r"\x1b\[[0-9;]*m")
PICTURE = re.compile(r"\r\x1b\[K([^\r\n]*)")
SLOW = """\
from sequential.task import fetch, gather, sleep
async def slow():
    print("a line \\x1b[31m")
    await fetch("URL/slow/0.7")
    await gather(fetch("URL/slow/0.4"), fetch("URL/slow/0.5", method="POST"))
    await fetch("URL/flaky/a/1")
    await sleep(0.4)
    return {"success": True}
"""
ONE_CALL = 'async def slow():\n    return (await fetch("URL")).status\n'


def pictures(text: str) -> Any:
    """Each state of the line that moves."""
    return [ANSI.sub("", line) for line in PICTURE.findall(text) if ANSI.sub("", line)]


def lines(text: str) -> Any:
    """What stays on the screen."""
    return [ANSI.sub("", line) for line in PICTURE.sub("", text).splitlines()]


def test_progress_names_calls_attempts_and_times(
    project: Project, api: HttpApi, terminal: Open
) -> None:
    project.task("slow", SLOW.replace("URL", api.url))
    code, text = terminal("run", "slow").wait()
    assert code == 0
    place = f"127.0.0.1:{api.port}"
    seen = "\n".join(pictures(text))
    assert re.search(rf"call 1: GET {place}/slow/0.7, 0\.\d s", seen)
    assert "2 calls, 0." in seen
    assert f"GET {place}/slow/0.4, POST {place}/slow/0.5" in seen
    assert re.search(rf"GET {place}/flaky/a/1: attempt 2 of 4 in \d s, after HTTP 503", seen)
    assert "sleeping until" in seen
    assert "a line \\x1b[31m" in text
    assert "\x1b[31m" not in text.partition("a line")[2].partition("\n")[0]
    left = lines(text)
    assert left[0].startswith("a line")
    assert [line for line in left if line][-1].startswith("completed in ")
    assert '  "success": true' in left


def test_the_line_never_wraps(project: Project, api: HttpApi, terminal: Open) -> None:
    project.task("slow", ONE_CALL.replace("URL", f"{api.url}/slow/0.6?{'ü' * 200}"))
    _, text = terminal("run", "slow", columns=60).wait()
    assert pictures(text)
    assert max(len(line) for line in pictures(text)) < 60


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_plain_terminal_gets_no_colour(
    project: Project, api: HttpApi, terminal: Open, environment: dict[str, str]
) -> None:
    project.task("slow", ONE_CALL.replace("URL", f"{api.url}/slow/0.6"))
    _, text = terminal("run", "slow", **environment).wait()
    assert not ANSI.search(text)
    assert bool(pictures(text)) == ("TERM" not in environment)


def test_json_on_a_terminal_is_whole(project: Project, api: HttpApi, terminal: Open) -> None:
    project.task("slow", ONE_CALL.replace("URL", f"{api.url}/slow/0.6"))
    _, text = terminal("run", "slow", "--json").wait()
    left = "\n".join(lines(text))
    assert '"status": "completed"' in left


def test_ctrl_c_on_a_terminal_parks_the_run(project: Project, api: HttpApi, terminal: Open) -> None:
    project.task("slow", ONE_CALL.replace("URL", f"{api.url}/slow/0.6"))
    shell = terminal("run", "slow")
    shell.until("call 1:")
    shell.type("\x03")  # reaches every process of the group, the sandbox too
    code, text = shell.wait()
    assert code == 130
    (run_id,) = project.run_ids("slow")
    assert f"resume {run_id}" in text
    assert "Traceback" not in text
    assert project.ok("resume", run_id).json == 200


def test_a_long_sleep_says_that_ctrl_c_is_safe(project: Project, terminal: Open) -> None:
    project.task("night", "import asyncio\nasync def night():\n    await asyncio.sleep(10800)\n")
    shell = terminal("run", "night")
    text = shell.until("Ctrl-C is safe")
    assert re.search(r"sleeping until .*\d\d:\d\d:\d\d \(in 3 h\); Ctrl-C is safe", text)
    shell.type("\x03")
    assert shell.wait()[0] == 130


def test_a_run_that_waits_for_an_answer_says_how_to_give_it(
    project: Project, terminal: Open
) -> None:
    project.task("kid", "async def kid():\n    return await wait_for_event('a decision')\n")
    project.task("job", "async def job():\n    return await run_task('kid')\n")
    shell = terminal("run", "job", columns=120)
    shell.until("waiting for the event 'a decision', ")
    (run_id,) = project.run_ids("kid")
    assert f"answer {run_id} 'a decision' --data JSON" in shell.shown
    project.ok("answer", run_id, "a decision", "--data", '"yes"')
    code, text = shell.wait()
    assert code == 0
    left = lines(text)
    assert sum("Waiting for the event" in line for line in left) == 1
    assert '"yes"' in text


def test_a_line_that_the_task_has_not_ended_is_left_alone(
    project: Project, api: HttpApi, terminal: Open
) -> None:
    project.task(
        "slow",
        f"""\
async def slow():
    print("working", end=" ")
    await fetch("{api.url}/slow/0.6")
    print("done")
""",
    )
    _, text = terminal("run", "slow").wait()
    assert "working done" in lines(text)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_the_terminal(
    project: Project, api: HttpApi, terminal: Open, columns: int
) -> None:
    project.task(
        "one",
        f"""\
async def one():
    await fetch("{api.url}/echo?" + "q" * 300, method="POST", json={{"a": "日本" * 100}})
    return "日本" * 100
""",
        description="A long description " * 10,
        inputs=[],
    )
    project.ok("init")
    run_id = project.ok("run", "one", "--json").json["id"]
    for command in [("list", "-v"), ("history", "one"), ("config", "show")]:
        _, text = terminal(*command, columns=columns).wait()
        assert max(_width(line) for line in lines(text)) <= columns
    _, text = terminal("show", "one", run_id, columns=columns).wait()
    table = "\n".join(lines(text)).partition("Calls\n")[2].splitlines()
    assert len(table) == 4
    assert max(_width(line) for line in table) <= columns
    assert "completed" in table[1]


def _width(text: str) -> Any:
    return sum(2 if character >= "\u2e80" else 1 for character in text)

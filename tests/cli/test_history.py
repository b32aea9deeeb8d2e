"""`history` and `show`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Open, Project
from support.http_api import HttpApi

RECORD = "id task_identifier status input result error created_at updated_at".split()
CALL = "operation status input result error attempts duration size line".split()
HOSTILE = "\x1b]0;title\x07\x9b31m\u202e\r\n"


@pytest.fixture
def run_id(project: Project, api: HttpApi) -> Any:
    """A run with calls of several kinds."""
    Path("services").mkdir()
    Path("services/crm.py").write_text("def find(name, limit=1):\n    return [name] * limit\n")
    project.task(
        "one",
        f"""\
import asyncio
async def one(input):
    await fetch("{api.url}/json/1", headers={{"Authorization": "secret-token"}})
    await fetch("{api.url}/echo", method="POST", json={{"a": [1, 2]}})
    await services.crm.find("Ada", limit=2)
    await asyncio.sleep(0.01)
    print("a line")
    try:
        await fetch("http://127.0.0.1:1/", retries=0)
    except OSError as error:
        print("failed", end="")
    return {{"n": 1}}
""",
    )
    return project.ok("run", "one", "--json", "--input", '{"who": "me"}').json["id"]


def test_history_is_newest_first_and_limited(project: Project) -> None:
    project.task("one", "def one(input):\n    return input['n']\n")
    for number in range(3):
        project.ok("run", "one", "--input", json.dumps({"n": number}))
    assert project("run", "one").code == 1
    records = project.ok("history", "one", "--json").json
    assert [record["result"] for record in records] == [None, 2, 1, 0]
    assert all(list(record)[:8] == RECORD for record in records)
    assert len(project.ok("history", "one", "--limit", "2", "--json").json) == 2
    header, failed, last, *_ = project.ok("history", "one", "--limit", "2").out.splitlines()
    assert header.split() == ["run", "status", "created", "took", "result"]
    assert re.search(r"failed .* KeyError", failed)
    short = last.split()[0]
    assert len(short) < 36
    assert project.ok("show", "one", short, "--json").json["result"] == 2


def test_history_without_runs_says_how_to_make_one(project: Project) -> None:
    project.task("one", "def one():\n    return 1\n")
    done = project.ok("history", "one")
    assert done.out == ""
    assert "run one" in done.err
    assert project.ok("history", "one", "--json").json == []


def test_show_tells_everything_of_a_run(project: Project, api: HttpApi, run_id: str) -> None:
    text = project.ok("show", "one", run_id).out
    assert re.match(r"Completed in .*, 5 calls\.\n", text)
    lines = {line.split()[0]: line for line in text.partition("\nCalls\n")[2].splitlines() if line}
    place = f"127.0.0.1:{api.port}"
    assert re.search(rf"3 +completed +1 .*GET {place}/json/1 .*Authorization.*-> 200", lines["1"])
    assert re.search(rf"POST {place}/echo  json={{\"a\": \[1, 2\]}}", lines["2"])
    assert re.search(r"crm.find  \"Ada\", limit=2  -> \[\"Ada\", \"Ada\"\]", lines["3"])
    assert "sleep 10 ms" in lines["4"]
    assert re.search(r"9 +failed +1 .*-> OSError", lines["5"])
    assert "secret-token" not in text
    assert "  a line\n  failed" in text
    assert '"who": "me"' in text
    assert '"n": 1' in text


def test_show_json_has_the_calls_and_the_log(project: Project, run_id: str) -> None:
    shown = project.ok("show", "one", run_id, "--json").json
    assert list(shown)[:8] == RECORD
    assert [call["operation"] for call in shown["stack_runs"]] == [
        "http.fetch",
        "http.fetch",
        "crm.find",
        "clock.sleep",
        "http.fetch",
    ]
    for call in shown["stack_runs"]:
        assert set(CALL) <= set(call)
        assert call["attempts"] == 1
    failed = shown["stack_runs"][-1]
    assert (failed["status"], failed["error"]["type"], failed["line"]) == ("failed", "OSError", 9)
    assert "".join(line["text"] for line in shown["log"]) == "a line\nfailed"
    assert all(line["at"].endswith("Z") for line in shown["log"])


def test_show_of_a_failed_run(project: Project) -> None:
    project.task("bad", "def bad():\n    return [][1]\n")
    project("run", "bad")
    text = project.ok("show", "bad", project.run_ids("bad")[0]).out
    assert re.match(r"Failed after .* at line 2 of tasks/bad/code.py: IndexError: ", text)
    assert "    return [][1]\n" in text


def test_a_run_of_another_task_is_not_found(project: Project, run_id: str) -> None:
    project.task("two", "def two():\n    return 1\n")
    assert project("show", "two", run_id).code == 2


@pytest.mark.parametrize("on_terminal", [False, True])
def test_hostile_text_never_reaches_the_terminal(
    project: Project, api: HttpApi, terminal: Open, on_terminal: bool
) -> None:
    hostile = json.dumps(HOSTILE)
    project.task(
        "evil",
        f"""\
async def evil(input: Any) -> Any:
    text = {hostile}
    await fetch("{api.url}/echo?a=" + input["text"].strip(), method="POST", data=text)
    print(text)
    raise ValueError(text)
""",
        description=HOSTILE,
        inputs=[{"name": "text", "description": HOSTILE, "default": HOSTILE}],
    )
    commands: list[tuple[str, ...]] = [
        ("run", "evil"),
        ("list", "-v"),
        ("describe", "evil"),
        ("history", "evil"),
    ]
    for command in commands:
        _check_harmless(_text_of(project, terminal, command, on_terminal))
    show: tuple[str, ...] = ("show", "evil", project.run_ids("evil")[0])
    _check_harmless(_text_of(project, terminal, show, on_terminal))
    for command in [show, commands[1], commands[3]]:
        raw = (
            project(*command, "--json").out
            if command[0] != "list"
            else project("list", "--json").out
        )
        assert not set("\x1b\x07\x9b\u202e\r") & set(raw)


def _text_of(project: Project, terminal: Open, command: tuple[str, ...], on_terminal: bool) -> Any:
    if on_terminal:
        return re.sub(r"\x1b\[[0-9;]*m|\r\x1b\[K|\r\n", "", terminal(*command).wait()[1])
    done = project(*command)
    return done.out if command[0] == "run" else done.out + done.err


def _check_harmless(text: str) -> None:
    assert not set("\x1b\x07\x9b\u202e\r") & set(text), text


def test_a_damaged_run_is_named_and_the_others_are_listed(project: Project) -> None:
    project.task("one", "def one():\n    return 1\n")
    project.task("two", "def two():\n    return 1\n")
    project.ok("run", "one")
    project.ok("run", "one")
    first, second = project.run_ids("one")
    for file in Path("tasks/one/runs").glob(f"run-{first}.*"):
        file.write_bytes(b"{ damaged")
    done = project.ok("history", "one")
    assert second[:13] in done.out
    assert first in done.err
    assert "Damaged:" in done.err
    assert "Damaged:" in project.ok("list").err
    assert "Damaged:" not in project.ok("history", "two").err
    assert project("show", "one", first).code == 1


def test_large_results_are_cut_for_people_and_whole_in_json(project: Project) -> None:
    project.task("big", "def big():\n    return list(range(50000))\n")
    project.ok("run", "big")
    (run_id,) = project.run_ids("big")
    text = project.ok("show", "big", run_id).out
    assert len(text) < 3000
    assert "more lines" in text
    assert len(project.ok("show", "big", run_id, "--json").json["result"]) == 50000

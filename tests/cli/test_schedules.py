"""`schedules list`, `set`, `delete` and `next`, and what a worker does about schedules."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Project, PutStdin, Start, wait_until

CODE = "def main(day, scheduled_for):\n    return [day, scheduled_for]\n"
INPUTS = [{"name": "day"}, {"name": "scheduled_for"}]
INPUT = '{"day": "today"}'
NIGHTLY = ("--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", "--input", INPUT)


@pytest.fixture(autouse=True)
def report(project: Project) -> Path:
    """A task that is there in every test."""
    project.ok("init")
    return project.task("report", CODE, inputs=INPUTS)


def test_a_schedule_is_set_listed_and_deleted(project: Project) -> None:
    done = project.ok("schedules", "set", "report", "nightly", *NIGHTLY)
    assert done.out.startswith("set      report/nightly: 0 3 * * * Europe/Berlin\nnext     ")
    assert "A worker begins its runs: sequential-ecosystem worker" in done.err
    project.ok("schedules", "set", "report", "often", "--every", "15m", "--input", INPUT)
    title, nightly, often = project.ok("schedules", "list").out.splitlines()
    assert title.split() == ["task", "schedule", "when", "next", "last"]
    assert nightly.startswith("report  nightly   0 3 * * * Europe/Berlin  ")
    assert often.startswith("report  often     every 15m")
    assert project.ok("schedules", "delete", "report", "often").out == "deleted  report/often\n"
    assert len(project.ok("schedules", "list", "report").out.splitlines()) == 2


def test_a_schedule_as_a_document(project: Project) -> None:
    done = project.ok("schedules", "set", "report", "nightly", *NIGHTLY, "--json")
    (listed,) = project.ok("schedules", "list", "--json").json
    assert listed == done.json
    moment = listed.pop("next")
    assert datetime.fromisoformat(moment) > datetime.now().astimezone()
    assert listed == {
        "task": "report",
        "name": "nightly",
        "cron": "0 3 * * *",
        "every": None,
        "time_zone": "Europe/Berlin",
        "input": {"day": "today"},
        "catch_up": "one",
        "enabled": True,
        "start": None,
        "origin": "api",
        "last": None,
        "run": None,
        "problem": None,
    }


def test_what_is_not_given_stays_as_it_is(project: Project, stdin: PutStdin) -> None:
    project.ok("schedules", "set", "report", "nightly", *NIGHTLY)
    done = project.ok("schedules", "set", "report", "nightly", "--disabled", "--json").json
    assert (done["enabled"], done["next"], done["cron"]) == (False, None, "0 3 * * *")
    assert project.ok("schedules", "list").out.rstrip().endswith("disabled")
    stdin(b'{"day": "tomorrow"}')
    done = project.ok(
        *("schedules", "set", "report", "nightly", "--enabled", "--every", "2h", "--input", "-"),
        *("--catch-up", "all", "--start", "2026-01-01T09:00", "--json"),
    ).json
    assert (done["enabled"], done["cron"], done["every"]) == (True, None, "2h")
    assert (done["catch_up"], done["input"]["day"]) == ("all", "tomorrow")
    assert done["time_zone"] == "Europe/Berlin"
    assert done["next"][11:] in [f"{hour:02}:00:00.000Z" for hour in range(0, 24, 2)]


def test_schedules_of_the_config_are_listed_and_can_be_replaced(project: Project) -> None:
    own = [{"name": "nightly", "cron": "0 3 * * *", "input": {"day": "today"}}]
    project.task("report", CODE, inputs=INPUTS, schedules=own)
    assert project.ok("schedules", "list").out.rstrip().endswith("in config.json")
    project.ok("schedules", "set", "report", "nightly", "--disabled")
    (listed,) = project.ok("schedules", "list", "--json").json
    assert (listed["origin"], listed["enabled"], listed["cron"]) == ("api", False, "0 3 * * *")
    project.ok("schedules", "delete", "report", "nightly")
    assert project.ok("schedules", "list", "--json").json[0]["origin"] == "config.json"
    done = project("schedules", "delete", "report", "nightly")
    assert (done.code, done.out) == (2, "")
    assert "is in config.json of report: remove it there, or set one of this name" in done.err


def test_what_is_wrong_in_a_config_is_listed_with_the_others(project: Project) -> None:
    own: list[dict[str, Any]] = [{"name": "nightly", "cron": "0 25 * * *"}]
    own.append({"name": "weekly", "cron": "@weekly", "input": {"day": "sunday"}})
    project.task("report", CODE, inputs=INPUTS, schedules=own)
    nightly, weekly = project.ok("schedules", "list", "--json").json
    assert (nightly["next"], weekly["problem"]) == (None, None)
    assert nightly["problem"] == "cron: the hour '25' cannot be used: 0 to 23"
    assert (
        "in config.json, cron: the hour '25' cannot be used" in project.ok("schedules", "list").out
    )
    assert "the schedule \"nightly\": cron: the hour '25'" in project("run", "report").err


def test_the_next_times_of_all_of_a_task_and_of_one(project: Project) -> None:
    assert "Nothing will begin by itself" in project.ok("schedules", "next").err
    project.ok("schedules", "set", "report", "nightly", *NIGHTLY)
    project.ok("schedules", "set", "report", "often", "--every", "1h", "--input", INPUT)
    every = project.ok("schedules", "next", "--count", "30", "--json").json
    assert every == sorted(every, key=lambda one: one["at"])
    assert {one["name"] for one in every} == {"nightly", "often"}
    shown = project.ok("schedules", "next", "report", "nightly", "--count", "3").out.splitlines()
    assert len(shown) == 4
    assert all(line.endswith("  report  nightly") for line in shown[1:])


def test_describe_and_list_show_schedules(project: Project) -> None:
    project.ok("schedules", "set", "report", "nightly", *NIGHTLY)
    shown = project.ok("describe", "report").out
    assert "\nSchedules\nschedule  when " in shown
    assert "\nnightly   0 3 * * * Europe/Berlin" in shown
    (listed,) = project.ok("list", "--json").json
    assert listed["schedules"] == project.ok("describe", "report", "--json").json["schedules"]
    assert [one["name"] for one in listed["schedules"]] == ["nightly"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("set", "report", "x", "--cron", "0 25 * * *"), "the hour '25' cannot be used: 0 to 23"),
        (("set", "report", "x", "--cron", "* *"), "has 2 of 5 fields: write minute hour"),
        (("set", "report", "x", "--every", "often"), "every: 'often' is no interval: write 90s"),
        (("set", "report", "x", "--every", "1s"), 'does not fit report: "day" (string) is missing'),
        (("set", "report", "x"), "give --cron or --every. See"),
        (("set", "report", "x", "--every", "1s", "--cron", "@daily"), "give one of --cron and"),
        (("set", "reprot", "x", "--every", "1s"), "did you mean report?"),
        (("set", "report", "a/b", "--every", "1s"), "the schedule name 'a/b' cannot be used"),
        (("set", "report", "x", *NIGHTLY, "--time-zone", "Berlin"), "there is no 'Berlin': "),
        (("set", "report", "x", *NIGHTLY, "--catch-up", "two"), "'two' is not one of 'none'"),
        (("set", "report", "x", *NIGHTLY, "--start", "soon"), "start: 'soon' is no date and time"),
        (("delete", "report", "x"), "the task report has no schedule x: it has none"),
        (("list", "nothing"), "there is no task nothing"),
        (("next", "report", "x"), "the task report has no schedule x"),
    ],
)
def test_what_is_refused_says_what_to_do(
    project: Project, arguments: tuple[str, ...], part: str
) -> None:
    done = project("schedules", *arguments)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    assert project.ok("schedules", "list", "--json").json == []


def test_workers_keep_to_schedules_and_say_once_what_they_cannot(
    project: Project, start: Start
) -> None:
    project.ok("schedules", "set", "report", "often", "--every", "1s", "--input", INPUT)
    project.task("other", "def main(): pass\n")
    project.ok("schedules", "set", "other", "often", "--every", "1s", "--input", '{"a": 1}')
    project.task("other", "def main(b): pass\n", inputs=[{"name": "b"}])
    workers = [start("worker") for _ in range(2)]

    def begun() -> bool:
        runs = project.ok("history", "report", "--json").json
        return len([run for run in runs if run["status"] == "completed"]) >= 2

    wait_until(begun)
    for worker in workers:
        worker.kill(15)
    said = [worker.wait().err for worker in workers]
    told = 'schedule other/often: the input does not fit other: "b" (string) is missing'
    assert max(text.count(told) for text in said) == 2  # once, and at its end
    assert not any("schedule other/often: well again" in text for text in said)
    runs = project.ok("history", "report", "--json").json
    moments = [run["input"]["scheduled_for"] for run in runs]
    assert len(set(moments)) == len(moments)
    assert project.ok("history", "other", "--json").json == []

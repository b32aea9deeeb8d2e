"""`prune`: runs that ended long ago."""

import pytest

from sequential.cli.durations import Duration
from support.command_line import Open, Project


@pytest.fixture
def ended(project: Project) -> Project:
    """Two completed runs of one task, a failed one of another, and one that is not over."""
    project.task("good", "def good():\n    return 1\n")
    project.task("bad", "def bad():\n    return 1 / 0\n")
    for _ in range(2):
        project.ok("run", "good")
    assert project("run", "bad").code == 1
    project.ok("submit", "bad")
    return project


def counts(project: Project) -> dict[str, int]:
    return {task["name"]: task["runs"]["total"] for task in project.ok("list", "--json").json}


def test_runs_that_ended_are_removed_and_counted(ended: Project) -> None:
    done = ended.ok("prune", "--older-than", "0s", "--yes")
    assert done.out == "removed  3 runs: 1 of bad, 2 of good\n"
    assert counts(ended) == {"bad": 1, "good": 0}
    assert ended.ok("prune", "--older-than", "0s", "--yes").out == "removed  0 runs\n"


def test_younger_runs_stay(ended: Project) -> None:
    assert ended.ok("prune", "--older-than", "1h", "--yes").out == "removed  0 runs\n"
    assert counts(ended) == {"bad": 2, "good": 2}


def test_a_dry_run_removes_nothing(ended: Project) -> None:
    done = ended.ok("prune", "--older-than", "0", "--dry-run")
    assert done.out == "would remove  3 runs: 1 of bad, 2 of good\n"
    told = ended.ok("prune", "--older-than", "0", "--dry-run", "--json").json
    assert (told["dry_run"], told["tasks"]) == (True, {"bad": 1, "good": 2})
    assert set(told["runs"]) < {*ended.run_ids("good"), *ended.run_ids("bad")}
    assert counts(ended) == {"bad": 2, "good": 2}


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (("--task", "good"), {"bad": 2, "good": 0}),
        (("--status", "failed"), {"bad": 1, "good": 2}),
        (("--status", "cancelled"), {"bad": 2, "good": 2}),
        (("--status", "failed", "--status", "completed"), {"bad": 1, "good": 0}),
        (("--status", "failed", "--task", "good"), {"bad": 2, "good": 2}),
    ],
)
def test_a_task_and_ends_may_be_chosen(
    ended: Project, chosen: tuple[str, ...], left: dict[str, int]
) -> None:
    ended.ok("prune", "--older-than", "0s", "--yes", *chosen)
    assert counts(ended) == left


@pytest.mark.parametrize(
    "arguments",
    [
        ("--older-than", "0s"),  # nobody to ask
        ("--yes",),
        ("--older-than", "a month", "--yes"),
        ("--older-than", "0s", "--yes", "--status", "running"),
        ("--older-than", "0s", "--yes", "--task", "nobody"),
    ],
)
def test_what_is_not_clear_removes_nothing(ended: Project, arguments: tuple[str, ...]) -> None:
    done = ended("prune", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert counts(ended) == {"bad": 2, "good": 2}


def test_without_a_terminal_it_says_what_to_write(ended: Project) -> None:
    assert "use --yes here, or --dry-run" in ended("prune", "--older-than", "0s").err


@pytest.mark.parametrize(("key", "code", "left"), [("y", 0, 0), ("n", 1, 2)])
def test_on_a_terminal_it_asks(
    ended: Project, terminal: Open, key: str, code: int, left: int
) -> None:
    shell = terminal("prune", "--older-than", "0s", "--task", "good")
    shell.until("Remove 2 runs: 2 of good? [y/N]: ")
    shell.type(f"{key}\n")
    assert shell.wait()[0] == code
    assert counts(ended)["good"] == left


def test_a_child_run_stays_while_its_parent_may_ask_for_it(project: Project) -> None:
    project.task("kid", "def kid():\n    return 1\n")
    project.task(
        "parent",
        "async def parent():\n    await run_task('kid')\n    await wait_for_event('x')\n",
    )
    run_id = project.ok("submit", "parent").out.strip()
    project.ok("worker", "--until-idle")
    assert project.ok("prune", "--older-than", "0s", "--yes").out == "removed  0 runs\n"
    project.ok("cancel", run_id)
    done = project.ok("prune", "--older-than", "0s", "--yes")
    assert done.out == "removed  2 runs: 1 of kid, 1 of parent\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("12h", 43200),
        ("30d", 2592000),
        ("8w", 4838400),
        ("2.5", 2.5),
        ("1.5 H", 5400),
        ("0", 0),
    ],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds

"""The commands on a store that keeps tasks in a database."""

import sqlite3
from pathlib import Path

import pytest

from support.command_line import Project, Start, wait_until

CODE = "def hello(name):\n    return 'Hello, ' + name\n"


@pytest.fixture
def database(project: Project) -> Project:
    project.ok("init")
    project.ok("config", "set", "adaptor", "sqlite")
    return project


def put_code(path: str, task: str, code: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE task_functions SET code = ? WHERE identifier = ?", (code, task))
    connection.close()


def rows(path: str, query: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_task_from_its_making_to_its_end(database: Project) -> None:
    made = database.ok("create-task", "hello", "--inputs", "name")
    assert "created  hello in the storage sqlite" in made.out
    assert "code.py" not in made.out
    assert [path.name for path in Path("tasks").iterdir()] == []
    put_code("tasks.db", "hello", CODE)
    assert database.ok("run", "hello", "--dry-run").code == 0
    assert database.ok("run", "hello", "--input", '{"name": "Ada"}').out == '"Hello, Ada"\n'
    (run_id,) = database.run_ids("hello")
    shown = database.ok("show", "hello", run_id[:13], "--json").json
    assert (shown["status"], shown["result"]) == ("completed", "Hello, Ada")
    assert "hello" in database.ok("list").out
    assert database.ok("describe", "hello", "--json").json["name"] == "hello"
    again = database("create-task", "hello")
    assert (again.code, "there is a task hello already" in again.err) == (2, True)
    assert database.ok("delete", "hello", "--force").out == "removed  hello with 1 run\n"
    assert database.ok("list", "--json").json == []


def test_from_a_folder_below_it_is_the_same_file(
    database: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.ok("create-task", "hello")
    (database.folder / "below").mkdir()
    monkeypatch.chdir(database.folder / "below")
    assert [task["name"] for task in database.ok("list", "--json").json] == ["hello"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "file"),
    [
        ("DATABASE_URL", "sqlite:./workflow.db", "workflow.db"),
        ("DATABASE_URL", "sqlite:///workflow.db", "workflow.db"),
        ("SQLITE_DB_PATH", "other.db", "other.db"),
    ],
)
def test_a_variable_chooses_the_file(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, file: str
) -> None:
    monkeypatch.setenv(variable, value)
    project.ok("create-task", "hello")
    assert Path(file).is_file()
    assert project.ok("config", "show", "--json").json["origins"]["adaptor"] == variable
    assert variable in project.ok("config", "set", "adaptor", "folder").err
    project.ok("--storage", "folder", "create-task", "by-flag")
    assert Path("tasks/by-flag/code.py").exists()


@pytest.mark.parametrize("url", ["mysql://user@host/shop", "mongodb://host/x", "nonsense", "C:"])
def test_a_database_url_of_another_program_is_none_of_ours(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    project.ok("create-task", "hello")
    assert Path("tasks/hello/code.py").exists()
    assert project.ok("config", "show", "--json").json["origins"]["adaptor"] == "default"


def test_the_database_of_another_program_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect("shop.db")
    connection.execute("CREATE TABLE customers (name)")
    connection.close()
    before = Path("shop.db").read_bytes()
    monkeypatch.setenv("DATABASE_URL", "sqlite:shop.db")
    done = project("list")
    assert done.code == 2
    assert "the database of another program (it has customers)" in done.err
    assert Path("shop.db").read_bytes() == before


def test_a_killed_run_goes_on_from_the_call_in_progress(database: Project, start: Start) -> None:
    database.ok("create-task", "slow")
    code = "import asyncio\nasync def slow():\n    await asyncio.sleep(0.1)\n"
    put_code("tasks.db", "slow", code + "    await asyncio.sleep(1)\n    return 'done'\n")
    database.ok("config", "set", "runner.lease", "1")
    running = start("run", "slow")
    wait_until(lambda: rows("tasks.db", "SELECT 1 FROM stack_runs WHERE sequence = 1"))
    running.kill()
    running.wait()
    ((run_id,),) = rows("tasks.db", "SELECT id FROM task_runs WHERE status = 'running'")
    busy = database("resume", run_id)
    while busy.code == 2:
        assert "is being driven: its worker has it until" in busy.err
        busy = database("resume", run_id)
    assert busy.out == '"done"\n'

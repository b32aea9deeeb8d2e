"""The pytest plugin, in test-suites of its own."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

TASKS = '''
from sequential.task import sleep, step, task

@task
async def remind(name: str, days: int = 30) -> str:
    """A month, in a module of one's own."""
    await sleep(days * 86400)
    return await step(greeting, name)

def greeting(name):
    return f"Hello, {name}"
'''
ASYNCHRONOUS = """
from my_tasks import remind
from sequential import Status

async def test_a_month_passes(sequential_engine, fake_clock):
    before = fake_clock.now()
    run = await sequential_engine.start(remind, {"name": "Ada"})
    assert (await run.wait()).result == "Hello, Ada"
    assert (fake_clock.now() - before).days == 30

async def test_a_service_is_made_up(sequential_engine, fake_services):
    crm = fake_services("crm", {"find": lambda id: {"id": id, "name": "Ada"}})
    run = await sequential_engine.start("lookup", {"id": 7})
    assert (await run.wait()).result == "Ada"
    assert [call.kwargs for call in crm.performed] == [{"id": 7}]

async def test_this_machine_is_not_reached(sequential_engine):
    run = await sequential_engine.start("fetching", {"url": "http://127.0.0.1:9/"})
    assert (await run.wait()).status is Status.FAILED
    assert run.error.type == "PermissionError"
"""
MARKED = "import pytest\npytestmark = pytest.mark.asyncio\n" + ASYNCHRONOUS
SYNCHRONOUS = """
from my_tasks import remind
from sequential import TaskConfig

def test_a_month_passes(sync_engine, fake_clock):
    before = fake_clock.now()
    assert sync_engine.start(remind, {"name": "Ada"}).wait().result == "Hello, Ada"
    assert (fake_clock.now() - before).days == 30

def test_a_service_is_made_up(fake_services, sync_engine):
    fake_services("crm", {"find": lambda id: {"name": "Bob"}})
    assert sync_engine.start("lookup", {"id": 7}).wait().result == "Bob"

def test_code_is_text(sync_engine):
    code = "async def ask():\\n    return await wait_for_event('x')\\n"
    sync_engine.store_task("ask", code, TaskConfig("ask"))
    run = sync_engine.start("ask")
    assert run.answer("x", 5).wait().result == 5
"""
LOOKUP = "async def lookup(input):\n    return (await services.crm.find(id=input['id']))['name']\n"
FETCHING = "async def fetching(input):\n    return (await fetch(input['url'])).status\n"
RECORDED = """
import asyncio, os, pytest
from sequential import LocalService, TaskConfig

CODE = '''
async def job(input):
    prices = [await services.shop.price(item=i) for i in range(input["times"])]
    return [*prices, await services.shop.next()]
'''

def test_prices(sync_engine, recorded_services):
    sync_engine.store_task("job", CODE, TaskConfig("job"))
    run = sync_engine.start("job", {"times": int(os.environ.get("TIMES", "2"))}).wait()
    if run.error:
        pytest.fail(str(run.error))
    assert run.result == [0, 10, 1]
"""
SHOP = """
from pathlib import Path

def price(item: int) -> int:
    with Path("asked.txt").open("a") as file:
        file.write(f"{item} ")
    return item * 10

def next() -> int:
    return 1
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(my_tasks=TASKS)
    for name, code in (("lookup", LOOKUP), ("fetching", FETCHING)):
        folder = pytester.path / "tasks" / name
        folder.mkdir(parents=True)
        (folder / "code.py").write_text(code)
    return pytester


def outcomes(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    own: tuple[str, ...] = ("-p", "no:randomly", "-W", "error")
    if not entry_points(group="pytest11", name="sequential"):  # installed before there was one
        own += ("-p", "sequential.testing.plugin")
    if "no:asyncio" not in options:
        own += ("-o", "asyncio_default_fixture_loop_scope=function")
    return suite.runpytest_subprocess(*own, *options)


def test_asynchronous_tests_with_pytest_asyncio_in_auto_mode(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=ASYNCHRONOUS)
    outcomes(suite, "-o", "asyncio_mode=auto").assert_outcomes(passed=3)


def test_asynchronous_tests_with_pytest_asyncio_in_strict_mode(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=MARKED)
    outcomes(suite, "-o", "asyncio_mode=strict").assert_outcomes(passed=3)


@pytest.mark.parametrize("options", [(), ("-p", "no:asyncio")])
def test_tests_that_are_not_asynchronous(suite: pytest.Pytester, options: tuple[str, ...]) -> None:
    suite.makepyfile(test_it=SYNCHRONOUS)
    outcomes(suite, *options).assert_outcomes(passed=3)


def test_without_pytest_asyncio_the_other_fixture_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it="def test_it(sequential_engine):\n    pass\n")
    result = outcomes(suite, "-p", "no:asyncio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*use the fixture sync_engine*"])


def test_calls_are_recorded_once_and_given_again(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_it=RECORDED)
    (suite.path / "services").mkdir()
    (suite.path / "services" / "shop.py").write_text(SHOP)
    missing = outcomes(suite)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*does not have this call; record it with `pytest --seq*"])
    assert not (suite.path / "recordings").exists()

    outcomes(suite, "--sequential-record").assert_outcomes(passed=1)
    assert (suite.path / "asked.txt").read_text() == "0 1 "
    file = suite.path / "recordings" / "test_it" / "test_prices.json"
    assert [one["operation"] for one in json.loads(file.read_text())] == [
        "shop.price",
        "shop.price",
        "shop.next",
    ]
    outcomes(suite).assert_outcomes(passed=1)
    assert (suite.path / "asked.txt").read_text() == "0 1 "

    monkeypatch.setenv("TIMES", "3")
    more = outcomes(suite)
    more.assert_outcomes(failed=1)
    more.stdout.fnmatch_lines(['*shop.price {"item":2}: the recording test_prices.json does not*'])


def test_the_plugin_costs_others_nothing() -> None:
    code = (
        "import sys; import pytest; before = set(sys.modules); import sequential.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )
    ours = {"sequential", "sequential.testing", "sequential.testing.plugin"}

    assert set(done.stdout.split()) == ours

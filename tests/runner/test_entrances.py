"""The parts of the runner by themselves: TaskExecutor, StackProcessor and ServiceClient."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sequential import (
    CallContext,
    CallError,
    RetryPolicy,
    ServiceClient,
    StackProcessor,
    Status,
    TaskConfig,
    TaskExecutor,
    TaskRun,
    TryAgain,
    create_adapter,
)
from sequential.config import Settings
from sequential.core.ids import run_id
from sequential.core.model import Allow, Failure, Outcome
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTaskError,
    InvalidTransitionError,
    RunNotFoundError,
    StorageError,
    ValueNotSupportedError,
)
from sequential.runner.engine import Engine
from sequential.runner.keystore import Keystore
from sequential.runner.settings import RunnerSettings
from sequential.services.http_settings import HttpSettings
from sequential.services.registry import Services, standard_services
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService
from support.http_api import HttpApi, serve

SECRET = b"k" * 32
CODE = """
async def job(input):
    seen = []
    for i in range(input["steps"]):
        seen.append(await services.tool.echo(i))
    return seen
"""


def fresh_id() -> str:
    return run_id(1_790_000_000_000, secrets.token_bytes(10))


def task_run(**fields: Any) -> TaskRun:
    """A run as a caller writes it down: an id, a task and an input."""
    given = {"id": fresh_id(), "task_identifier": "job", "status": Status.PENDING}
    return TaskRun(**(given | {"input": {"steps": 3}} | fields))


@pytest.fixture
def tool() -> FakeService:
    return FakeService("tool", {"echo": lambda x=None: x})


@pytest.fixture
def adapter() -> MemoryAdapter:
    return MemoryAdapter()


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as api:
        yield api


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What nothing is said about is as for an engine in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEQUENTIAL_SECRET", raising=False)
    return tmp_path


# --- TaskExecutor --------------------------------------------------------------------------------


async def test_an_executor_needs_a_store_and_the_code(
    adapter: MemoryAdapter, tool: FakeService
) -> None:
    async with TaskExecutor(adapter, [tool]) as executor:
        run = await executor.execute(task_run(), CODE)

    assert (run.status, run.value) == (Status.COMPLETED, [0, 1, 2])
    assert await adapter.get_task_run(run.id) == run
    assert run.created_at
    assert run.config.name == "job"
    assert run.config.retry == RetryPolicy()
    calls = await adapter.query_stack_runs(task_run_id=run.id)
    assert [call.operation for call in calls] == ["tool.echo"] * 3


async def test_a_run_that_is_there_goes_on_with_its_own_code(
    adapter: MemoryAdapter, tool: FakeService
) -> None:
    given = task_run()
    async with TaskExecutor(adapter, [tool]) as executor:
        first = await executor.execute(given, CODE, budget=0)
        assert first.status is Status.SUSPENDED
        run = await executor.execute(given, "async def job(input):\n    return 'other'\n")

    assert run.value == [0, 1, 2]
    assert [call.args for call in tool.performed] == [(0,), (1,), (2,)]


async def test_a_run_is_named_by_its_id(adapter: MemoryAdapter, tool: FakeService) -> None:
    given = task_run(code=CODE)
    async with TaskExecutor(adapter, [tool]) as executor:
        await executor.execute(given, budget=0)
        run = await executor.execute(given.id)
        assert run.value == [0, 1, 2]
        with pytest.raises(InvalidTransitionError):
            await executor.execute(given.id)
        with pytest.raises(RunNotFoundError):
            await executor.execute(fresh_id())


async def test_a_task_that_fails_is_told_as_everywhere(adapter: MemoryAdapter) -> None:
    async with TaskExecutor(adapter) as executor:
        run = await executor.execute(task_run(), "async def job(input):\n    return 1 / 0\n")

    assert run.status is Status.FAILED
    assert run.error
    assert run.error.type == "ZeroDivisionError"


async def test_the_settings_count_where_the_run_has_no_policy(adapter: MemoryAdapter) -> None:
    settings = RunnerSettings(retry=RetryPolicy(retries=7), timeout=90)
    code = "async def job(input):\n    return input\n"
    async with TaskExecutor(adapter, settings=settings) as executor:
        run = await executor.execute(task_run(input=None), code)
        own = TaskConfig("other", retry=RetryPolicy(retries=1), timeout=5)
        other = await executor.execute(task_run(config=own), code)

    assert run.config == TaskConfig("job", retry=RetryPolicy(retries=7), timeout=90)
    assert run.value == {}
    assert run.deadline
    assert other.config == TaskConfig("job", retry=RetryPolicy(retries=1), timeout=5)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"id": "7"}, InvalidNameError, "not a run id"),
        ({"task_identifier": "../job"}, InvalidNameError, "the task name"),
        ({}, InvalidTaskError, "has no code: give that of job"),
        ({"config": TaskConfig("job", timeout=-1), "code": "x"}, ConfigError, "timeout must be"),
    ],
)
async def test_a_run_that_cannot_be_written_is_not(
    adapter: MemoryAdapter, fields: Any, error: type[Exception], message: str
) -> None:
    async with TaskExecutor(adapter) as executor:
        with pytest.raises(error, match=message):
            await executor.execute(task_run(**fields))

    assert await adapter.query_task_runs() == []


async def test_two_that_write_the_same_run_drive_it_once(
    adapter: MemoryAdapter, tool: FakeService
) -> None:
    given = task_run()
    async with TaskExecutor(adapter, [tool]) as one, TaskExecutor(adapter, [tool]) as other:
        results = await asyncio.gather(
            one.execute(given, CODE), other.execute(given, CODE), return_exceptions=True
        )

    (run,) = [result for result in results if isinstance(result, TaskRun)]
    assert run.value == [0, 1, 2]
    assert len(tool.performed) == 3


async def test_what_was_given_stays_open(adapter: MemoryAdapter) -> None:
    closed = []

    class Closing(FakeService):
        async def close(self) -> None:
            closed.append(self.name)

    services = Services([Closing("kept", {})])
    async with TaskExecutor(adapter, services):
        pass
    assert closed == []
    async with TaskExecutor(adapter, [Closing("own", {})]):
        pass
    assert closed == ["own"]


async def test_what_one_executor_began_another_goes_on_with(tool: FakeService) -> None:
    """Each is a process of its own, as far as it can tell: the store is all they share."""
    given = task_run()
    turns = 0
    while True:
        adapter = await create_adapter("sqlite:./runs.db")
        async with TaskExecutor(adapter, [tool]) as executor:
            run = await executor.execute(given, CODE, budget=0)
        await adapter.close()
        turns += 1
        if run.status.is_final:
            break

    assert run.value == [0, 1, 2]
    assert turns > 1
    assert len(tool.performed) == 3


# --- StackProcessor ------------------------------------------------------------------------------


async def created(adapter: StorageAdapter, *runs: TaskRun) -> None:
    """Runs in a store that nobody has driven yet."""
    for run in runs:
        await adapter.create_task_run(run)


async def test_a_pass_drives_all_that_is_due(adapter: MemoryAdapter, tool: FakeService) -> None:
    await created(adapter, *[task_run(code=CODE) for _ in range(5)])

    performed = await StackProcessor(adapter, [tool]).process(concurrency=2)

    assert performed == 15
    runs = await adapter.query_task_runs()
    assert [run.value for run in runs] == [[0, 1, 2]] * 5


async def test_a_pass_over_nothing(adapter: MemoryAdapter) -> None:
    processor = StackProcessor(adapter)

    assert await processor.process() == 0
    assert await processor.process() == 0


async def test_what_waits_is_left_for_a_later_pass(adapter: MemoryAdapter) -> None:
    clock = FakeClock()
    code = "import asyncio\nasync def job(input):\n    await asyncio.sleep(86400)\n    return 1\n"
    given = task_run(code=code)
    await created(adapter, given)
    processor = StackProcessor(adapter, clock=clock)

    await processor.process()
    stored = await adapter.get_task_run(given.id)
    assert stored
    assert stored.status is Status.SUSPENDED
    assert await processor.process() == 0

    clock.advance(timedelta(days=2).total_seconds())
    assert await processor.process() == 1
    stored = await adapter.get_task_run(given.id)
    assert stored
    assert stored.value == 1


async def test_it_takes_care_of_some_tasks_only(adapter: MemoryAdapter, tool: FakeService) -> None:
    code = "async def main(input):\n    return await services.tool.echo(1)\n"
    await created(
        adapter, *[task_run(task_identifier=name, code=code) for name in ("one", "other")]
    )

    assert await StackProcessor(adapter, [tool]).process(tasks=["one"]) == 1

    (run,) = await adapter.query_task_runs(status=Status.PENDING)
    assert run.task_identifier == "other"


async def test_child_runs_are_driven_too(adapter: MemoryAdapter, tool: FakeService) -> None:
    async with AsyncClosing(adapter, tool) as engine:
        await engine.store_task("child", CODE.replace("job", "child"), TaskConfig("child"))
        code = "async def job(input):\n    return await run_task('child', {'steps': 2})\n"
        await engine.store_task("job", code, TaskConfig("job"))
        run = await engine.create_run("job", {})

    await StackProcessor(adapter, [tool], secret=SECRET).process()

    stored = await adapter.get_task_run(run.id)
    assert stored
    assert stored.value == [0, 1]


class AsyncClosing:
    """An engine that leaves its store open."""

    def __init__(self, adapter: StorageAdapter, tool: FakeService) -> None:
        settings = Settings(project=Path())
        self.engine = Engine(adapter, standard_services(given=[tool]), settings, secret=SECRET)

    async def __aenter__(self) -> Engine:
        return self.engine

    async def __aexit__(self, *_: object) -> None:
        await self.engine.end()


async def test_an_error_of_the_store_is_raised_when_the_others_are_through(
    tool: FakeService,
) -> None:
    class Broken(MemoryAdapter):
        async def commit(self, commit: Any) -> None:
            if commit.run.id == broken.id:
                raise StorageError("the disk is on fire")
            await super().commit(commit)

    adapter = Broken()
    broken, *others = [task_run(code=CODE) for _ in range(3)]
    await created(adapter, broken, *others)

    with pytest.raises(StorageError, match="the disk is on fire"):
        await StackProcessor(adapter, [tool], clock=FakeClock()).process()

    ended = [await adapter.get_task_run(run.id) for run in others]
    assert [run.value for run in ended if run] == [[0, 1, 2]] * 2


async def test_a_cron_job_with_one_line(folder: Path) -> None:
    adapter = await create_adapter("sqlite:./runs.db")
    code = "async def job(input):\n    await asyncio.sleep(0.01)\n    return input['steps']\n"
    given = task_run(code=f"import asyncio\n{code}")
    await created(adapter, given)
    await adapter.close()
    line = (
        "import asyncio, sequential as s\n"
        "async def main():\n"
        "    adapter = await s.create_adapter('sqlite:./runs.db')\n"
        "    print(await s.StackProcessor(adapter).process())\n"
        "    await adapter.close()\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-W", "error", "-c", line]
    done = [
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        for _ in range(2)
    ]

    assert [one.stdout for one in done] == ["1\n", "0\n"], done[0].stderr
    adapter = await create_adapter("sqlite:./runs.db")
    stored = await adapter.get_task_run(given.id)
    await adapter.close()
    assert stored
    assert stored.value == 3


# --- ServiceClient -------------------------------------------------------------------------------


async def test_a_call_outside_of_a_run(adapter: MemoryAdapter) -> None:
    tool = FakeService("tool", {"users.list": lambda *args, **kwargs: (args, kwargs)})
    async with ServiceClient(adapter, [tool]) as client:
        named = await client.call("tool", "users.list", {"limit": 3})
        positional = await client.call("tool", "users.list", [1, (2,)])
        assert await client.call("tool", "users.list") == ((), {})

    assert named == ((), {"limit": 3})
    assert positional == ((1, (2,)), {})
    assert len(set(tool.keys())) == 3
    assert await adapter.query_task_runs() == [], "nothing is written"


async def test_it_is_tried_again_as_in_a_run(adapter: MemoryAdapter, tool: FakeService) -> None:
    clock = FakeClock()
    begun = clock.now()

    def flaky() -> str:
        if len(tool.performed) < 3:
            raise TryAgain(Outcome(error=Failure("OSError", "no route to host")))
        return "there"

    tool._methods["flaky"] = flaky
    async with ServiceClient(adapter, [tool], clock=clock) as client:
        policy = RetryPolicy(delay=10, factor=2, jitter=0)
        assert await client.call("tool", "flaky", retry=policy) == "there"
        assert [call.context.attempt for call in tool.performed] == [1, 2, 3]
        assert len(set(tool.keys())) == 1
        assert clock.now() - begun >= timedelta(seconds=30)

        tool.performed.clear()
        with pytest.raises(CallError, match="no route to host") as caught:
            await client.call("tool", "flaky", retry=RetryPolicy(retries=1))

    assert caught.value.failure.type == "OSError"
    assert len(tool.performed) == 2


async def test_it_uses_secrets_and_does_not_tell_them(
    adapter: MemoryAdapter, api: HttpApi, folder: Path
) -> None:
    keys = Keystore(adapter, lambda: SECRET)
    await keys.set("crm/token", "s3cret-of-the-crm")
    services = standard_services(HttpSettings(allow_loopback=True))
    try:
        client = ServiceClient(adapter, services, secret=SECRET)
        headers = {"Authorization": "Bearer {{secret:crm/token}}"}
        request = {"url": f"{api.url}/echo", "headers": headers}
        answer = await client.call("http", "fetch", request)
        with pytest.raises(CallError, match=r"not in the task's allow\.secrets"):
            await client.call("http", "fetch", request, allow=Allow(secrets=()))
    finally:
        await services.close()

    assert api.requests[-1].headers["authorization"] == "Bearer s3cret-of-the-crm"
    assert "s3cret" not in str(answer)
    assert "{{secret:crm/token}}" in str(answer)


async def test_a_service_that_asks_for_a_secret_of_this_folder(
    adapter: MemoryAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENTIAL_SECRET", "correct horse")
    await Keystore(adapter, lambda: b"correct horse").set("crm", "s3cret")

    class Asking(FakeService):
        async def call(self, method: str, args: Any, kwargs: Any, context: CallContext) -> Any:
            return len(await context.secrets.get("crm"))

    async with ServiceClient(adapter, [Asking("tool", {"ask": len})]) as client:
        assert await client.call("tool", "ask") == len("s3cret")


@pytest.mark.parametrize(
    ("service", "method", "message"),
    [
        ("toll", "echo", "there is no service 'toll'; did you mean 'tool'"),
        ("events", "wait", "waits for what comes to a run from outside: call it in a task"),
    ],
)
async def test_what_cannot_be_called_says_why(
    adapter: MemoryAdapter, tool: FakeService, service: str, method: str, message: str
) -> None:
    args = ["approved"] if service == "events" else []
    async with ServiceClient(adapter, [tool]) as client:
        with pytest.raises(CallError, match=message):
            await client.call(service, method, args)


async def test_values_that_no_task_could_send(adapter: MemoryAdapter, tool: FakeService) -> None:
    async with ServiceClient(adapter, [tool]) as client:
        with pytest.raises(ValueNotSupportedError, match=r"tool\.echo\.x is an object"):
            await client.call("tool", "echo", {"x": object()})
        tool._methods["echo"] = object
        with pytest.raises(CallError, match=r"the answer of tool\.echo"):
            await client.call("tool", "echo")

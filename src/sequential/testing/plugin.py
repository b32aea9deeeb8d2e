"""The pytest plugin: an engine in memory on which a month passes in a moment.

Fixtures: `sequential_engine`, and `sync_engine` for tests that are not asynchronous; `fake_clock`,
`fake_services` and `recorded_services` go with both. pytest loads this module in every test-suite
of the environment, so all that costs time is imported when a fixture is used.
"""

import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sequential.config import Settings
    from sequential.runner.engine import Engine
    from sequential.runner.sync_engine import SyncEngine
    from sequential.services.base import Service
    from sequential.testing.clock import FakeClock
    from sequential.testing.recording import Recording
    from sequential.testing.services import FakeService

RECORDINGS = "recordings"  # the folder beside the tests
_NOT_IN_FILES = re.compile(r"[^A-Za-z0-9_.-]+")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    parser.getgroup("sequential").addoption(
        "--sequential-record",
        action="store_true",
        help="Make real calls in tests with `recorded_services`, and record them.",
    )
    parser.addini(
        "sequential_project",
        "The project whose settings, services and tasks the engines of tests have.",
        default=".",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Offer `sequential_engine`, which needs pytest-asyncio, in the way there is."""
    has_asyncio = config.pluginmanager.hasplugin("asyncio")
    config.pluginmanager.register(_with_asyncio() if has_asyncio else _WithoutAsyncio())


class FakeServices:
    """Makes services for a test: `crm = fake_services("crm", {"find": lambda id: {...}})`."""

    def __init__(self) -> None:
        self.made: list[FakeService] = []
        self._add: Callable[[Service], None] | None = None

    def __call__(self, name: str, methods: Mapping[str, Callable[..., Any]]) -> "FakeService":
        """A service that answers from functions, in place of any of the same name."""
        from sequential.testing.services import FakeService  # noqa: PLC0415

        self.made.append(FakeService(name, methods))
        if self._add is not None:
            self._add(self.made[-1])
        return self.made[-1]

    def join(self, add: "Callable[[Service], None]") -> None:
        """Give an engine what was made, and what will be."""
        self._add = add
        for service in self.made:
            add(service)


@pytest.fixture
def fake_clock() -> "FakeClock":
    """The clock of the test's engine: it jumps ahead to whatever is waited for."""
    from sequential.testing.clock import FakeClock  # noqa: PLC0415

    return FakeClock()


@pytest.fixture
def fake_services() -> FakeServices:
    """Makes services that answer from functions and remember what they were asked."""
    return FakeServices()


@pytest.fixture
def recorded_services(request: pytest.FixtureRequest) -> "Iterator[Recording]":
    """Calls of services are recorded once, with `--sequential-record`, and given again else."""
    from sequential.testing.recording import Recording  # noqa: PLC0415

    test = _NOT_IN_FILES.sub("_", request.node.name)
    file = request.path.parent / RECORDINGS / request.path.stem / f"{test}.json"
    recording = Recording(file, records=request.config.getoption("--sequential-record"))
    yield recording
    recording.write()


@pytest.fixture
def sync_engine(
    request: pytest.FixtureRequest, fake_clock: "FakeClock", fake_services: FakeServices
) -> "Iterator[SyncEngine]":
    """An engine for tests that are not asynchronous, in memory, on a clock that jumps."""
    from sequential.runner.sync_engine import SyncEngine  # noqa: PLC0415

    settings, recording = _settings(request), _recording(request)
    with SyncEngine("memory:", settings=settings, clock=fake_clock) as engine:
        engine._loop.call(_prepare(engine._engine, fake_services, recording))  # noqa: SLF001
        yield engine


def _with_asyncio() -> object:
    import pytest_asyncio  # noqa: PLC0415

    class WithAsyncio:
        @pytest_asyncio.fixture
        async def sequential_engine(
            self,
            request: pytest.FixtureRequest,
            fake_clock: "FakeClock",
            fake_services: FakeServices,
        ) -> "AsyncIterator[Engine]":
            """An engine in memory, on a clock that jumps."""
            from sequential.runner.engine import Engine  # noqa: PLC0415

            settings, recording = _settings(request), _recording(request)
            async with Engine("memory:", settings=settings, clock=fake_clock) as engine:
                await _prepare(engine, fake_services, recording)
                yield engine

    return WithAsyncio()


class _WithoutAsyncio:
    @pytest.fixture
    def sequential_engine(self) -> None:
        """An engine in memory: for asynchronous tests."""
        pytest.fail(
            "the fixture sequential_engine is for asynchronous tests: "
            "`pip install pytest-asyncio`, or use the fixture sync_engine",
            pytrace=False,
        )


def _settings(request: pytest.FixtureRequest) -> "Settings":
    """Those of the project, whatever the environment says; nothing on this machine is reached."""
    import msgspec  # noqa: PLC0415

    from sequential.config import load_settings  # noqa: PLC0415

    project = request.config.rootpath / Path(request.config.getini("sequential_project"))
    settings = load_settings(project, environment={}, adaptor="memory:")
    http = msgspec.structs.replace(settings.http, allow_loopback=False, allow_private=False)
    return msgspec.structs.replace(settings, http=http)


def _recording(request: pytest.FixtureRequest) -> "Recording | None":
    if "recorded_services" not in request.fixturenames:
        return None
    recording: Recording = request.getfixturevalue("recorded_services")
    return recording


async def _prepare(
    engine: "Engine", fake_services: FakeServices, recording: "Recording | None"
) -> None:
    """Put the test's services in place, and the project's tasks into the store."""
    from sequential.core.model import evolve  # noqa: PLC0415
    from sequential.errors import SequentialError  # noqa: PLC0415
    from sequential.storage.folder_task_files import TaskFiles  # noqa: PLC0415

    if recording is not None:
        engine.services.front(recording.front)
    fake_services.join(engine.services.add)
    files = TaskFiles(engine.settings.tasks)
    for name in files.names() if engine.settings.tasks.is_dir() else ():
        try:
            task = files.read(name)
        except SequentialError as error:
            warnings.warn(f"the task {name} is left out: {error}", stacklevel=1)
            continue
        if task is not None:
            await engine.storage.store_task_function(evolve(task, created_at=engine.now()))

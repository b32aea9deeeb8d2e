"""The service "admin-debug": what an operator wants to know when something does not move.

    sequential-ecosystem services call admin-debug test-stack-processor

It looks and changes nothing. It shows what belongs to all tasks, so only tasks whose
`allow.services` names it may use it.
"""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from sequential.core import times
from sequential.core.model import Status, TaskFunction, TaskRun
from sequential.services.base import CallContext, CallError
from sequential.services.local import LocalService
from sequential.services.registry import Services

MOST = 1000  # runs of each status that are counted
SAMPLE = 20  # runs that are due which are looked at
LATE = 60.0  # seconds after which a run that is due should have been taken
_LIBRARIES = """
    aiohttp msgspec pydantic-monty cryptography psycopg redis google-cloud-firestore litestar
    google-api-python-client openai postgrest ddgs
""".split()


class Store(Protocol):
    """What is asked of the store."""

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]: ...

    async def get_task_run(self, run_id: str) -> TaskRun | None: ...

    async def is_leased(self, run: TaskRun, now: str) -> bool: ...

    async def wakeups(self, now: str, limit: int = 100) -> list[str]: ...

    async def next_wakeup(self, now: str) -> str | None: ...

    async def list_task_functions(self) -> list[TaskFunction]: ...

    async def damaged(self) -> list[str]: ...


class Ping(msgspec.Struct, frozen=True):
    """Whether the store answers, and in which time."""

    ok: bool
    storage: str
    milliseconds: float
    problem: str = ""


class Counts(msgspec.Struct, frozen=True):
    """How much there is: runs by status, up to `most` of each, and those that wait for a worker.

    `due` are those that a worker could take now, `driven` those that one has taken.
    """

    tasks: int
    runs: dict[str, int]
    due: int
    driven: int
    next_wakeup: str | None
    most: int
    damaged: list[str]


class Queue(msgspec.Struct, frozen=True):
    """Whether runs are taken when they are due. `late` is by how many seconds the first one is."""

    status: str  # "success" or "error"
    due: int
    driven: int
    late: float = 0.0
    reason: str = ""


class AdminDebugService(LocalService):
    """Diagnostics of a process and its store."""

    def __init__(self, storage: Store | None, services: Services | None) -> None:
        super().__init__("admin-debug", "Diagnostics of the store, its runs, and the services.")
        self._given = storage
        self._services = services
        self.add(self._ping, "ping", retry="safe")
        self.add(self._versions, "versions", retry="safe")
        self.add(self._list_services, "services", retry="safe")
        self.add(self._counts, "counts", retry="safe")
        self.add(self._test_stack_processor, "test-stack-processor", retry="safe")
        self.add(self._test_direct_gapi, "test-direct-gapi", retry="safe")

    async def _ping(self) -> Ping:
        """Whether the store answers, and in which time."""
        name, begin = type(self._storage).__name__, time.perf_counter()
        problem = ""
        try:
            await self._storage.query_task_runs(limit=1)
        except Exception as error:  # whatever it is, it is what was asked for
            problem = f"{type(error).__name__}: {error}"
        taken = round((time.perf_counter() - begin) * 1000, 3)
        return Ping(not problem, name, taken, problem)

    async def _versions(self) -> dict[str, Any]:
        """Versions of this package, of Python, and of the libraries that are installed."""
        return {
            "sequential-ecosystem": _version("sequential-ecosystem"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": {name: v for name in _LIBRARIES if (v := _version(name)) is not None},
        }

    async def _list_services(self) -> list[dict[str, Any]]:
        """The services of the process: where each comes from, and what it lacks."""
        services = self._all
        return [
            {"name": name, "origin": services.origin(name), "missing": services.missing(name)}
            for name in services.names()
        ]

    async def _counts(self) -> Counts:
        """Tasks, runs by status, and what waits."""
        storage, now = self._storage, times.to_text(datetime.now(UTC))
        runs = {
            status.value: len(await storage.query_task_runs(limit=MOST, status=status.value))
            for status in Status
        }
        return Counts(
            tasks=len(await storage.list_task_functions()),
            runs=runs,
            due=len(await storage.wakeups(now, MOST)),
            driven=await self._driven(now),
            next_wakeup=await storage.next_wakeup(now),
            most=MOST,
            damaged=await storage.damaged(),
        )

    async def _test_stack_processor(self) -> Queue:
        """Whether somebody takes the runs that are due: a worker, or a stack processor."""
        storage, moment = self._storage, datetime.now(UTC)
        now = times.to_text(moment)
        due = await storage.wakeups(now, MOST)
        # Those with a priority come first, so the one that has waited longest may be behind them.
        found = [await storage.get_task_run(run_id) for run_id in due[:SAMPLE]]
        since = [run.wake_at or run.updated_at for run in found if run is not None]
        late = max((times.seconds_between(one, now) for one in since), default=0.0)
        driven = await self._driven(now)
        if late <= LATE:
            return Queue("success", len(due), driven, round(late, 3))
        reason = (
            f"a run has been due for {late:.0f} s and nobody takes it: start "
            "`sequential-ecosystem worker`, or see whether the one that runs has room"
        )
        return Queue("error", len(due), driven, round(late, 3), reason)

    async def _test_direct_gapi(self, context: CallContext) -> dict[str, Any]:
        """Whether Google accepts the credentials of the keystore, and if not, why."""
        try:
            gapi = self._all.get("gapi", context.allow, "checkCredentials")
            told: dict[str, Any] = await gapi.call("checkCredentials", [], {}, context)
        except CallError as error:
            return {"ok": False, "problem": error.failure.message}
        return told

    async def _driven(self, now: str) -> int:
        statuses: Sequence[str] = [Status.RUNNING.value, Status.PENDING.value]
        runs = await self._storage.query_task_runs(limit=MOST, status=statuses)
        return len([run for run in runs if await self._storage.is_leased(run, now)])

    @property
    def _storage(self) -> Store:
        if self._given is None:
            raise CallError("RuntimeError", "admin-debug: this process has no store")
        return self._given

    @property
    def _all(self) -> Services:
        if self._services is None:
            raise CallError("RuntimeError", "admin-debug: this process has no list of services")
        return self._services


def service(storage: Store | None = None, services: Services | None = None) -> AdminDebugService:
    """The service over the store and the services of a process."""
    return AdminDebugService(storage, services)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

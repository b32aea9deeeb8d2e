"""Storage in an SQLite database: one file, nothing to install, any number of processes on it.

    task_runs, stack_runs, task_functions, keystore   as in the original, readable by hand
    programs                                          what runs execute, kept once for all of them
    payloads                                          values over 64 KiB
    snapshots, logs                                   the programs' states and what they printed
    documents                                         small records of the server

Every change is one transaction, made durable before it counts, by one writer thread that commits
what has queued up together (`sqlite_writer`). Reads happen in other threads and wait for nobody.
A lease is a token and a time in the run's row: a commit checks the token in its own transaction.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from sequential.core.model import Amendment, Commit, StackRun, Status, TaskRun
from sequential.errors import ConfigError, LeaseLostError, StorageError
from sequential.storage import sqlite_claim, sqlite_commit, sqlite_rows
from sequential.storage.sqlite_commit import Held, Known
from sequential.storage.sqlite_records import SqliteRecords

T = TypeVar("T")
DEFAULT_PATH = "tasks.db"
LOOK = 0.05  # seconds between looks at what other processes have written, while somebody watches


class SqliteAdapter(SqliteRecords):
    """Tasks and runs in the SQLite database `path`, made when it is opened."""

    def __init__(self, path: str | Path = DEFAULT_PATH) -> None:
        given = Path(path).expanduser()
        self.path = given.absolute()  # a later change of directory does not move it
        super().__init__(self.path, str(given))
        self._held: dict[str, Held] = {}
        self._watching: asyncio.Task[None] | None = None

    async def init(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        if not self.database.is_open:
            return  # or a forked process: the files belong to its parent
        await self._stop_watching()
        releases = [self.release(run_id, held.token) for run_id, held in self._held.items()]
        await asyncio.gather(*releases, return_exceptions=True)  # if it fails, they run out
        await self.database.close()

    # --- claiming --------------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        lease = sqlite_claim.Lease(token, now, until)
        (run,) = await self._claim(
            token, lambda connection: [sqlite_claim.claim(connection, self._rows, run_id, lease)]
        )
        return run

    async def claim_due(
        self,
        token: str,
        now: str,
        until: str,
        limit: int,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[TaskRun]:
        due = sqlite_claim.Due(self._rows, sqlite_claim.Lease(token, now, until), tasks, without)
        return await self._claim(token, lambda connection: due.claim(connection, limit))

    async def _claim(
        self, token: str, work: Callable[[sqlite3.Connection], list[TaskRun]]
    ) -> list[TaskRun]:
        claiming = asyncio.ensure_future(self.database.write(work))
        try:
            runs = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The writer goes on, and nobody would release what it got before its time is over.
            claiming.add_done_callback(lambda done: self._give_back(token, done))
            raise
        for run in runs:
            self._held[run.id] = Held(token, Known(run))
        return runs

    def _give_back(self, token: str, claiming: "asyncio.Future[list[TaskRun]]") -> None:
        if claiming.cancelled() or claiming.exception() or not self.database.is_open:
            return
        ids = [run.id for run in claiming.result()]

        def release(connection: sqlite3.Connection) -> None:
            for run_id in ids:
                sqlite_commit.release(connection, run_id, token)

        self.database.opened().writer.submit(release)

    async def renew(self, run_id: str, token: str, until: str) -> int:
        return await self.database.write(
            lambda connection: sqlite_commit.renew(connection, run_id, token, until)
        )

    async def release(self, run_id: str, token: str) -> None:
        self._drop(run_id, token)
        await self.database.write(lambda conn: sqlite_commit.release(conn, run_id, token))

    # --- writing ---------------------------------------------------------------------------------

    async def commit(self, commit: Commit) -> None:
        run = commit.run
        held = self._held.get(run.id)
        known = held.take(commit.token) if held else Known()
        statements = sqlite_commit.statements(commit, known)
        write = self.database.write if len(self._held) > 1 else self.database.write_alone
        try:
            await write(lambda connection: sqlite_commit.write(connection, commit, statements))
        except LeaseLostError:
            self._drop(run.id, commit.token)
            raise
        if run.status is not Status.RUNNING or run.lease_token != commit.token:
            self._drop(run.id, commit.token)
        elif held and held.token == commit.token:
            held.learn(known, commit)
        if run.status is not Status.RUNNING:
            self._announce(run.id)

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        run = await self._write_unknown(
            old.id,
            lambda connection: sqlite_commit.amend(connection, self._rows, old, amendment),
        )
        self._announce(run.id)
        return run

    async def _write_unknown(self, run_id: str, work: Callable[[sqlite3.Connection], T]) -> T:
        self._forget_rows(run_id)
        try:
            return await self.database.write(work)
        finally:
            self._forget_rows(run_id)  # what was committed or loaded meanwhile is older

    def _drop(self, run_id: str, token: str) -> None:
        held = self._held.get(run_id)
        if held and held.token == token:
            del self._held[run_id]

    def _forget_rows(self, run_id: str) -> None:
        if held := self._held.get(run_id):
            held.known = Known()

    # --- finding ---------------------------------------------------------------------------------

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        held = self._held.get(run_id)
        known = held.known if held else None
        calls = await self.database.read(
            lambda connection: self._rows.undelivered(connection, run_id, after)
        )
        if held and known and held.known is known:  # nothing was written meanwhile
            known.calls = {c.sequence: c for c in calls if c.delivered_turn is None} | known.calls
        return calls

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        query = sqlite_rows.wakeups_query(now, limit, tasks, without)
        return await self.database.read(lambda conn: [row[0] for row in conn.execute(*query)])

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        query = sqlite_rows.next_wakeup_query(now, tasks)
        row = await self.database.read(lambda connection: connection.execute(*query).fetchone())
        return row[0] if row else None

    # --- being told ------------------------------------------------------------------------------

    async def watch(self, changed: Callable[[str], None]) -> None:
        version = await self.database.version()
        await super().watch(changed)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_others(version))

    async def _watch_others(self, version: int) -> None:
        """Say that something happened when other processes have written; SQLite tells no more."""
        while True:
            await asyncio.sleep(LOOK)
            with contextlib.suppress(StorageError):  # trouble is for those who read and write
                new = await self.database.version()
                if new != version:
                    version = new
                    self._announce("")

    async def _stop_watching(self) -> None:
        self._watchers.clear()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None


def create(location: str = "", path: str | Path | None = None) -> SqliteAdapter:
    """The factory of `sqlite:<path>`; also `sqlite:///<relative>` and `sqlite:////<absolute>`."""
    if "://" in location:
        host, _, name = location.partition("://")[2].partition("/")
        if host or not name:
            raise ConfigError(
                f"{location!a} names no file: write sqlite:./workflow.db or sqlite:///workflow.db"
            )
        location = name
    if location == ":memory:":
        raise ConfigError("sqlite::memory: would be lost with each connection: use memory:")
    return SqliteAdapter(path or location or DEFAULT_PATH)

"""Reading and changing the documents of runs.

A change reads a document, or takes it as this process has left it while it holds the lease; makes a
draft; and writes that on condition that the document still is the one that was read. If it is not,
the change is made again. No lock is ever held in the service: a process that dies in the middle
stops nobody.
"""

import asyncio
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from sequential.core.model import LogLine, Snapshot, StackRun, Status, TaskRun, evolve
from sequential.errors import (
    RunBusyError,
    RunChangedError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
    TaskLimitError,
)
from sequential.storage import firestore_parts, firestore_runs, firestore_search, firestore_values
from sequential.storage.firestore_connection import PATIENCE, ConflictError, Connection
from sequential.storage.firestore_parts import Batch, Part, PartMissingError
from sequential.storage.firestore_runs import (
    CHANGING,
    JOURNAL,
    RECORD,
    TREES,
    Draft,
    Entry,
    Page,
    RunDocument,
    cell_part,
)
from sequential.storage.firestore_search import RUNS, is_run_id, turned
from sequential.storage.firestore_values import MISSING, Found
from sequential.storage.sql_records import Program, json_text, program

T = TypeVar("T")
Work = Callable[[Draft], Awaitable[T]]
_REMEMBERED = 1000  # programs, most of which many runs share


class _ChangedError(Exception):
    """A document is not the one any more that was to be changed."""


class RunDocuments:
    """The documents of runs, in one store."""

    def __init__(self, connection: Connection, patience: float = PATIENCE) -> None:
        self.connection = connection
        self._patience = patience
        self._programs: dict[str, Program] = {}  # by the names of their parts
        self.held: dict[str, str] = {}  # the leases of this process: tokens by runs
        self._limits: set[tuple[str, int | None]] = set()  # those that the store knows of
        self.background: set[asyncio.Task[None]] = set()
        self._known: dict[str, RunDocument] = {}
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    # --- reading ---------------------------------------------------------------------------------

    async def fetch(self, run_id: str, fields: Iterable[str]) -> Found | None:
        """A run's document with these fields; None when there is no such run."""
        if not is_run_id(run_id):
            return None
        name = self.name(run_id)
        return (await self.connection.get([name], tuple(fields))).get(name)

    def name(self, run_id: str) -> str:
        return self.connection.place.name(RUNS, turned(run_id))

    async def read(self, run_id: str) -> TaskRun | None:
        """A run with all of its values."""

        async def whole(found: Found) -> TaskRun:
            return await self.whole(await self.open(found))

        return await self.reading(run_id, RECORD, whole)

    async def reading(
        self, run_id: str, fields: Iterable[str], use: Callable[[Found], Awaitable[T]]
    ) -> T | None:
        """What `use` makes of a run's document; read again when its parts have changed meanwhile.

        Raises `DamagedRunError` when a part is missing in a document that did not change.
        """
        last: Found | None = None
        while (found := await self.fetch(run_id, fields)) is not None:
            try:
                return await use(found)
            except PartMissingError as error:
                if last is not None and last.version == found.version:
                    raise firestore_runs.damage(run_id, "part", error) from error
                last = found
        return None

    async def open(self, found: Found) -> RunDocument:
        """A run's document, with notes for its large values."""
        run_id = turned(found.id)
        record = found.fields.get("record")
        if part := cell_part(record):
            record = (await firestore_parts.load(self.connection, [part]))[part]
        if not isinstance(record, str | bytes):
            raise firestore_runs.damage(run_id, "record", "it is missing")
        run = firestore_runs.read_run(run_id, record, await self._program(run_id, found))
        trees = {}
        for name in TREES:
            cell = found.fields.get(name)
            if part := cell_part(cell):
                trees[name] = {"$payload": {"size": part.size}}
            elif isinstance(cell, str):
                trees[name] = firestore_runs.read_tree(run_id, cell)
        return firestore_runs.document(found, run_id, evolve(run, **trees))

    async def _program(self, run_id: str, found: Found) -> Program:
        part = cell_part(found.fields.get("program"))
        if part is None:
            raise firestore_runs.damage(run_id, "program", "it is missing")
        if part.name not in self._programs:
            text = (await firestore_parts.load(self.connection, [part]))[part]
            if len(self._programs) >= _REMEMBERED:
                self._programs.clear()
            self._programs[part.name] = firestore_runs.read_program(run_id, text)
        return self._programs[part.name]

    async def whole(self, document: RunDocument) -> TaskRun:
        """The run with its large values; the document has them then, too."""
        parts = {name: cell_part(document.fields.get(name)) for name in TREES}
        wanted = {name: part for name, part in parts.items() if part}
        if wanted:
            loaded = await firestore_parts.load(self.connection, wanted.values())
            trees = {
                name: firestore_runs.read_tree(document.id, loaded[part])
                for name, part in wanted.items()
            }
            document.run = evolve(document.run, **trees)
        return document.run

    async def whole_of(self, draft: Draft) -> TaskRun:
        """The run of a draft with its large values, which are the same objects from then on."""
        assert draft.old is not None
        draft.old.run = run = await self.whole(draft.old)
        draft.know(run)
        return run

    # --- calls

    async def calls(
        self, found: Found, wanted: Callable[[Page], bool] = lambda _: True
    ) -> list[StackRun]:
        """A run's calls, by number, without those of pages that are not wanted.

        `found` has the fields `JOURNAL`. Raises `PartMissingError`.
        """
        run_id = turned(found.id)
        book = firestore_runs.read_book(run_id, found.fields.get("book"))
        parts = [page.part for page in book.pages if wanted(page)]
        pages = await firestore_parts.load(self.connection, parts)
        texts = [*pages.values(), found.fields.get("tail")]
        entries = [e for text in texts for e in firestore_runs.read_entries(run_id, text)]
        entries.sort(key=lambda entry: entry.call.sequence)
        return await self._complete(run_id, entries)

    async def _complete(self, run_id: str, entries: list[Entry]) -> list[StackRun]:
        parts = [part for e in entries for part in (e.input, e.result) if part]
        loaded = await firestore_parts.load(self.connection, parts)
        calls = []
        for entry in entries:
            apart = {"input": entry.input, "result": entry.result}
            trees = {
                name: firestore_runs.read_tree(run_id, loaded[part])
                for name, part in apart.items()
                if part
            }
            calls.append(evolve(entry.call, **trees) if trees else entry.call)
        return calls

    async def call(self, run_id: str, sequence: int) -> StackRun | None:
        async def one(found: Found) -> StackRun | None:
            calls = await self.calls(found)
            return next((call for call in calls if call.sequence == sequence), None)

        return await self.reading(run_id, JOURNAL, one)

    async def log(self, run_id: str) -> list[LogLine]:
        async def lines(found: Found) -> list[LogLine]:
            book = firestore_runs.read_book(run_id, found.fields.get("book"))
            older = await firestore_parts.load(self.connection, book.logs)
            texts = [*older.values(), found.fields.get("log")]
            return [line for text in texts for line in firestore_runs.read_lines(run_id, text)]

        return await self.reading(run_id, ("log", "book"), lines) or []

    async def snapshot(self, run_id: str) -> Snapshot | None:
        async def newest(found: Found) -> Snapshot | None:
            book = firestore_runs.read_book(run_id, found.fields.get("book"))
            if book.snapshot_turn is None:
                return None
            data = found.fields.get("snapshot")
            if book.snapshot is not None:
                data = (await firestore_parts.load(self.connection, [book.snapshot]))[book.snapshot]
            return Snapshot(run_id, book.snapshot_turn, data) if isinstance(data, bytes) else None

        return await self.reading(run_id, ("snapshot", "book"), newest)

    async def complete(self, draft: Draft, sequence: int) -> StackRun | None:
        """A call of a draft with all of its values."""
        entry = draft.find_call(sequence)
        return (await self._complete(draft.id, [entry]))[0] if entry else None

    async def load_pages(self, draft: Draft, sequences: Iterable[int]) -> None:
        """Read the pages that these calls are on, so that the draft can change them."""
        document = draft.old
        if document is None:
            return
        found = [document.page_of(sequence) for sequence in sequences]
        missing = {p.part: p for p in found if p is not None and p.first not in document.pages}
        loaded = await firestore_parts.load(self.connection, missing)
        for part, text in loaded.items():
            page = missing[part]
            document.pages[page.first] = firestore_runs.read_entries(draft.id, text)

    # --- changing --------------------------------------------------------------------------------

    async def create(self, run: TaskRun) -> None:
        """Write a new run; raises `RunExistsError`."""
        for _ in range(2):  # twice, if what was left by a commit is removed just now
            batch = Batch(self.connection, run.id)
            draft = Draft(None, run.id, batch)
            draft.set_run(run)
            self._keep_program(draft, run)
            batch.writes.append(firestore_values.put(self.name(run.id), draft.finish(), MISSING))
            try:
                await batch.commit()
            except ConflictError:
                found = await self.fetch(run.id, ["changes"])
                if found is None:
                    continue
                if not _is_done(found, batch):
                    raise RunExistsError(f"run {run.id} exists already") from None
            shared = program(run)
            self._programs[f"program-{shared.digest}"] = shared
            self._limits.add((run.task_identifier, run.config.concurrency))
            return
        raise StorageError(f"run {run.id} could not be created: try again")

    async def change(
        self,
        run_id: str,
        work: Work[T],
        *,
        token: str | None = None,
        known: RunDocument | None = None,
    ) -> T:
        """Have `work` change the draft of a run, and write it; returns what `work` returns.

        What is `known` already, or to this process if it holds the lease by `token`, is not read
        again unless it turns out to be stale.
        `work` may be called several times; what it raises ends the change, and nothing is written.
        Raises `RunNotFoundError`.
        """
        turn = self._turns.setdefault(run_id, asyncio.Lock())
        async with turn:  # those of this process need not come into conflict
            end = time.monotonic() + self._patience
            pause = 0.005
            mine = self._known.pop(run_id, None)
            document = mine if mine is not None and mine.run.lease_token == token else known
            if document is not None:
                try:
                    return await self._try(document, work)
                except TaskLimitError:
                    raise
                except (_ChangedError, StorageError, RunBusyError, RunChangedError):
                    pass  # it may be another by now: look
            while time.monotonic() < end:
                try:
                    return await self._try(await self._fresh(run_id), work)
                except _ChangedError:
                    await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
                    pause = min(2 * pause, 0.5)
            raise StorageError(f"run {run_id} is changed by too many at once: try again")

    async def _fresh(self, run_id: str) -> RunDocument:
        document = await self.reading(run_id, CHANGING, self.open)
        if document is None:
            self.forget(run_id)
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        return document

    async def _try(self, document: RunDocument, work: Work[T]) -> T:
        """Write what `work` makes of a document; raises `_ChangedError` when it is another now."""
        batch = Batch(self.connection, document.id)
        draft = Draft(document, document.id, batch)
        try:
            result = await work(draft)
        except PartMissingError as error:
            found = await self.fetch(document.id, ["status"])
            if found is not None and found.version == document.version:
                raise firestore_runs.damage(document.id, "part", error) from error
            raise _ChangedError from error
        fields = draft.finish()
        if not fields:
            self._learn(document)
            return result
        name = self.name(document.id)
        batch.writes.insert(0, firestore_values.put(name, fields, document.version, merge=True))
        version = None
        try:
            version = (await batch.commit())[0]
        except ConflictError as error:
            found = await self.fetch(document.id, ["changes"])
            if found is None or not _is_done(found, batch):
                raise _ChangedError from error
            # It was done, and others may have gone on from there: nothing is known for sure.
        if draft.token is not None:
            self.held[document.id] = draft.token
        if version is not None:
            self._learn(draft.written(version))
        return result

    def forget(self, run_id: str) -> None:
        self.held.pop(run_id, None)
        self._known.pop(run_id, None)

    def _learn(self, document: RunDocument) -> None:
        """Remember a document, if its lease is one of this process."""
        run = document.run
        token = self.held.get(run.id)
        if token is not None and token == run.lease_token and run.status is Status.RUNNING:
            self._known[run.id] = document

    def _keep_program(self, draft: Draft, run: TaskRun) -> None:
        """Refer to a run's program, and write it unless this process has seen it in the store."""
        shared = program(run)
        text = json_text(shared).encode()
        name = f"program-{shared.digest}"
        if name in self._programs:
            part = Part(name, len(text), firestore_parts.digest_of(text))
        else:
            part = draft.batch.keep(text, name)
        draft.set_program(part)
        limit = (run.task_identifier, run.config.concurrency)
        if run.config.concurrency is not None and limit not in self._limits:
            draft.batch.writes.append(firestore_search.marker(self.connection, run))

    def set_run(self, draft: Draft, run: TaskRun) -> None:
        """Give the draft's run these fields, and refer to its program if that is another one."""
        old = draft.run
        draft.set_run(run)
        if (run.filename, run.config, run.code) != (old.filename, old.config, old.code):
            self._keep_program(draft, run)


def _is_done(found: Found, batch: Batch) -> bool:
    """Whether a change is in a document, although its commit was answered by a conflict."""
    changes = found.fields.get("changes")
    return isinstance(changes, list) and batch.change in changes

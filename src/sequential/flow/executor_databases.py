"""The storages of flows in databases that one has already: SQL, Redis, Firestore.

    SQL        executions (id, step, state), results (exec_id, step, data)
    Redis      exec:{id}, exec:{id}:{step}
    Firestore  a document for each flow, with a collection `steps`

Each takes a connection or client that the caller has made and will close.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sequential.core import values
from sequential.errors import ConfigError, StorageError
from sequential.flow.executor_storage import INPUT, State, StepStorage, safe_name, settled

Style = Literal["?", "%s", "$1"]

_EXECUTIONS = """
CREATE TABLE IF NOT EXISTS executions
    (id TEXT PRIMARY KEY, step INTEGER NOT NULL, state TEXT NOT NULL)
"""
_RESULTS = """
CREATE TABLE IF NOT EXISTS results
    (exec_id TEXT NOT NULL, step INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (exec_id, step))
"""
_PUT = "ON CONFLICT (exec_id, step) DO UPDATE SET data = excluded.data"
_STYLES: dict[str, Style] = {"qmark": "?", "format": "%s", "pyformat": "%s"}
_MOST_WRITES = 400  # of one commit to Firestore
_MOST_TEXT = 1_000_000  # bytes of a document of Firestore, with room for its names


class SQLStepStorage(StepStorage):
    """Tables in PostgreSQL, SQLite or what takes their SQL.

    `database` is a DB-API connection, sync or async, or a function `query(sql, parameters)` that
    returns rows. `style` is how a statement names its parameters: a connection's driver knows it, a
    function is taken to want `$1`.
    """

    def __init__(self, database: Any, style: Style | None = None) -> None:
        self._connection = database if hasattr(database, "cursor") else None
        if self._connection is None and not callable(database):
            raise ConfigError(
                f"{type(database).__name__} is neither a DB-API connection nor a function "
                "query(sql, parameters)"
            )
        self._query: Callable[..., Any] = database
        self._style = style or ("$1" if self._connection is None else _style_of(database))
        self._one_at_a_time = asyncio.Lock()

    async def init(self) -> None:
        """Create the tables `executions` and `results`, unless they are there."""
        await self._run(_EXECUTIONS)
        await self._run(_RESULTS)

    async def get(self, id: str) -> State | None:
        rows = await self._run("SELECT state FROM executions WHERE id = ?", id)
        state: State | None = _loaded(rows)
        return state

    async def set(self, id: str, state: State) -> None:
        await self._run(
            "INSERT INTO executions (id, step, state) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET step = excluded.step, state = excluded.state",
            *(id, state.get("step", 0), _text(state)),
        )

    async def delete(self, id: str) -> None:
        await self._run("DELETE FROM results WHERE exec_id = ?", id)
        await self._run("DELETE FROM executions WHERE id = ?", id)

    async def get_result(self, id: str, step: int) -> Any:
        return _loaded(
            await self._run("SELECT data FROM results WHERE exec_id = ? AND step = ?", id, step)
        )

    async def set_result(self, id: str, step: int, data: Any) -> None:
        await self._run(
            f"INSERT INTO results (exec_id, step, data) VALUES (?, ?, ?) {_PUT}",  # noqa: S608
            *(id, step, _text(data)),
        )

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        """Each statement looks at the state for itself, so no transaction is needed."""
        before = None if old is None else _text(old)
        if result is not None:
            await self._put_if(id, before, *result)
        if before is None:
            rows = await self._run(
                "INSERT INTO executions (id, step, state) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO NOTHING RETURNING id",
                *(id, new["step"], _text(new)),
            )
        else:
            rows = await self._run(
                "UPDATE executions SET step = ?, state = ? WHERE id = ? AND state = ? RETURNING id",
                *(new["step"], _text(new), id, before),
            )
        return bool(rows)

    async def _put_if(self, id: str, before: str | None, step: int, data: Any) -> None:
        condition, known = "NOT EXISTS (SELECT 1 FROM executions WHERE id = ?)", [id]
        if before is not None:
            condition = "EXISTS (SELECT 1 FROM executions WHERE id = ? AND state = ?)"
            known.append(before)
        await self._run(
            "INSERT INTO results (exec_id, step, data) "
            f"SELECT CAST(? AS TEXT), CAST(? AS INTEGER), CAST(? AS TEXT) WHERE {condition} {_PUT}",
            *(id, step, _text(data), *known),
        )

    async def _run(self, statement: str, *parameters: Any) -> Sequence[Any]:
        statement = _in_style(statement, self._style)
        if self._connection is None:
            return list(await settled(self._query(statement, parameters)) or ())
        async with self._one_at_a_time:
            try:
                cursor = await settled(self._connection.cursor())
                await settled(cursor.execute(statement, parameters))
                rows = await settled(cursor.fetchall()) if cursor.description else []
                await settled(cursor.close())
                await settled(self._connection.commit())
            except BaseException:
                await settled(self._connection.rollback())
                raise
        return list(rows)


def _style_of(connection: Any) -> Style:
    module = sys.modules.get(type(connection).__module__.partition(".")[0])
    name = getattr(module, "paramstyle", "qmark")
    if name not in _STYLES:
        raise ConfigError(
            f"the driver of this connection wants parameters in the style {name!r}: give a "
            "function query(sql, parameters), and style="
        )
    return _STYLES[name]


def _in_style(statement: str, style: Style) -> str:
    if style == "$1":
        first, *rest = statement.split("?")
        return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
    return statement.replace("?", style)


def _loaded(rows: Sequence[Any]) -> Any:
    """The one value of the one row, which is JSON; a driver may have read it already."""
    if not rows:
        return None
    row = rows[0]
    value = next(iter(row.values())) if isinstance(row, Mapping) else row[0]
    return values.loads(value) if isinstance(value, str | bytes) else value


def _text(tree: Any) -> str:
    return values.dumps(tree).decode()


_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[3]) end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisStepStorage(StepStorage):
    """Keys in Redis or Valkey; `client` is a `redis.asyncio.Redis`.

    The colons of an id are written as `%3a`, so no id can name a result of another.
    """

    def __init__(self, client: Any, prefix: str = "exec:") -> None:
        self._client = client
        self._prefix = prefix

    async def get(self, id: str) -> State | None:
        text = await self._client.get(self._key(id))
        return None if text is None else values.loads(text)

    async def set(self, id: str, state: State) -> None:
        await self._client.set(self._key(id), values.dumps(state))

    async def delete(self, id: str) -> None:
        state = await self.get(id)
        steps = range(INPUT, (state or {}).get("step", 0) + 1)
        for first in range(0, len(steps), 500):
            await self._client.unlink(*(self._key(id, n) for n in steps[first : first + 500]))
        await self._client.unlink(self._key(id))

    async def get_result(self, id: str, step: int) -> Any:
        text = await self._client.get(self._key(id, step))
        return None if text is None else values.loads(text)

    async def set_result(self, id: str, step: int, data: Any) -> None:
        await self._client.set(self._key(id, step), values.dumps(data))

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        keys = [self._key(id)]
        given = [b"" if old is None else values.dumps(old), values.dumps(new)]
        if result is not None:
            keys.append(self._key(id, result[0]))
            given.append(values.dumps(result[1]))
        return bool(await self._client.eval(_SWAP, len(keys), *keys, *given))

    def _key(self, id: str, step: int | None = None) -> str:
        key = self._prefix + id.replace("%", "%25").replace(":", "%3a")
        return key if step is None else f"{key}:{step}"


class FirestoreStepStorage(StepStorage):
    """Documents in Firestore; `client` is a `google.cloud.firestore.Client`.

    A document holds 1 MiB: for larger results take the `StorageAdapter` of Firestore, which splits
    them.
    """

    def __init__(self, client: Any, collection: str = "executions") -> None:
        self._client = client
        self._flows = client.collection(collection)

    async def get(self, id: str) -> State | None:
        state: State | None = _field(await asyncio.to_thread(self._flow(id).get), "state")
        return state

    async def set(self, id: str, state: State) -> None:
        await asyncio.to_thread(self._flow(id).set, _state_fields(id, state))

    async def delete(self, id: str) -> None:
        state = await self.get(id)
        steps = range(INPUT, (state or {}).get("step", 0) + 1)
        for first in range(0, len(steps), _MOST_WRITES):
            batch = self._client.batch()
            for step in steps[first : first + _MOST_WRITES]:
                batch.delete(self._step(id, step))
            await asyncio.to_thread(batch.commit)
        await asyncio.to_thread(self._flow(id).delete)

    async def get_result(self, id: str, step: int) -> Any:
        return _field(await asyncio.to_thread(self._step(id, step).get), "data")

    async def set_result(self, id: str, step: int, data: Any) -> None:
        await asyncio.to_thread(self._step(id, step).set, _result_fields(step, data))

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        return await asyncio.to_thread(self._swap, id, old, new, result)

    def _swap(self, id: str, old: State | None, new: State, result: tuple[int, Any] | None) -> bool:
        """One commit, which holds only for the version of the state that we have seen."""
        from google.api_core import exceptions  # noqa: PLC0415 - only its users have it

        flow = self._flow(id)
        batch = self._client.batch()
        if old is None:
            batch.create(flow, _state_fields(id, new))
        else:
            seen = flow.get()
            if _field(seen, "state") != old:
                return False
            unchanged = self._client.write_option(last_update_time=seen.update_time)
            batch.update(flow, _state_fields(id, new), option=unchanged)
        if result is not None:
            batch.set(self._step(id, result[0]), _result_fields(*result))
        try:
            batch.commit()
        except (exceptions.Conflict, exceptions.FailedPrecondition, exceptions.NotFound):
            return False
        return True

    def _flow(self, id: str) -> Any:
        return self._flows.document(safe_name(id))

    def _step(self, id: str, step: int) -> Any:
        return self._flow(id).collection("steps").document("input" if step == INPUT else str(step))


def _field(document: Any, name: str) -> Any:
    return values.loads(document.get(name)) if document.exists else None


def _state_fields(id: str, state: State) -> dict[str, Any]:
    return {"id": id, "step": state.get("step", 0), "state": _text(state)}


def _result_fields(step: int, data: Any) -> dict[str, Any]:
    text = _text(data)
    if (size := len(text.encode())) > _MOST_TEXT:
        what = "the input" if step == INPUT else f"the result of step {step}"
        raise StorageError(
            f"{what} has {size} bytes, a document of Firestore holds {_MOST_TEXT}: store it "
            "elsewhere and return its address, or use the StorageAdapter of Firestore"
        )
    return {"step": step, "data": text}

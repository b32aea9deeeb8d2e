"""The tasks and the keystore of the Redis store: hashes by name."""

from sequential.core.model import TaskFunction, evolve
from sequential.core.names import check_task_name
from sequential.errors import RunBusyError, TaskNotFoundError
from sequential.storage import redis_records
from sequential.storage.redis_documents import RedisDocuments
from sequential.storage.redis_records import utf8


class TaskStore(RedisDocuments):
    """Tasks by name, and what the keystore holds, encrypted by the caller."""

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        name = check_task_name(function.identifier)
        while True:
            new = function
            text = await self._server.command("HGET", f"{self._address.prefix}tasks", name)
            if text is not None:
                old = redis_records.function_of(text, name)
                same = (old.code, old.config, old.filename)
                if same == (function.code, function.config, function.filename):
                    return old
                new = evolve(function, version=old.version + 1, created_at=old.created_at)
            if await self._swap("tasks", name, text, redis_records.json(new)):
                return new

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        check_task_name(identifier)
        text = await self._server.command("HGET", f"{self._address.prefix}tasks", identifier)
        return None if text is None else redis_records.function_of(text, identifier)

    async def list_task_functions(self) -> list[TaskFunction]:
        texts = await self._server.command("HGETALL", f"{self._address.prefix}tasks")
        names = sorted(name.decode() for name in texts)
        return [redis_records.function_of(texts[name.encode()], name) for name in names]

    async def delete_task(self, identifier: str) -> int:
        check_task_name(identifier)
        word, *rest = await self._call("delete_task", [], [identifier])
        if word == b"gone":
            raise TaskNotFoundError(f"there is no task {identifier}")
        if word == b"busy":
            raise RunBusyError(
                f"run {rest[0].decode()} of {identifier} is being driven: wait until it is done; "
                "if its worker has died, `sequential-ecosystem resume` it first"
            )
        return int(rest[0])

    async def set_keystore(self, key: str, value: str) -> None:
        await self._server.command("HSET", self._keystore, utf8(key), utf8(value))

    async def get_keystore(self, key: str) -> str | None:
        text = await self._server.command("HGET", self._keystore, utf8(key))
        return None if text is None else text.decode()

    async def delete_keystore(self, key: str) -> bool:
        while True:
            text = await self._server.command("HGET", self._keystore, utf8(key))
            if text is None:
                return False
            if await self._swap("keystore", key, text, None):
                return True

    async def list_keystore(self) -> list[str]:
        keys = await self._server.command("HKEYS", self._keystore)
        return sorted(key.decode() for key in keys)

    @property
    def _keystore(self) -> str:
        return f"{self._address.prefix}keystore"

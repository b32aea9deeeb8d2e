"""Paused tasks in Redis or Valkey: a hash for each, which expires with its task."""

import math
from typing import Any

from sequential.core import times
from sequential.errors import ConfigError
from sequential.flow.executor_storage import safe_name
from sequential.flow.flow_task import FlowTask
from sequential.flow.storages import CustomStorage

PREFIX = "seq-flow:"

# KEYS: the task. ARGV: the revision it must have ("" for none), "" or the new revision, the task
# as JSON, the time it expires in milliseconds or "".
_SWAP = """
if ARGV[1] ~= '*' and (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] == '' then return 1 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'data', ARGV[3])
if ARGV[4] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[4]) end
return 1
"""


class RedisStorage(CustomStorage):
    """Tasks in Redis, for any number of processes.

    `client` is a `redis.asyncio.Redis`, which stays its owner's, or a URL; `close` closes the
    connections that a URL has opened.
    """

    def __init__(self, client: Any, prefix: str = PREFIX) -> None:
        self._is_own = isinstance(client, str)
        self._client: Any = _connected(client) if isinstance(client, str) else client
        self._prefix = prefix

    async def save(self, task: FlowTask) -> None:
        await self._change(task.id, "*", task)

    async def load(self, task_id: str) -> FlowTask | None:
        text = await self._client.hget(self._key(task_id), "data")
        return None if text is None else FlowTask.from_json(text)

    async def delete(self, task_id: str) -> bool:
        return bool(await self._client.delete(self._key(task_id)))

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        return await self._change(task_id, "" if revision is None else str(revision), task)

    async def close(self) -> None:
        if self._is_own:
            await self._client.aclose()

    async def _change(self, task_id: str, expected: str, task: FlowTask | None) -> bool:
        given: tuple[str, str, str] = ("", "", "")
        if task is not None:
            given = (str(task.revision), task.to_json(), _milliseconds(task.expires_at))
        return bool(await self._client.eval(_SWAP, 1, self._key(task_id), expected, *given))

    def _key(self, task_id: str) -> str:
        return self._prefix + safe_name(task_id)


def _connected(url: str) -> Any:
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - only its users have it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "RedisStorage needs the package redis: pip install 'sequential-ecosystem[redis]'"
        ) from error
    try:
        return Redis.from_url(url)
    except ValueError as error:
        raise ConfigError(f"this is no URL of Redis: {error}") from error


def _milliseconds(moment: str | None) -> str:
    return "" if moment is None else str(math.ceil(times.from_text(moment).timestamp() * 1000))

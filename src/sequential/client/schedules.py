"""The schedules of a server's tasks: when runs begin by themselves."""

import msgspec

from sequential.client.connection import Connection
from sequential.client.pages import listed
from sequential.core.names import check_schedule_name, check_task_name
from sequential.core.schedule import Schedule, Scheduled
from sequential.errors import ScheduleNotFoundError


class RemoteSchedules:
    """Schedules are set, looked at and removed; the server's workers keep to them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def set(self, task: str, schedule: Schedule) -> Scheduled:
        """Keep a schedule, in place of another of its name, also of one in config.json.

        If its times are other ones than before they are counted from now on. Raises
        `TaskNotFoundError`, `InvalidNameError`, and `InvalidInputError` that lists what is wrong
        with the times or with the input; then nothing was written.
        """
        body = msgspec.to_builtins(schedule)
        path = _path(task, body.pop("name"))
        return (await self._connection.request("PUT", path, body=body)).read(Scheduled)

    async def delete(self, task: str, name: str) -> None:
        """Remove a schedule that was set; one of its name in config.json counts again.

        Raises `ScheduleNotFoundError`, also for one that is in config.json only.
        """
        path = _path(task, name)
        await self._connection.request("DELETE", path, done_if=ScheduleNotFoundError)

    async def get(self, task: str, name: str) -> Scheduled:
        """A schedule and where it stands; raises `ScheduleNotFoundError` with the nearest name."""
        return (await self._connection.request("GET", _path(task, name))).read(Scheduled)

    async def list(self, task: str | None = None) -> "list[Scheduled]":
        """All schedules, or those of a task, by task and name; raises `TaskNotFoundError`."""
        query = {"task": None if task is None else check_task_name(task)}
        return await listed(self._connection, "/schedules", Scheduled, query)


def _path(task: str, name: str) -> str:
    return f"/schedules/{check_task_name(task)}/{check_schedule_name(name)}"

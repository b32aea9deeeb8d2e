"""What happens to a run, live: Server-Sent Events of a server as the records they are about."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

import msgspec

from sequential.client.connection import Connection, Trouble
from sequential.client.errors import BadAnswerError, NoAnswerError
from sequential.core.model import LogLine, StackRun, TaskRun
from sequential.core.retry import next_delay
from sequential.errors import RunNotFoundError

News = TaskRun | StackRun | LogLine

SILENCE = 45.0  # seconds: a server says every 15 that it is there
LONGEST_EVENT = 64 << 20  # bytes
_KINDS: dict[str, type[News]] = {"run": TaskRun, "call": StackRun, "log": LogLine}


class Event(NamedTuple):
    """One event of a stream. `id` is empty where it has none."""

    name: str
    data: bytes
    id: str = ""


async def followed(
    connection: Connection, run_id: str, silence: float = SILENCE
) -> AsyncGenerator[News, None]:
    """The news of a run until it has ended; the last is the run with its result.

    Where a connection breaks, another one goes on after the last event; the server being away for
    longer than the connection's deadline raises `NoAnswerError`.
    """
    loop = asyncio.get_running_loop()
    path, last, heard, attempts = f"/runs/{run_id}", "", loop.time(), 0
    while True:
        try:
            async with connection.stream(f"{path}/events", _headers(last), silence) as pieces:
                async for event in events(pieces):
                    last, heard, attempts = event.id or last, loop.time(), 0
                    if event.name in _KINDS:
                        yield _record(event)
                    elif event.name == "gone":
                        raise RunNotFoundError(f"run {run_id} was removed")
                    elif event.name == "end":
                        yield (await connection.request("GET", path)).read(TaskRun)
                        return
            trouble = Trouble(NoAnswerError(f"{path}: the server ends the stream again and again"))
        except Trouble as met:
            trouble = met
        attempts += 1
        pause = next_delay(
            connection.retry, attempts, run_id, retry_after=trouble.after, retries=attempts
        )
        patience = connection.deadline
        if pause is None or (patience is not None and loop.time() + pause > heard + patience):
            raise trouble.error from trouble.__cause__
        await asyncio.sleep(pause)


def _headers(last: str) -> dict[str, str]:
    return {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events in the bytes of a stream; one that has no data is none."""
    name, data, event_id = "", list[bytes](), ""
    async for line in _lines(pieces):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                yield Event(name or "message", b"\n".join(data), event_id)
            name, data, event_id = "", [], ""
        elif field == b"event":
            name = value.decode(errors="replace")
        elif field == b"data":
            data.append(value)
        elif field == b"id":
            event_id = value.decode(errors="replace")


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that are complete, without their ends."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        if len(rest) > LONGEST_EVENT:
            raise BadAnswerError(f"an event of the server has more than {LONGEST_EVENT} bytes")
        if b"\n" not in piece:
            continue
        *lines, last = bytes(rest).replace(b"\r\n", b"\n").split(b"\n")
        rest = bytearray(last)
        for line in lines:
            yield line


def _record(event: Event) -> News:
    try:
        return msgspec.json.decode(event.data, type=_KINDS[event.name])
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(
            f"an event of the server is not what this version understands ({error}): "
            "use the same version here and there"
        ) from error

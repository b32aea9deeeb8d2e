"""Native tasks that use Python as people do, each with what it returns.

`tool.echo` of the service gives back what it is given, `tool.fail` raises `OSError`. What a program
returns does not depend on when its outcomes come, so it is the same however the run is driven.
"""

import ast
import re

_SOURCES = """
# services
async def job(input):
    return [await services.tool.echo(1), await call_host_tool("tool", "echo", [2])]
# => [1, 2]
# sleep
import asyncio, time

async def job(input):
    began = time.time()
    await asyncio.sleep(3600)
    time.sleep(60)
    await sleep(0)
    return time.time() - began >= 3660
# => True
# gather
import asyncio

async def job(input):
    async def twice(x):
        return await services.tool.echo(await services.tool.echo(x)) * 2
    return await asyncio.gather(*[twice(x) for x in range(4)], return_exceptions=True)
# => [0, 2, 4, 6]
# gather-exceptions
import asyncio

async def job(input):
    found = await asyncio.gather(
        services.tool.fail(), services.tool.echo(1), return_exceptions=True
    )
    return [type(found[0]).__name__, str(found[0]), found[1]]
# => ["OSError", "no such luck", 1]
# task-group
import asyncio

async def job(input):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(services.tool.echo(x), name=f"t{x}") for x in "abc"]
    return [task.result() for task in tasks] + [tasks[0].get_name()]
# => ["a", "b", "c", "ta"]
# task-group-error
import asyncio

async def job(input):
    ended = []
    async def patient():
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(await services.tool.echo("tidied"))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(patient())
            group.create_task(services.tool.fail())
    except* OSError as group:
        error = group.exceptions[0]
    return [str(error), ended]
# => ["no such luck", ["tidied"]]
# wait-for
import asyncio

async def job(input):
    try:
        await asyncio.wait_for(asyncio.sleep(1e6), timeout=10)
    except TimeoutError:
        return await asyncio.wait_for(services.tool.echo("late"), timeout=1e6)
# => "late"
# timeout
import asyncio

async def job(input):
    try:
        async with asyncio.timeout(5) as limit:
            await asyncio.sleep(1e6)
    except TimeoutError:
        pass
    async with asyncio.timeout(None):
        return [limit.expired(), await services.tool.echo(1)]
# => [True, 1]
# wait
import asyncio

async def job(input):
    quick = asyncio.create_task(services.tool.echo("quick"))
    slow = asyncio.create_task(asyncio.sleep(1e5, "slow"))
    done, pending = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
    first = [task.result() for task in done]
    await asyncio.wait(pending)
    return first + [slow.result()]
# => ["quick", "slow"]
# as-completed
import asyncio

async def job(input):
    async def after(seconds):
        await asyncio.sleep(seconds)
        return await services.tool.echo(seconds)
    return [await one for one in asyncio.as_completed([after(x) for x in (30000, 10000, 20000)])]
# => [10000, 20000, 30000]
# queue
import asyncio

async def job(input):
    queue, seen = asyncio.Queue(maxsize=1), []
    async def produce():
        for x in range(4):
            await queue.put(await services.tool.echo(x))
        await queue.put(None)
    async def consume():
        while (x := await queue.get()) is not None:
            seen.append(x)
            await asyncio.sleep(1)
    await asyncio.gather(produce(), consume())
    return seen
# => [0, 1, 2, 3]
# lock
import asyncio

async def job(input):
    lock, seen = asyncio.Lock(), []
    async def one(x):
        async with lock:
            seen.append(x)
            await services.tool.echo(x)
            seen.append(x)
    await asyncio.gather(one(1), one(2), one(3))
    return seen
# => [1, 1, 2, 2, 3, 3]
# event-and-semaphore
import asyncio

async def job(input):
    go, most, busy = asyncio.Event(), asyncio.Semaphore(2), []
    async def one(x):
        await go.wait()
        async with most:
            busy.append(len(busy))
            await services.tool.echo(x)
            busy.pop()
            return x
    tasks = [asyncio.create_task(one(x)) for x in range(4)]
    await asyncio.sleep(5)
    go.set()
    return [await asyncio.gather(*tasks), busy]
# => [[0, 1, 2, 3], []]
# condition-and-barrier
import asyncio

async def job(input):
    barrier, condition, ready = asyncio.Barrier(2), asyncio.Condition(), []
    async def waits():
        async with condition:
            await condition.wait_for(lambda: ready)
        await barrier.wait()
        return "waited"
    async def tells():
        await services.tool.echo(1)
        async with condition:
            ready.append(1)
            condition.notify_all()
        await barrier.wait()
        return "told"
    return await asyncio.gather(waits(), tells())
# => ["waited", "told"]
# shield
import asyncio

async def job(input):
    inner = asyncio.ensure_future(asyncio.sleep(100, "kept"))
    try:
        await asyncio.wait_for(asyncio.shield(inner), 1)
    except TimeoutError:
        return await inner
# => "kept"
# cancelling
import asyncio

async def job(input):
    async def stubborn():
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError as error:
            await services.tool.echo("clean")
            return f"cancelled: {error}"
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel("enough")
    return await task
# => "cancelled: enough"
# async-generators
import asyncio
from contextlib import aclosing, asynccontextmanager

async def job(input):
    seen = []
    async def numbers():
        try:
            for x in range(10):
                yield await services.tool.echo(x)
        finally:
            seen.append(await services.tool.echo("closed"))
    async for x in numbers():
        if x == 2:
            break
    await asyncio.sleep(1)
    async with aclosing(numbers()) as given:
        seen.append(await anext(given))
    @asynccontextmanager
    async def resource():
        yield await services.tool.echo("open")
        seen.append(await services.tool.echo("shut"))
    async with resource() as it:
        seen.append(it)
    seen.append([x async for x in numbers() if x % 5 == 4])
    return seen
# => ["closed", 0, "closed", "open", "shut", "closed", [4, 9]]
# left-behind
import asyncio

log = []

async def job(input):
    async def background():
        try:
            await asyncio.sleep(1e6)
        finally:
            log.append("told")
            log.append(await services.tool.echo("and heard"))
    asyncio.create_task(background())
    await services.tool.echo(1)
    return log
# => ["told", "and heard"]
# contextvars
import asyncio
from contextvars import ContextVar

user = ContextVar("user", default="nobody")

async def job(input):
    async def one(name):
        user.set(name)
        await services.tool.echo(1)
        return user.get()
    return [await asyncio.gather(one("a"), one("b")), user.get()]
# => [["a", "b"], "nobody"]
# dataclasses
from __future__ import annotations

import asyncio
import enum
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

class Kind(enum.Enum):
    GOOD = "good"

class Point(NamedTuple):
    x: int
    y: int = 0

@dataclass(frozen=True, slots=True)
class Order:
    id: int
    kind: Kind = Kind.GOOD
    tags: list[str] = field(default_factory=list)
    at: Point | None = None

class Base:
    async def load(self, id: int) -> Order:
        return Order(await services.tool.echo(id), at=Point(1))

class Loader(Base):
    async def load(self, id):
        return await super().load(id + 1)

    async def __aenter__(self):
        return await services.tool.echo(self) if False else self

    async def __aexit__(self, *details):
        await services.tool.echo("left")

async def job(input):
    async with Loader() as loader:
        order = await loader.load(1)
    return [order.id, order.kind.value, asdict(order)["at"], isinstance(loader, Base)]
# => [2, "good", (1, 0), True]
# generators
import itertools

def countdown(n):
    while n:
        yield n
        n -= 1

async def job(input):
    seen = []
    for x in countdown(3):
        seen.append(await services.tool.echo(x))
    del seen[0]
    return seen + list(itertools.islice(countdown(9), 2))
# => [2, 1, 9, 8]
# match
from datetime import datetime
import enum

class When(enum.Enum):
    now = 1
    today = 2

async def job(input):
    match When(await services.tool.echo(2)):
        case When.now:
            return "now"
        case When.today if datetime.now().year > 2000:
            return [When.today.name, datetime.today().year > 2000]
# => ["today", True]
# heavy-values
import decimal, fractions, re

async def job(input):
    table = {fractions.Fraction(1, n): memoryview(bytes(n)) for n in range(1, 5)}
    pattern = re.compile("(x+)")
    found = await services.tool.echo("axxb")
    small = await services.tool.echo(decimal.Decimal("0.10"))
    return [pattern.search(found).group(1), len(table[fractions.Fraction(1, 4)]), str(small)]
# => ["xx", 4, "0.10"]
# plain
def job(input):
    return {"doubled": input["x"] * 2}
# => {"doubled": 42}
# plain-blocking
import asyncio, time

def job(input):
    time.sleep(7)
    async def inside(x):
        return await services.tool.echo(x)
    first = asyncio.run(inside(1))
    with asyncio.Runner() as runner:
        second = runner.run(inside(2))
    loop = asyncio.new_event_loop()
    third = loop.run_until_complete(inside(3))
    loop.close()
    return [first, second, third]
# => [1, 2, 3]
# module-level
import random, time, uuid

BEGAN = time.time()
LUCKY = random.random()
NAME = uuid.uuid4()

async def job(input):
    before = [BEGAN, LUCKY, str(NAME)]
    same = await services.tool.echo(before)
    return same == before
# => True
# chance
import datetime as moments
import os, random, secrets, time, uuid
from sequential.task import now, random as chance, uuid4

async def job(input):
    drawn = lambda: [
        chance(), uuid4(), str(uuid.uuid4()), random.random(), random.randint(1, 10**9),
        random.sample(range(1000), 3), random.gauss(0, 1), secrets.token_hex(8), os.urandom(4),
        random.SystemRandom().random(), random.Random(5).random(), secrets.choice("abcdef"),
    ]
    clock = lambda: [
        now(), time.time(), time.time_ns(), time.monotonic(), time.perf_counter(),
        moments.datetime.now(), moments.datetime.now(moments.UTC), moments.date.today(),
        moments.datetime.utcnow(), tuple(time.localtime()), time.strftime("%Y-%m-%d %H:%M:%S"),
        time.ctime(), time.gmtime().tm_year,
    ]
    first = await services.tool.echo(drawn() + clock())
    second = await services.tool.echo(drawn() + clock())
    assert clock()[1:5] == [round(x, 6) if isinstance(x, float) else x for x in clock()[1:5]]
    return [len(first), all(a != b for a, b in zip(first[:9], second))]
# => [25, True]
# steps
import asyncio
from sequential.task import step

def squared(x, *, plus=0):
    return x * x + plus

async def doubled(x):
    await asyncio.sleep(0)
    return x * 2

async def job(input):
    offset = 5
    values = [await step(squared, 3, plus=1), await step(doubled, 4), await step(lambda: offset)]
    return values + await gather(step(squared, 1), step(squared, 2))
# => [10, 8, 5, 1, 4]
# step-errors
from sequential.task import step

class Broken(Exception):
    def __init__(self, code, *, extra):
        super().__init__(f"code {code}")

def fails(error):
    raise error

async def job(input):
    seen = []
    missing = FileNotFoundError(2, "gone")
    for error in [ValueError("no"), KeyError("k"), Broken(7, extra=1), missing]:
        try:
            await step(fails, error)
        except Exception as caught:
            seen.append([type(caught) is type(error), str(caught)])
    return seen
# => [[True, "no"], [True, "'k'"], [True, "code 7"], [True, "[Errno 2] gone"]]
# errors
async def job(input):
    try:
        await services.tool.fail()
    except OSError as error:
        try:
            await call_host_tool("tool", "unknown", {})
        except RuntimeError as other:
            return [str(error), "unknown" in str(other)]
# => ["no such luck", True]
# settle
async def job(input):
    return await settle(services.tool.echo(1), services.tool.fail())
# => [{"ok": True, "value": 1}, {"ok": False, "error": "OSError", "message": "no such luck"}]
# generator-task
def job(input):
    found = yield {"__tool": ["tool", "echo", {"x": input["x"]}]}
    yield {"__save": True}
    failed = yield {"__tool": ["tool", "fail", {}]}
    again = yield {"__tool": ["tool", "echo", [found]]}
    return [again, failed]
# => [21, {"__error": "no such luck"}]
"""


GIVEN = {"x": 21}


def native_programs() -> dict[str, tuple[str, object]]:
    """Name -> the source of a task `job`, and what it returns for `GIVEN`."""
    found = re.findall(r"^# ([\w-]+)\n(.*?)^# => ([^\n]*)$", _SOURCES, re.DOTALL | re.MULTILINE)
    return {name: (source, ast.literal_eval(value)) for name, source, value in found}

"""The sandbox runtime: turns, snapshots, places, and what depends on the run alone."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from sequential.core import values
from sequential.core.model import Call, Failure, Finished, Outcome, Raised, Turn, Waiting
from sequential.errors import InvalidTaskError, RuntimeDiedError
from sequential.runtimes.base import SnapshotRefusedError
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime, State
from support.sandbox_driving import NOW, echo, program, result, run_all, to_end, values_of


async def started(pool: SandboxPool, body: str, input: Any = None) -> tuple[SandboxRuntime, Turn]:
    runtime = SandboxRuntime(pool)
    return runtime, await runtime.start(program(body), input or {}, NOW)


# --- turns ---------------------------------------------------------------------------------------


async def test_a_program_is_started_resumed_and_closed(pool: SandboxPool) -> None:
    runtime, turn = await started(
        pool,
        "  print('a')\n  x = await services.tool.echo(input)\n  print('b', x)\n  return x",
        [1],
    )
    assert turn.state == Waiting((0,))
    assert turn.log == "a\n"
    assert [(c.sequence, c.operation, c.arguments) for c in turn.calls] == [
        (0, "tool.echo", {"$call": [[[1]], {}]})
    ]
    turn = await runtime.resume([(0, Outcome(value=5))], NOW)
    assert turn == Turn(Finished(5), (), "b 5\n")
    await runtime.close()
    await runtime.close()


async def test_a_runtime_can_start_again(pool: SandboxPool) -> None:
    runtime, _ = await started(pool, "  await services.tool.echo(1)")
    turn = await runtime.start(program("  await services.tool.echo(2)"), {}, NOW)
    assert [call.sequence for call in turn.calls] == [0]
    assert (await to_end(runtime, turn))[-1].state == Finished(None)


@pytest.mark.parametrize("body", ["  return 1", "  raise ValueError('x')", "  return {"])
async def test_a_program_that_is_over_holds_no_process(pool: SandboxPool, body: str) -> None:
    for _ in range(5):  # more than there are processes
        _, turn = await started(pool, body)
        assert isinstance(turn.state, Finished | Raised)


async def test_outcomes_may_come_one_by_one_in_any_order(pool: SandboxPool) -> None:
    body = """\
  seen = []
  async def one(n):
    seen.append(await services.tool.echo(n))
    print(seen[-1])
  await gather(one(0), one(1), one(2))
  return seen"""
    runtime, turn = await started(pool, body)
    assert turn.state == Waiting((0, 1, 2))
    turn = await runtime.resume([(2, Outcome(value="c"))], NOW)
    assert (turn.state, turn.log) == (Waiting((0, 1)), "c\n")
    turn = await runtime.resume([(1, Outcome(value="b")), (0, Outcome(value="a"))], NOW)
    assert (turn.state, turn.log) == (Finished(["c", "b", "a"]), "b\na\n")


async def test_time_sleep_stops_every_branch(pool: SandboxPool) -> None:
    body = """\
  import time
  async def sleeper():
    time.sleep(60)
    return "slept"
  async def caller(): return await services.tool.echo(1)
  return await gather(caller(), sleeper(), caller())"""
    runtime, turn = await started(pool, body)
    assert [(c.operation, c.arguments) for c in turn.calls] == [
        ("tool.echo", {"$call": [[1], {}]}),
        ("clock.sleep", {"seconds": 60}),
    ]
    assert turn.state == Waiting((1,))
    snapshot = await runtime.snapshot()
    assert snapshot
    await runtime.restore(program(body), snapshot)
    turn = await runtime.resume([(1, Outcome())], NOW)
    assert turn.state == Waiting((0, 2))
    turn = await runtime.resume([(0, Outcome(value="a")), (2, Outcome(value="b"))], NOW)
    assert turn.state == Finished(["a", "slept", "b"])


async def test_five_hundred_calls_at_once(pool: SandboxPool) -> None:
    body = "  return sum(await gather(*[services.tool.echo(n) for n in range(500)]))"
    first, *_ = turns = await run_all(pool, body)
    assert [call.sequence for call in first.calls] == list(range(500))
    assert turns[-1].state == Finished(sum(range(500)))


async def test_an_error_is_raised_where_the_call_is_awaited(pool: SandboxPool) -> None:
    body = """\
  try:
    await services.tool.echo(1)
  except PermissionError as error:
    return str(error)"""
    refuse = Outcome(error=Failure("PermissionError", "no: \udcff"))
    assert await result(pool, body, lambda call: refuse) == "no: ?"


async def test_an_error_unknown_to_the_sandbox_is_a_runtime_error(pool: SandboxPool) -> None:
    failure = await result(
        pool, "  await services.tool.echo(1)", lambda call: Outcome(error=Failure("Own", "why"))
    )
    assert (failure.type, failure.message) == ("RuntimeError", "Own: why")


async def test_a_stored_value_that_is_damaged_is_an_error_of_the_task(pool: SandboxPool) -> None:
    body = "  try:\n    await services.tool.echo(1)\n  except TypeError as e:\n    return str(e)"
    damaged = Outcome(value={"a": [{"$set": [[1]]}]})
    assert "$set value is damaged" in await result(pool, body, lambda call: damaged)


# --- the input and the border --------------------------------------------------------------------

TREES = [
    {"$datetime": "2026-01-01T00:00:00.000001+05:30"},
    {"$datetime": "0001-01-01T00:00:00"},
    {"$datetime": "2026-01-01T00:00:00+00:00:01"},
    {"$date": "9999-12-31"},
    {"$time": "23:59:59.999999+02:00"},
    {"$timedelta": [-999999999, 0, 0]},
    {"$decimal": "NaN"},
    {"$decimal": "-1.10E+99"},
    {"$float": "nan"},
    {"$tuple": [{"$tuple": []}]},
    {"$set": [{"$tuple": [1]}]},
    {"$frozenset": [{"$frozenset": []}]},
    {"$dict": [[{"$tuple": [1]}, 1], [None, 2], [1.5, 3]]},
    {"$dict": [["$bytes", "no"]]},
    {"": {"a" * 1000: ""}},
    "\x00\u2028\U0001f40d",
    10**4000,
    -0.0,
    [[[[[[[[[[]]]]]]]]]],
]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: str(tree)[:30])
async def test_whatever_can_be_stored_can_be_sent(pool: SandboxPool, tree: Any) -> None:
    body = "  return [input['x'], await services.tool.echo(1)]"
    answer = Outcome(value=tree)
    found = await result(pool, body, lambda call: answer, {"x": tree})
    if isinstance(found, Failure):  # refused by name, in the task
        assert found.type in ("TypeError", "ValueError", "OverflowError")
    else:
        assert str(found) == str([tree, tree])


@pytest.mark.parametrize("levels", [100, values.DEEPEST - 3])
async def test_values_nested_deeply(pool: SandboxPool, levels: int) -> None:
    tree: Any = []
    for _ in range(levels):
        tree = [tree]
    assert await result(pool, "  return input['x']", input={"x": tree}) == tree


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("10 ** 5000", "more than 4300 digits"),
        ("job", None),
        ("Point()", "an instance of the task's own class"),
        ("[Point()]", "the result[0] is an instance"),
        ("{Point(): 1}", ""),
        ("3 + 4j", "complex"),
    ],
)
async def test_results_that_cannot_be_stored(
    pool: SandboxPool, expression: str, says: str | None
) -> None:
    source = f"class Point:\n  pass\nasync def job(input):\n  return {expression}\n"
    found = await result(pool, source)
    if says is None:  # the machine gives their text
        assert not isinstance(found, Failure) or found.type == "NameError"
    else:
        assert (found.type, says in found.message) == ("TypeError", True), found


@pytest.mark.parametrize(
    "expression", ["10 ** 5000", "Point()", "[{'a': Point()}]", "3 + 4j", "{Point(): 1}"]
)
async def test_arguments_that_cannot_be_stored(pool: SandboxPool, expression: str) -> None:
    source = f"""
class Point: pass
async def job(input):
  try:
    await services.tool.echo({expression})
  except TypeError as error:
    return "refused"
"""
    assert await result(pool, source) == "refused"


# --- snapshots -----------------------------------------------------------------------------------

WAITS = """
import random
async def job(input):
    first = await services.tool.echo(1)
    print("first", first)
    second, third = await gather(services.tool.echo(2), call_host_tool("tool", "echo", [3]))
    return [first, second, third, random.random()]
"""


async def test_a_snapshot_goes_on_with_the_same_numbers(pool: SandboxPool) -> None:
    runtime = SandboxRuntime(pool)
    undisturbed = (await to_end(runtime, await runtime.start(program(WAITS), {}, NOW)))[-1].state
    turn = await runtime.start(program(WAITS), {}, NOW)
    for answers in values_of(1), [(1, Outcome(value=2))], [(2, Outcome(value=3))]:
        snapshot = await runtime.snapshot()
        await runtime.close()
        assert snapshot
        runtime = SandboxRuntime(pool)
        assert await runtime.restore(program(WAITS), snapshot) == turn.state
        turn = await runtime.resume(answers, NOW)
        assert [call.sequence for call in turn.calls] in ([], [1, 2])
    assert turn.state == undisturbed


async def test_a_restored_program_knows_its_lines(pool: SandboxPool) -> None:
    runtime, _ = await started(pool, WAITS)
    snapshot = await runtime.snapshot()
    assert snapshot
    await runtime.restore(program(WAITS), snapshot)
    turn = await runtime.resume(values_of(1), NOW)
    assert [call.where and call.where.line for call in turn.calls] == [6, 6]
    await runtime.close()


def mutated(state: bytes, chance: random.Random) -> bytes:
    """A state with a flipped bit, cut off, or with bytes that were moved or made up."""
    at = chance.randrange(len(state))
    match chance.randrange(5):
        case 0:
            return state[:at]
        case 1:
            return state[:at] + chance.randbytes(3) + state[at:]
        case 2:
            return state[:at] + state[at + chance.randrange(1, 50) :]
        case 3:
            return chance.randbytes(at)
        case _:
            return state[:at] + bytes([state[at] ^ 1 << chance.randrange(8)]) + state[at + 1 :]


@pytest.mark.parametrize("seed", range(3))
async def test_a_damaged_snapshot_is_refused_or_ends_a_process(
    pool: SandboxPool, seed: int
) -> None:
    """Whatever happens, it is one of two errors, or a program that can be given its outcomes."""
    chance = random.Random(seed)
    source = WAITS if seed else "import time\n" + WAITS.replace("print", "time.sleep(5); print")
    runtime, turn = await started(pool, source)
    if not seed:
        await runtime.resume(values_of(1), NOW)  # sleeps
    state = await runtime.snapshot()
    assert state
    refused = 0
    for _ in range(120):
        bad = mutated(state, chance)
        try:
            waiting = await runtime.restore(program(source), bad)
            assert waiting.calls
            await runtime.resume([(waiting.calls[0], Outcome(value=1))], NOW)
        except (SnapshotRefusedError, RuntimeDiedError):
            refused += 1
    assert refused > 60
    await runtime.close()
    assert await result(pool, "  return 1") == 1
    assert turn.state == Waiting((0,))


@pytest.mark.parametrize(
    "change",
    [
        {"pending": {}},
        {"pending": {7: 0}},
        {"pending": {-1: 0}},
        {"blocking": 0},
        {"blocking": 5},
        {"next_sequence": 0},
        {"dump": b""},
    ],
    ids=str,
)
async def test_a_snapshot_must_fit_what_the_machine_waits_for(
    pool: SandboxPool, change: dict[str, Any]
) -> None:
    runtime, _ = await started(pool, WAITS)
    state = msgspec.msgpack.decode(await runtime.snapshot() or b"", type=State)
    bad = msgspec.msgpack.encode(msgspec.structs.replace(state, **change))
    with pytest.raises(SnapshotRefusedError):
        await runtime.restore(program(WAITS), bad)
    await runtime.close()


# --- places --------------------------------------------------------------------------------------


async def test_a_traceback_leads_through_helpers_and_gather(pool: SandboxPool) -> None:
    source = """
async def fetch_one(n):
    answer = await services.tool.echo(n)
    return check(answer)

def check(n):
    if n == 2:
        raise ValueError(f"bad {n}")
    return n

async def job(input):
    return await gather(*[fetch_one(n) for n in (1, 2)])
"""
    failure = await result(pool, source)
    assert (failure.type, failure.message) == ("ValueError", "bad 2")
    frames = [(f.file, f.line, f.function, f.source) for f in failure.traceback]
    assert frames[-2:] == [
        ("code.py", 4, "fetch_one", "return check(answer)"),
        ("code.py", 8, "check", 'raise ValueError(f"bad {n}")'),
    ]
    assert all(frame.column for frame in failure.traceback)


async def test_long_tracebacks_messages_and_lines_are_cut(pool: SandboxPool) -> None:
    deep = await result(pool, "def f(n):\n  return f(n + 1)\ndef job(): f(0)\n")
    assert len(deep.traceback) == 50
    assert deep.traceback[0].function == "job"
    long = await result(pool, f"  raise ValueError('x' * 100_000){' ' * 5}# {'y' * 5000}")
    assert len(long.message) < 17_000
    assert long.message.endswith("... (100000 characters in all)")
    assert len(long.traceback[0].source) == 500


PLACES = """
import asyncio, time
from sequential.task import fetch as get, sleep as rest
other = fetch
send = services.tool.mail.send
async def job(input):
    await fetch("u")
    await get("u")
    await gather(*[
        fetch(u) for u in "a"])
    await other("u")
    await services.tool.echo(1)
    await services.tool.mail.send(
        to="me")
    await send()
    await call_host_tool("tool", "echo")
    await __callHostTool__("tool", "echo", {"x": 1})
    await asyncio.sleep(1)
    await rest(1)
    time.sleep(1)
    await helper(
        lambda: get("u"))
async def helper(f):
    await f()
"""


async def test_every_call_has_its_place(pool: SandboxPool) -> None:
    page = {"status": 200, "headers": [], "url": "u", "text": ""}
    turns = await run_all(pool, PLACES, lambda call: Outcome(value=page))
    assert isinstance(turns[-1].state, Finished), turns[-1]
    calls = [call for turn in turns for call in turn.calls]
    lines = PLACES.split("\n")
    assert [c.where and (c.where.line, c.where.source) for c in calls] == [
        (line, lines[line - 1].strip())
        for line in (7, 8, 10, 4, 12, 13, 15, 16, 17, 18, 19, 20, 22)
    ]


# --- what depends on the run alone ---------------------------------------------------------------


async def test_the_clock_stands_still_within_a_turn(pool: SandboxPool) -> None:
    body = """\
  import time, datetime as d
  def look(): return [time.time(), time.monotonic(), d.datetime.now(d.timezone.utc), d.date.today()]
  seen = [look(), look()]
  await services.tool.echo(1)
  return seen + [look(), d.datetime.now()]"""
    runtime, _ = await started(pool, body)
    later = NOW + timedelta(days=40)
    turn = await runtime.resume(values_of(1), later)
    assert isinstance(turn.state, Finished)
    one, two, three, local = values.from_json(turn.state.value)
    assert one == two == [NOW.timestamp(), NOW.timestamp(), NOW, NOW.date()]
    assert three == [later.timestamp(), later.timestamp(), later, later.date()]
    assert local == later.replace(tzinfo=None)


RANDOM = """
import random, os
async def job(input):
    first = [random.random(), random.randint(0, 10**9)]
    own = random.Random()
    await services.tool.echo(1)
    return [*first, random.random(), own.random(), random.Random(5).random()]
"""


async def test_random_numbers_depend_on_the_run_and_the_draw(pool: SandboxPool) -> None:
    one, again, other = [await result(pool, program(RANDOM, run=run)) for run in ("a", "a", "b")]
    assert one == again
    assert len(set(one)) == 5
    assert not set(one[:4]) & set(other[:4])
    assert one[4] == other[4]  # seeded by the task itself


async def test_the_log_holds_each_turn_in_order(pool: SandboxPool) -> None:
    body = """\
  import sys
  print("a", end="")
  print("b", 1, sep="-", file=sys.stderr)
  for n in range(2):
    await services.tool.echo(n)
    print("turn", n, "\u00fc\ud83d\udc0d")"""
    turns = await run_all(pool, body.encode("utf-16", "surrogatepass").decode("utf-16"))
    assert [turn.log for turn in turns] == ["ab-1\n", "turn 0 ü🐍\n", "turn 1 ü🐍\n"]


# --- cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 0.001, 0.05])
async def test_a_cancelled_turn_leaves_no_process_behind(delay: float) -> None:
    pool = SandboxPool(1)
    busy = "  for i in range(15_000_000): pass\n  await services.tool.echo(1)"
    for _ in range(3):
        runtime = SandboxRuntime(pool)
        starting = asyncio.create_task(runtime.start(program(busy), {}, NOW))
        await asyncio.sleep(delay)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await runtime.close()
    async with asyncio.timeout(5):
        assert await result(pool, "  return await services.tool.echo(3)", echo) == 3
    await pool.close()


def unused(call: Call) -> Outcome:
    raise AssertionError(call)


async def test_a_source_without_an_entry_takes_no_process(pool: SandboxPool) -> None:
    for _ in range(5):
        with pytest.raises(InvalidTaskError):
            await run_all(pool, "x = 1\n", unused)
    assert await result(pool, "  return 1") == 1

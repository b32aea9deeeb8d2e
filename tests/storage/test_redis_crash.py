"""Processes that are killed, at either end of the connection."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sequential.core.model import Commit, Snapshot, TaskRun, evolve
from sequential.storage.redis import RedisAdapter, create
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run
from support.valkey_server import ValkeyServer, valkey

SUPPORT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SUPPORT)}

WRITE = """
import asyncio, sys
from sequential.core.model import Commit, Snapshot, evolve
from sequential.storage.redis import create
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run

async def main(location):
    adapter = create(location)
    await adapter.init()
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    print(run.id, flush=True)
    call = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (call,)))
    for turn in range(1, 1_000_000):
        run = evolve(run, turn=turn)
        done, call = delivered(call, turn), new_call(run, turn, input={"text": "x" * 2000})
        snapshot = Snapshot(run.id, turn, b"s" * 20_000) if turn % 10 == 0 else None
        await adapter.commit(Commit(run, "token", (call,), (done,), f"{turn} ", snapshot))
        print(turn, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def location(server: ValkeyServer) -> str:
    return server.url.partition(":")[2]


def writer(server: ValkeyServer) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, location(server)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def opened(server: ValkeyServer) -> RedisAdapter:
    adapter = create(location(server))
    await adapter.init()
    return adapter


async def check(adapter: RedisAdapter, run_id: str, least: int) -> int:
    """Every turn up to that of the run is there in full, and nothing else; returns its number."""
    run = await adapter.get_task_run(run_id)
    assert run
    calls = await adapter.query_stack_runs(task_run_id=run_id)
    assert [call.sequence for call in calls] in ([], [*range(run.turn + 1)])
    assert [call.delivered_turn for call in calls[:-1]] == [*range(1, run.turn + 1)]
    assert [call.sequence for call in await adapter.load_calls(run_id, run.turn)] in (
        [],
        [run.turn],
    )
    log = "".join(line.text for line in await adapter.get_log(run_id))
    assert log.split() == [str(turn) for turn in range(1, run.turn + 1)]
    snapshot = await adapter.get_snapshot(run_id)
    assert (snapshot.turn if snapshot else 0) == run.turn // 10 * 10
    assert run.turn >= least
    return run.turn


async def test_a_worker_killed_at_any_moment_leaves_whole_steps() -> None:
    dice = random.Random(5)
    with valkey() as server:
        adapter = await opened(server)
        for _ in range(4):
            process = writer(server)
            assert process.stdout
            run_id = process.stdout.readline().strip()
            time.sleep(dice.uniform(0.01, 0.1))
            process.send_signal(signal.SIGKILL)
            acknowledged = process.communicate()[0].split()
            await asyncio.sleep(0.02)  # the server performs what it has received in full
            await check(adapter, run_id, int((acknowledged or ["0"])[-1]))
            assert (await adapter.claim(run_id, "next", LATER, "2027")).lease_token == "next"
        await adapter.close()


async def test_a_frozen_worker_cannot_write_when_it_thaws() -> None:
    with valkey(appendonly="no") as server:
        process = writer(server)
        assert process.stdout
        run_id = process.stdout.readline().strip()
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # it takes a moment
        adapter = await opened(server)
        taken = await adapter.claim(run_id, "next", LATER, "2027")
        calls = await adapter.query_stack_runs(task_run_id=run_id)
        process.send_signal(signal.SIGCONT)
        _, complaint = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "LeaseLostError" in complaint
        assert await adapter.get_task_run(run_id) == taken
        assert await adapter.query_stack_runs(task_run_id=run_id) == calls
        await adapter.close()


async def drive(adapter: RedisAdapter, number: int, ended: asyncio.Event) -> tuple[str, int]:
    """Steps until told to stop; returns the run and the last acknowledged turn."""
    made = await adapter.create_task_run(new_run(number))
    run: TaskRun = await adapter.claim(made.id, f"t{number}", NOW, LATER)
    call, turn = new_call(run, 0), 0
    await adapter.commit(Commit(run, f"t{number}", (call,)))
    while not ended.is_set():
        run = evolve(run, turn=turn + 1)
        done, call = delivered(call, turn + 1), new_call(run, turn + 1)
        snapshot = Snapshot(run.id, turn + 1, b"s") if (turn + 1) % 10 == 0 else None
        await adapter.commit(Commit(run, f"t{number}", (call,), (done,), f"{turn + 1} ", snapshot))
        turn += 1
    return run.id, turn


async def test_a_server_killed_under_load_keeps_what_it_acknowledged_and_work_goes_on() -> None:
    with valkey() as server:
        adapter, ended = await opened(server), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(drive(adapter, i, ended)) for i in range(8)]
            for _ in range(3):
                await asyncio.sleep(0.15)
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(0.05)
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.15)
            ended.set()
        turns = [await check(adapter, *task.result()) for task in tasks]
        assert turns == [task.result()[1] for task in tasks]  # nothing was written twice, either
        assert min(turns) > 3
        await adapter.close()


async def test_what_was_acknowledged_before_a_power_cut_is_there_after_it() -> None:
    with valkey() as server:
        adapter = create(location(server), patience=0)
        await adapter.init()
        runs = [await adapter.create_task_run(new_run(i)) for i in range(4)]
        acknowledged: dict[str, int] = {}

        async def step(made: TaskRun) -> None:
            run = await adapter.claim(made.id, "token", NOW, LATER)
            call = new_call(run, 0)
            await adapter.commit(Commit(run, "token", (call,)))
            for turn in range(1, 100_000):
                run = evolve(run, turn=turn)
                done, call = delivered(call, turn), new_call(run, turn)
                snapshot = Snapshot(run.id, turn, b"s") if turn % 10 == 0 else None
                await adapter.commit(Commit(run, "token", (call,), (done,), f"{turn} ", snapshot))
                acknowledged[run.id] = turn

        steps = [asyncio.ensure_future(step(run)) for run in runs]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.kill)
        results = await asyncio.gather(*steps, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        await adapter.close()
        server.start()
        adapter = await opened(server)
        for run in runs:
            found = await check(adapter, run.id, acknowledged[run.id])
            assert found in (acknowledged[run.id], acknowledged[run.id] + 1)
        await adapter.close()

"""Flows that go from process to process: killed at every step of their storage, raced for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.flow_servers import flow_firestore, flow_postgres, place_of
from support.valkey_server import shared_valkey

__all__ = ["flow_firestore", "flow_postgres", "place_of", "shared_valkey"]

ACTOR = Path(__file__).parents[1] / "support" / "flow_actor.py"
SHARED = [
    *("redis", "sqlite", "postgres", "query", "firestore"),
    *("adapter sqlite", "adapter postgres", "adapter redis", "adapter folder"),
]
KILLED_IN = ["redis", "query", "firestore", "adapter sqlite", "adapter postgres", "adapter folder"]
CODE = """
import asyncio
a = (await fetch("one")).json()
try:
    await services.crm.find()
except RuntimeError:
    await asyncio.sleep(0)
b, c = await asyncio.gather(fetch("two"), fetch("three"))
print("nearly")
result = [a, b.json(), c.json()]
"""
ANSWERS = {"one": 0, "two": None, "three": [3]}
RESULT = [0, None, [3]]
LATER = 31  # seconds: a lease of the dead is over by then
KILLED = "killed"


class Actor:
    """A process that takes steps of flows."""

    def __init__(self, place: str, kill: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ACTOR), place, str(kill)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ACTOR.parents[1])},
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, **wish: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What came of it; KILLED if that was the end of the process."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else KILLED

    def do(self, **wish: Any) -> Any:
        self.ask(**wish)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def actors() -> Iterator[Any]:
    started: list[Actor] = []

    def start(place: str, kill: int = 0) -> Actor:
        started.append(Actor(place, kill))
        return started[-1]

    yield start
    for actor in started:
        actor.end()


def resumed(actor: Actor, task: Any, later: float = 0) -> Any:
    request = task["fetch_request"]
    if request is None:  # it was killed between two turns of one step
        return actor.do(go_on=task["id"], later=later)
    return actor.do(
        resume=task["id"],
        response=ANSWERS[request["url"]],
        request_id=request["id"],
        later=later,
    )


@pytest.mark.parametrize("kind", SHARED)
def test_a_flow_goes_from_process_to_process(kind: str, place_of: Any, actors: Any) -> None:
    place = place_of(kind)
    task = actors(place).do(execute={"id": "f", "code": CODE})
    while task["status"] == "paused":
        task = resumed(actors(place), task)
    assert (task["status"], task["result"]) == ("completed", RESULT)


@pytest.mark.parametrize("kind", SHARED)
def test_of_two_processes_one_resumes(kind: str, place_of: Any, actors: Any) -> None:
    place = place_of(kind)
    one, two = actors(place), actors(place)
    for number in range(6):
        code = "r = await fetch('u')\nawait fetch('v')\nr.json()"
        task = one.do(execute={"id": f"f{number}", "code": code})
        request = task["fetch_request"]["id"]
        for name, actor in (("one", one), ("two", two)):
            actor.ask(resume=task["id"], response=name, request_id=request)
        answers = {"one": one.answer(), "two": two.answer()}
        (winner,) = [name for name, answer in answers.items() if "refused" not in answer]
        (loser,) = [answer for answer in answers.values() if "refused" in answer]
        assert loser["refused"] in ("RunBusyError", "InvalidTransitionError"), loser
        last = answers[winner]["fetch_request"]["id"]
        done = two.do(resume=task["id"], response=0, request_id=last)
        assert done["result"] == winner


@pytest.mark.parametrize("kind", KILLED_IN)
def test_a_crash_at_any_step_of_the_storage_loses_nothing(
    kind: str, place_of: Any, actors: Any
) -> None:
    """One process takes a flow as far as it comes; it is killed after its n-th call of the storage.

    Another one goes on as a client does that got no answer: it asks again, and looks at the task
    where that is refused. Each request keeps its id, and there is the one result.
    """
    place = place_of(kind)
    survivor = actors(place)
    for number in range(1, 60):
        dying = actors(place, number)
        last = task = dying.do(execute={"id": f"f{number}", "code": CODE})
        while task is not KILLED and task["status"] == "paused":
            last, task = task, resumed(dying, task)
        if task is not KILLED:
            break  # it came to the end
        if last is KILLED:
            last = survivor.do(execute={"id": f"f{number}", "code": CODE}, later=LATER)
            if "refused" in last:
                assert last["refused"] == "RunExistsError", last
                last = survivor.do(get=f"f{number}", later=LATER)
        finish(survivor, last)
    assert number > 5
    assert task["result"] == RESULT


def finish(survivor: Actor, task: Any) -> None:
    """Take a task to its end, whose last answer may have counted or not."""
    after = resumed(survivor, task, LATER)
    if "refused" in after:
        assert after["refused"] in ("InvalidTransitionError", "RunNotFoundError"), after
        after = survivor.do(get=task["id"], later=LATER)
        if after is None:  # it was over: what it ended with went with the process
            assert [one["url"] for one in task["fetch_requests"]] == ["three"]
            return
    while after["status"] == "paused":
        assert after["fetch_request"] != task["fetch_request"]
        after = resumed(survivor, after, LATER)
    assert (after["status"], after["result"]) == ("completed", RESULT)

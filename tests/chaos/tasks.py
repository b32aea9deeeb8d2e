"""The mixed tasks of the chaos test: each returns what can be checked against the API's notes.

The API counts the requests that came with each idempotency key and answers `{"key": ..., "n":
<which request with this key it was>}`; a task returns what it was answered.
"""

from typing import Any

STEPS = """
async def steps(url, count):
    found = []
    for number in range(count):
        response = await fetch(f"{url}/count/{number}", method="POST", json={"number": number})
        found.append(response.json())
    return found
"""

PARALLEL = """
async def parallel(url, count):
    asked = [fetch(f"{url}/count/{number}", method="POST") for number in range(count)]
    first = [response.json() for response in await gather(*asked)]
    last = await fetch(f"{url}/count/last", method="POST")
    return first + [last.json()]
"""

SLEEPER = """
async def sleeper(url, count):
    found = []
    for number in range(count):
        await sleep(0.2)
        found.append((await fetch(f"{url}/count/{number}", method="POST")).json())
    return found
"""

FLAKY = """
async def flaky(url, count):
    found = []
    for number in range(count):
        response = await fetch(f"{url}/unsteady/{number}", method="POST", retries=8)
        found.append(response.json())
    return found
"""

PARENT = """
async def parent(url, count):
    children = [run_task("steps", {"url": url, "count": 2}) for _ in range(count)]
    return sum(await gather(*children), [])
"""

APPROVAL = """
async def approval(url, count):
    before = await fetch(f"{url}/count/before", method="POST")
    answer = await wait_for_event("go")
    after = await fetch(f"{url}/count/{answer}", method="POST")
    return [before.json(), after.json()]
"""

TASKS = {
    "steps": (STEPS, 5),
    "parallel": (PARALLEL, 4),
    "sleeper": (SLEEPER, 3),
    "flaky": (FLAKY, 3),
    "parent": (PARENT, 2),
    "approval": (APPROVAL, 1),
}

CONFIG: dict[str, Any] = {
    "inputs": [{"name": "url"}, {"name": "count", "type": "number"}],
    "retry": {"retries": 8, "delay": 0.05, "factor": 1.5, "max_delay": 0.5},
}


def answers(task: str, count: int) -> int:
    """How many answers a task returns."""
    return {"parallel": count + 1, "parent": 2 * count, "approval": 2}.get(task, count)

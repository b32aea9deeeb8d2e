"""The tasks in the documents of the original, in Python spelling, in both runtimes.

Each calls a real server on this machine. Graphs and library entrances have tests of their own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core.model import RetryPolicy, Status, TaskConfig, TaskRun
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from support.http_api import HttpApi, serve

RUNTIMES = ["sandbox", "native"]

TASKS = {
    # "Implicit xstate in action"
    "gmail-search": """
async def gmail_search(userId, api, token):
    print("Fetching emails...")
    response = await fetch(
        f"{api}/echo?users={userId}/messages",
        headers={"Authorization": f"Bearer {token}"},
    )
    emails = response.json()
    threads = (await fetch(f"{api}/json/7")).json()
    return {"success": True, "asked": emails["query"], "threads": threads["n"]}
""",
    # "Detailed Flow"
    "search-emails": """
async def search_emails(userId, api):
    emails = (await fetch(f"{api}/json/1")).json()
    threads = (await fetch(f"{api}/json/2")).json()
    return [emails, threads, userId]
""",
    # the template of `create-task`
    "my-emails": """
async def my_emails(input):
    userId = input["userId"]
    response = await fetch(f"{input['api']}/echo?user={userId}")
    data = response.json()
    return {"success": True, "emailCount": len(data["query"])}
""",
    # "Retry Logic with Implicit xstate"
    "retryable-task": """
import asyncio

async def retryable_task(input):
    retries = 0
    while retries < 3:
        try:
            response = await fetch(f"{input['api']}/{input['path']}", retries=0)
            return response.raise_for_status().json()
        except OSError:
            retries += 1
            if retries >= 3:
                raise
            await asyncio.sleep(0.01 * retries)
""",
    # the example of the task executor
    "my-task": """
async def my_task(input):
    emails = await __callHostTool__("gmail", "users.messages.list", {"userId": input["userId"]})
    results = []
    for email in emails:
        results.append({**email})
    return {"success": True, "messages": results}
""",
    # "Explicit xstate", one function that switches on a state
    "complex-workflow": """
async def complex_workflow(input):
    state, data = "fetchUsers", None
    while state != "done":
        if state == "fetchUsers":
            data = await __callHostTool__("database", "getUsers", {})
            state = "processEmails"
        elif state == "processEmails":
            data = [data, await __callHostTool__("email", "list", {})]
            state = "generateReport"
        else:
            report = await __callHostTool__("reporting", "generate", {"data": data})
            return {"status": "success", "data": report}
    return {"status": "error"}
""",
    # "Batch Processing" and "Conditional Branching", without a graph
    "batches": """
async def batches(api):
    counted = 0
    for batch in (1, 2):
        users = await __callHostTool__("database", "getUsers", {"limit": 100})
        status = await __callHostTool__("api", "status", {})
        counted += len(users) if status["type"] == "a" else -1
    return counted
""",
    # what sequential-flow's own interpreter could do
    "expressions": """
async def expressions(input):
    x = 5
    name = "Ada"
    obj = {"prop": {"nested": [1, 2, 3]}}
    first = await fetch(f"{input['api']}/json/{x + 10}")
    second = await fetch(f"{input['api']}/json/{obj['prop']['nested'][2] * 2 % 4}")
    if not second.ok:
        raise RuntimeError("refused")
    return ["hello " + name, first.json()["n"] - x / 2, second.json()]
""",
}
WORKFLOW = """
def workflow(input):
    user = yield {"__tool": ["api", "user", {"id": input["userId"]}]}
    yield {"__save": True}
    posts = yield {"__tool": ["api", "posts", {"uid": user["id"]}]}
    comments = yield {"__tool": ["api", "comments", {"postIds": [p["id"] for p in posts]}]}
    return {"user": user, "posts": posts, "comments": comments}
"""
CHECKED = """
def workflow(input):
    result = yield {"__tool": ["api", "flaky", {}]}
    if "__error" in result:
        return {"failed": True, "reason": result["__error"]}
    return result
"""


@pytest.fixture(scope="module")
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


def services() -> list[FakeService]:
    def flaky() -> None:
        raise OSError("no answer")

    return [
        FakeService("gmail", {"users.messages.list": lambda userId: [{"id": 1, "to": userId}]}),
        FakeService("database", {"getUsers": lambda limit=2: [{"id": n} for n in range(limit)]}),
        FakeService("email", {"list": lambda: ["mail"]}),
        FakeService("reporting", {"generate": lambda data: f"report of {json.dumps(data)}"}),
        FakeService(
            "api",
            {
                "status": lambda: {"type": "a"},
                "user": lambda **user: {**user, "name": "Ada"},
                "posts": lambda uid: [{"id": uid + 1}, {"id": uid + 2}],
                "comments": lambda postIds: [f"on {post}" for post in postIds],
                "flaky": flaky,
            },
        ),
    ]


async def run(folder: Path, task: str, code: str, runtime: str, given: Any) -> tuple[TaskRun, str]:
    """A run of which each turn is taken by an engine of its own, as by a function that exits."""
    config = TaskConfig(name=task, runtime=runtime, retry=RetryPolicy(delay=0.01))
    settings = load_settings(folder, environment={}, allow_loopback=True)
    async with Engine(settings=settings, services=services()) as engine:
        await engine.store_task(task, code, config)
        run_id = (await engine.create_run(task, given)).id
    for _ in range(20):
        async with Engine(settings=settings, services=services()) as engine:
            await engine.drive(run_id, budget=0)
            run = await engine.get_run(run_id)
            if run.status.is_final:
                return run, "".join(line.text for line in await engine.get_log(run_id))
    pytest.fail(f"it does not end: {run}")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("task", "result"),
    [
        (
            "gmail-search",
            {"success": True, "asked": "users=me/messages", "threads": 7},
        ),
        ("search-emails", [{"n": 1}, {"n": 2}, "me"]),
        ("my-emails", {"success": True, "emailCount": len("user=me")}),
        ("my-task", {"success": True, "messages": [{"id": 1, "to": "me"}]}),
        (
            "complex-workflow",
            {"status": "success", "data": 'report of [[{"id": 0}, {"id": 1}], ["mail"]]'},
        ),
        ("batches", 200),
        ("expressions", ["hello Ada", 12.5, {"n": 2}]),
    ],
)
async def test_a_task_of_the_original(
    tmp_path: Path, api: HttpApi, task: str, runtime: str, result: Any
) -> None:
    given = {"userId": "me", "api": api.url, "token": "t0k3n"}
    ended, log = await run(tmp_path, task, TASKS[task], runtime, given)
    assert (ended.status, ended.value) == (Status.COMPLETED, result), ended.error
    assert log == ("Fetching emails...\n" if task == "gmail-search" else "")


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_task_tries_again_as_it_says(tmp_path: Path, api: HttpApi, runtime: str) -> None:
    path = f"flaky/{runtime}/2"
    given = {"api": api.url, "path": path}
    task = "retryable-task"
    ended, _ = await run(tmp_path, task, TASKS[task], runtime, given)
    assert ended.status is Status.COMPLETED, ended.error
    assert api.count(f"/{path}") == 3
    failed, _ = await run(tmp_path, task, TASKS[task], runtime, given | {"path": "status/500"})
    assert str(failed.error) == f"OSError: HTTP 500 for {api.url}/status/500"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (
            WORKFLOW,
            {
                "user": {"id": 123, "name": "Ada"},
                "posts": [{"id": 124}, {"id": 125}],
                "comments": ["on 124", "on 125"],
            },
        ),
        (CHECKED, {"failed": True, "reason": "OSError: no answer"}),
    ],
)
async def test_a_generator_of_the_original(tmp_path: Path, code: str, result: Any) -> None:
    ended, _ = await run(tmp_path, "workflow", code, "native", {"userId": 123})
    assert (ended.status, ended.value) == (Status.COMPLETED, result), ended.error

"""SequentialFlow as its callers see it: what pauses, what resumes, what is refused."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import evolve
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    InvalidTransitionError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
)
from sequential.flow import FlowTask, InMemoryStorage, SequentialFlow
from sequential.flow import flow_state as state_module
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock

TWO = """
first = await fetch("https://api.test/users/1")
user = first.json()
second = await fetch("https://api.test/posts", method="POST", json={"by": user["id"]})
result = {"user": user["name"], "posts": len(second.json())}
"""
FUNCTIONS = """
import asyncio

URL = "https://api.test/"

async def get(name):
    return (await fetch(URL + name)).json()

async def main(names):
    found = await asyncio.gather(*[get(name) for name in names])
    return dict(zip(names, found))
"""


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Time that the test moves."""
    real, SequentialFlow.clock = SequentialFlow.clock, FakeClock()
    yield SequentialFlow.clock
    SequentialFlow.clock = real


async def execute(code: str, **more: Any) -> FlowTask:
    return await SequentialFlow.execute({"code": code}, **more)


async def result_of(code: str, *responses: Any) -> Any:
    """What a program makes of these responses."""
    storage = InMemoryStorage()
    task = await execute(code, storage=storage)
    for response in responses:
        assert task.status == "paused", task
        task = await SequentialFlow.resume(task.id, response, storage=storage)
    assert task.status == "completed", task
    return task.result


# --- the original's required tests ---------------------------------------------------------------


async def test_it_pauses_at_a_fetch(storage: InMemoryStorage) -> None:
    task = await execute(TWO, storage=storage)

    assert task.status == "paused"
    assert task.fetch_request is not None
    assert task.fetch_request.id == f"{task.id}:0"
    assert task.fetch_request.url == "https://api.test/users/1"
    assert task.fetch_request.options == {"method": "GET"}
    assert task.fetch_requests == (task.fetch_request,)
    assert task.created_at <= task.updated_at < (task.expires_at or "")
    assert (task.name, task.code, task.result, task.error) == (task.id, TWO, None, None)


async def test_it_resumes_to_completion_over_several_fetches(storage: InMemoryStorage) -> None:
    task = await execute(TWO, storage=storage)
    again = await SequentialFlow.resume(task.id, {"id": 7, "name": "Ada"}, storage=storage)
    assert again.status == "paused"
    assert again.fetch_request is not None
    assert again.fetch_request.options == {"method": "POST", "json": {"by": 7}}
    assert again.created_at == task.created_at

    done = await SequentialFlow.resume(task.id, [1, 2], storage=storage)
    assert (done.status, done.result) == ("completed", {"user": "Ada", "posts": 2})
    assert (done.fetch_request, done.fetch_requests, done.expires_at) == (None, (), None)


async def test_a_program_without_fetch_completes_at_once(storage: InMemoryStorage) -> None:
    task = await SequentialFlow.execute({"id": "sum", "code": "x = 5\nx + 10"}, storage=storage)
    assert (task.status, task.result) == ("completed", 15)
    assert await SequentialFlow.get_task("sum", storage=storage) is None


async def test_id_and_name_are_kept(storage: InMemoryStorage) -> None:
    spec = {"id": "job 1/ä", "name": "The job!", "code": "await fetch('u')"}
    task = await SequentialFlow.execute(spec, storage=storage)
    assert (task.id, task.name) == ("job 1/ä", "The job!")
    assert await SequentialFlow.get_task("job 1/ä", storage=storage) == task
    done = await SequentialFlow.resume("job 1/ä", None, storage=storage)
    assert (done.id, done.name, done.status) == ("job 1/ä", "The job!", "completed")


async def test_generated_ids_are_the_originals_and_unique(storage: InMemoryStorage) -> None:
    tasks = [await execute("1", storage=storage) for _ in range(20)]
    assert len({task.id for task in tasks}) == 20
    assert all(task.id.startswith("task-") and task.id.count("-") == 2 for task in tasks)


async def test_a_task_is_deleted_when_it_is_over_or_when_asked(storage: InMemoryStorage) -> None:
    task = await execute("await fetch('u')", storage=storage)
    await SequentialFlow.resume(task.id, 1, storage=storage)
    assert await SequentialFlow.get_task(task.id, storage=storage) is None

    task = await execute("await fetch('u')\n1/0", storage=storage)
    failed = await SequentialFlow.resume(task.id, 1, storage=storage)
    assert failed.status == "error"
    assert await SequentialFlow.get_task(task.id, storage=storage) is None

    task = await execute("await fetch('u')", storage=storage)
    assert await SequentialFlow.delete_task(task.id, storage=storage) is True
    assert await SequentialFlow.delete_task(task.id, storage=storage) is False
    with pytest.raises(RunNotFoundError, match=f"no paused task {task.id}"):
        await SequentialFlow.resume(task.id, 1, storage=storage)


async def test_the_default_storage_can_be_set(storage: InMemoryStorage) -> None:
    before = SequentialFlow._default
    SequentialFlow.set_default_storage(storage)
    try:
        task = await execute("await fetch('u')")
        assert await storage.load(task.id) is not None
        assert (await SequentialFlow.resume(task.id, 1)).status == "completed"
    finally:
        SequentialFlow.set_default_storage(before)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = = 1", "SyntaxError: Expected an expression (line 1)"),
        ("a = 1\nb = a / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("raise ValueError('no')", "ValueError: no (line 1)"),
        ("import os\nos.system('ls')", "AttributeError"),
        ("open('/etc/passwd').read()", "PermissionError"),
        ("'x' * 10**12", "MemoryError"),
        ("while True: pass", "TimeoutError"),
        ("print('x' * 2_000_000)", "MemoryError"),
        ("def f(): return f()\nf()\nresult = 1", "RecursionError"),
        ("class A: pass\nresult = A()", "TypeError: the result is an instance"),
        ("{'a':" * 500, "SyntaxError"),
        ("\x00", "SyntaxError"),
        ("async def main(a, b): return a", "TypeError"),
    ],
)
async def test_what_goes_wrong_in_a_program_is_its_tasks_error(
    storage: InMemoryStorage, code: str, error: str
) -> None:
    task = await execute(code, storage=storage)
    assert task.status == "error"
    assert task.error is not None
    assert task.error.startswith(error)
    assert task.to_dict()["error"] == task.error


ORIGINALS = [
    (
        """
async def search_gmail(userId):
    print('Fetching emails...')
    response = await fetch(
        f"https://gmail.googleapis.com/gmail/v1/users/{userId}/messages",
        headers={"Authorization": "Bearer token"},
    )
    emails = response.json()
    threads = (await fetch("https://gmail.googleapis.com/threads")).json()
    return {"success": True, "count": len(emails), "threads": threads}
""",
        [[1, 2, 3], []],
        {"success": True, "count": 3, "threads": []},
    ),
    (
        """
import asyncio
async def retryable_task(userId):
    retries = 0
    while retries < 3:
        try:
            response = await fetch("https://flaky.test")
            return response.raise_for_status().json()
        except OSError:
            retries += 1
            if retries >= 3:
                raise
            await asyncio.sleep(retries)
""",
        [{"error": "down"}, {"status": 503}, {"ok": 0}],
        {"ok": 0},
    ),
    ("x = 5\nresult = x * 2 + 1 - 4 / 2 % 3", [], 9.0),
    ("obj = {'prop': {'nested': [1, {'a': 'hello '}]}}\nobj['prop']['nested'][1]['a'] + 'you'", [],
     "hello you"),
    ("response = await fetch('https://api.test')\nname = response.json()['name']\n'Hi ' + name",
     [{"name": "Ada"}], "Hi Ada"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "responses", "result"), ORIGINALS)
async def test_the_programs_of_the_original(
    storage: InMemoryStorage, clock: FakeClock, code: str, responses: list[Any], result: Any
) -> None:
    given = {"userId": "me"} if "userId" in code else {}
    task = await SequentialFlow.execute({"code": code, "input": given}, storage=storage)
    for response in responses:
        assert task.status == "paused"
        task = await SequentialFlow.resume(task.id, response, storage=storage)
    assert (task.status, task.result) == ("completed", result)


# --- programs ------------------------------------------------------------------------------------


async def test_functions_and_input(storage: InMemoryStorage) -> None:
    spec = {"code": FUNCTIONS, "input": {"names": ["a", "b"]}}
    task = await SequentialFlow.execute(spec, storage=storage)
    assert [one.url for one in task.fetch_requests] == ["https://api.test/a", "https://api.test/b"]
    for value in (None, 0):
        task = await SequentialFlow.resume(task.id, value, storage=storage)
    assert task.result == {"a": None, "b": 0}


@pytest.mark.parametrize(
    "code", ["def main(input): return input", "def main(**given): return given"]
)
async def test_fields_of_any_name_reach_the_program(storage: InMemoryStorage, code: str) -> None:
    given = {"a b": 1, "class": 2, "": 3, "ok": 4}
    task = await SequentialFlow.execute({"code": code, "input": given}, storage=storage)
    assert task.result == given


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("1 + 1", 2),
        ("result = 1\n2", 1),
        ("x = 1", None),
        ("", None),
        ("# nothing", None),
        ("if False:\n    result = 1", None),
        ("for result in range(3): pass", 2),
        ("(1,\n 2)  # two", (1, 2)),
        ("a = 'ä'; 'é' + a", "éä"),
        ("async def main(): return 1", 1),
        ("def helper(): return 2\nasync def main(): return helper()", 2),
        ("async def load(): return 3", 3),
        ("LIMIT = 4\n\nasync def load(): return LIMIT", 4),
        ("async def load(n): return n\nresult = await load(5)", 5),
        ("async def main(): return 6\nawait main()", 6),
        ("import asyncio\nasync def main(): return 7\nresult = asyncio.run(main())", 7),
        ("def a(): return 8\ndef b(): return a()\nb()", 8),
        ("async def main(): return 9\nif __name__ == '__main__':\n    result = 0", 9),
        ("x = 1\r\nresult = x + 9\r\n", 10),
        ("\ufeff11", 11),
        ('result = f"{"12"}"', "12"),  # Python 3.11 cannot read it, the sandbox can
    ],
)
async def test_the_result_of_scripts_and_functions(code: str, result: Any) -> None:
    assert await result_of(code) == result


async def test_an_answer_as_the_result_of_a_script_is_its_body() -> None:
    assert await result_of("result = await fetch('u')", {"status": 404, "json": [1]}) == [1]
    assert await result_of("await fetch('u')", {"status": 200, "text": "<p>"}) == "<p>"


async def test_lines_of_errors_are_those_of_the_code(storage: InMemoryStorage) -> None:
    task = await execute("\n\nx = await fetch('u')\n\nx.json()['no']\n", storage=storage)
    failed = await SequentialFlow.resume(task.id, {}, storage=storage)
    assert failed.error == "KeyError: no (line 5)"


async def test_what_a_program_prints_comes_with_its_task(storage: InMemoryStorage) -> None:
    task = await execute("print('a')\nawait fetch('u')\nprint('b')", storage=storage)
    assert task.log == "a\n"
    assert (await SequentialFlow.resume(task.id, 1, storage=storage)).log == "b\n"


# --- responses -----------------------------------------------------------------------------------

SHOWN = "r = await fetch('u')\nresult = [r.status, r.ok, r.text, r.headers.get('x'), r.url]"


@pytest.mark.parametrize(
    ("response", "seen"),
    [
        (None, [200, True, "null", None, "u"]),
        (0, [200, True, "0", None, "u"]),
        (False, [200, True, "false", None, "u"]),
        ("", [200, True, '""', None, "u"]),
        ([], [200, True, "[]", None, "u"]),
        ({}, [200, True, "{}", None, "u"]),
        ({"status": "active"}, [200, True, '{"status": "active"}', None, "u"]),
        ({"status": 200, "items": []}, [200, True, '{"status": 200, "items": []}', None, "u"]),
        ({"status": True}, [200, True, '{"status": true}', None, "u"]),
        ({"status": 204}, [204, True, "", None, "u"]),
        ({"status": 201, "json": None}, [201, True, "null", None, "u"]),
        ({"status": 500, "text": "é", "headers": {"X": 1}}, [500, False, "é", "1", "u"]),
        ({"status": 200, "body": b"\xc3\xa9", "url": "v"}, [200, True, "é", None, "v"]),
        ({"status": 200, "content": {"$bytes": "w6k="}}, [200, True, "é", None, "u"]),
        ({"status": 200, "body": "x", "headers": [["X", "a"], ["x", "b"]]},
         [200, True, "x", "a, b", "u"]),
    ],
)  # fmt: skip
async def test_what_a_response_is_inside(response: Any, seen: list[Any]) -> None:
    assert await result_of(SHOWN, response) == seen


async def test_bytes_stay_bytes() -> None:
    code = "r = await fetch('u')\nresult = r.bytes()"
    assert await result_of(code, {"status": 200, "content": b"\xff\x00"}) == b"\xff\x00"


async def test_a_response_of_a_client_library_is_taken_as_it_is() -> None:
    class Response:
        status_code, headers, content, url = 201, {"X": "y"}, b"made", "https://x.test/made"

    assert await result_of(SHOWN, Response()) == [201, True, "made", "y", "https://x.test/made"]


@pytest.mark.parametrize(
    ("response", "seen"),
    [
        ({"error": "no route"}, ["OSError", "no route"]),
        ({"error": "slow", "type": "TimeoutError"}, ["TimeoutError", "slow"]),
        ({"error": "gone", "type": "ConnectionError"}, ["OSError", "gone"]),
    ],
)
async def test_a_request_that_failed_is_an_exception_inside(response: Any, seen: Any) -> None:
    code = (
        "try:\n    await fetch('u')\nexcept OSError as error:\n"
        "    result = [type(error).__name__, str(error)]"
    )
    assert await result_of(code, response) == seen


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (object(), "cannot be written as JSON"),
        (float("nan"), "cannot be written as JSON"),
        ({"status": 200, "text": "a", "json": 1}, "give the body once"),
        ({"status": 200, "headers": ["x"]}, "the headers of a response are a dict"),
        ({"status": 200, "headers": {"x": None}}, "the headers of a response are a dict"),
        ({"status": 200, "headers": 3}, "the headers of a response are a dict"),
        ({"error": "x", "type": "SystemExit"}, "the type of an error is one of"),
        ({"status": 200, "text": "\ud800"}, "surrogate"),
        ("x" * (65 << 20), "a program can take 64 MiB"),
    ],
)
async def test_what_is_no_response_is_refused_and_changes_nothing(
    storage: InMemoryStorage, response: Any, message: str
) -> None:
    task = await execute(SHOWN, storage=storage)
    with pytest.raises(InvalidInputError, match=message):
        await SequentialFlow.resume(task.id, response, storage=storage)
    assert (await SequentialFlow.resume(task.id, 1, storage=storage)).status == "completed"


# --- several requests, sleeps, and what nobody performs ------------------------------------------

GATHER = """
import asyncio
a, b, c = await asyncio.gather(fetch("a"), fetch("b"), fetch("c"))
result = [a.json(), b.json(), c.json()]
"""


async def test_several_requests_are_answered_in_any_order(storage: InMemoryStorage) -> None:
    task = await execute(GATHER, storage=storage)
    ids = [one.id for one in task.fetch_requests]
    assert [one.url for one in task.fetch_requests] == ["a", "b", "c"]

    task = await SequentialFlow.resume(task.id, "c", request_id=ids[2], storage=storage)
    assert [one.id for one in task.fetch_requests] == ids[:2]
    task = await SequentialFlow.resume(task.id, "a", request_id=ids[0], storage=storage)
    task = await SequentialFlow.resume(task.id, "b", storage=storage)
    assert task.result == ["a", "b", "c"]


async def test_a_request_is_answered_once(storage: InMemoryStorage) -> None:
    task = await execute(GATHER, storage=storage)
    first = task.fetch_requests[0].id
    await SequentialFlow.resume(task.id, "a", request_id=first, storage=storage)
    with pytest.raises(InvalidTransitionError, match=f"'{first}' was answered already.*:1, .*:2"):
        await SequentialFlow.resume(task.id, "again", request_id=first, storage=storage)
    with pytest.raises(InvalidTransitionError, match="'nonsense' was answered already, or never"):
        await SequentialFlow.resume(task.id, "again", request_id="nonsense", storage=storage)


async def test_of_many_responses_at_once_one_counts(storage: InMemoryStorage) -> None:
    task = await execute("r = await fetch('u')\nawait fetch('v')\nr.json()", storage=storage)
    assert task.fetch_request is not None
    outcomes = await asyncio.gather(
        *(
            SequentialFlow.resume(
                task.id, number, request_id=task.fetch_request.id, storage=storage
            )
            for number in range(8)
        ),
        return_exceptions=True,
    )
    went_on = [one for one in outcomes if isinstance(one, FlowTask)]
    refused = [one for one in outcomes if not isinstance(one, FlowTask)]
    assert len(went_on) == 1
    assert all(isinstance(one, RunBusyError | InvalidTransitionError) for one in refused)
    done = await SequentialFlow.resume(task.id, "v", storage=storage)
    assert done.result == outcomes.index(went_on[0])


async def test_a_short_sleep_is_waited_for(storage: InMemoryStorage, clock: FakeClock) -> None:
    started = clock.now()
    task = await execute("import asyncio\nawait asyncio.sleep(3)\n'slept'", storage=storage)
    assert (task.status, task.result) == ("completed", "slept")
    assert (clock.now() - started).total_seconds() == 3


async def test_a_long_sleep_is_resumed_when_its_time_has_come(
    storage: InMemoryStorage, clock: FakeClock
) -> None:
    code = "import asyncio\nawait asyncio.sleep(86400)\nresult = (await fetch('u')).json()"
    task = await execute(code, storage=storage, ttl=60)
    assert (task.status, task.fetch_request) == ("paused", None)
    assert task.wake_at == "2026-01-02T00:00:00.000Z"
    assert task.expires_at == "2026-01-02T00:01:00.000Z"
    with pytest.raises(InvalidTransitionError, match=r"sleeps until 2026-01-02T00:00:00.000Z"):
        await SequentialFlow.resume(task.id, storage=storage)
    with pytest.raises(InvalidTransitionError, match="waits for no request"):
        await SequentialFlow.resume(task.id, 1, storage=storage)

    clock.advance(86400)
    task = await SequentialFlow.resume(task.id, storage=storage)
    assert task.fetch_request is not None
    with pytest.raises(InvalidTransitionError, match=f"waits for request {task.id}:1: give"):
        await SequentialFlow.resume(task.id, storage=storage)
    assert (await SequentialFlow.resume(task.id, 0, storage=storage)).result == 0


async def test_time_that_stops_everything_keeps_an_early_answer(
    storage: InMemoryStorage, clock: FakeClock
) -> None:
    code = """
import asyncio, time
async def nap():
    time.sleep(100)
    return "slept"
a, b = await asyncio.gather(fetch("u"), nap())
result = [a.json(), b]
"""
    task = await execute(code, storage=storage)
    assert task.fetch_request is not None
    task = await SequentialFlow.resume(
        task.id, 0, request_id=task.fetch_request.id, storage=storage
    )
    assert (task.status, task.fetch_request) == ("paused", None)
    clock.advance(100)
    assert (await SequentialFlow.resume(task.id, storage=storage)).result == [0, "slept"]


async def test_a_program_that_sleeps_for_ever_in_small_pieces_is_paused(
    storage: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequential.flow.flow_drive.PATIENCE", 0.02)
    code = "import asyncio\nfor i in range(10**9):\n    await asyncio.sleep(0)"
    task = await execute(code, storage=storage)
    assert (task.status, task.fetch_request) == ("paused", None)
    assert (await SequentialFlow.resume(task.id, storage=storage)).status == "paused"


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        ("services.crm.find(1)", "RuntimeError: SequentialFlow performs fetch and sleep, not crm."),
        ("services.a.b.c.d()", "RuntimeError: SequentialFlow performs fetch and sleep, not a.b"),
        ("call_host_tool('crm', 'find')", "RuntimeError: SequentialFlow performs fetch and sleep"),
        (
            "run_task('other', {})",
            "RuntimeError: SequentialFlow performs fetch and sleep, not task",
        ),
        ("wait_for_event('go')", "RuntimeError: SequentialFlow performs fetch and sleep, not e"),
        ("call_host_tool('clock', 'sleep', {'seconds': -1})", "ValueError: sleep() needs a number"),
        ("call_host_tool('clock', 'sleep', {'seconds': 10**400})", "ValueError: sleep() needs"),
        ("call_host_tool('http', 'fetch', ['u'])", "TypeError: url must be text, not NoneType"),
        ("fetch(5)", "TypeError: url must be text, not int"),
    ],
)
async def test_what_nobody_performs_raises_inside(call: str, seen: str) -> None:
    caught = "result = f'{type(e).__name__}: {e}'"
    code = f"try:\n    await {call}\nexcept Exception as e:\n    {caught}"
    assert (await result_of(code)).startswith(seen)


# --- time to live --------------------------------------------------------------------------------


async def test_a_task_expires_two_hours_after_its_last_pause(
    storage: InMemoryStorage, clock: FakeClock
) -> None:
    task = await execute(TWO, storage=storage)
    assert task.expires_at == "2026-01-01T02:00:00.000Z"
    clock.advance(7199)
    task = await SequentialFlow.resume(task.id, {"id": 1, "name": "x"}, storage=storage)
    assert task.expires_at == "2026-01-01T03:59:59.000Z"
    clock.advance(7200)
    assert await SequentialFlow.get_task(task.id, storage=storage) is None
    with pytest.raises(InvalidTransitionError, match=r"has expired.* until 2026-01-01T03:59:59"):
        await SequentialFlow.resume(task.id, 1, storage=storage)
    assert await storage.load(task.id) is None


async def test_the_id_of_an_expired_task_is_free(
    storage: InMemoryStorage, clock: FakeClock
) -> None:
    spec = {"id": "x", "code": "await fetch('u')"}
    await SequentialFlow.execute(spec, storage=storage, ttl=0.5)
    with pytest.raises(RunExistsError, match="there is a task x already"):
        await SequentialFlow.execute(spec, storage=storage)
    clock.advance(0.5)
    assert (await SequentialFlow.execute(spec, storage=storage)).status == "paused"


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "7200", None, True])
async def test_a_ttl_is_a_number_of_seconds(ttl: Any) -> None:
    with pytest.raises(InvalidInputError, match="ttl is a number of seconds above 0"):
        await execute("1", ttl=ttl)


# --- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("code", InvalidInputError, "not str"),
        ({}, InvalidInputError, "the code of a task is text, not NoneType"),
        ({"code": b"1"}, InvalidInputError, "the code of a task is text, not bytes"),
        ({"code": "\ud800"}, InvalidInputError, "half of a surrogate pair at position 0"),
        ({"code": "1", "fetch": 1}, InvalidInputError, "not fetch"),
        ({"code": "1", "name": 3}, InvalidInputError, "the name of a task is text, not int"),
        ({"code": "1", "name": "x" * 201}, InvalidInputError, "201 characters, 200 are most"),
        ({"code": "1", "input": [1]}, InvalidInputError, "an object, not list"),
        ({"code": "1", "input": {"a": object()}}, InvalidInputError, "the input.a is an object"),
        ({"code": "1", "id": 7}, InvalidNameError, "not an id of a flow: 7"),
        ({"code": "1", "id": ""}, InvalidNameError, "1 to 200 printable"),
        ({"code": "1", "id": "a\nb"}, InvalidNameError, "1 to 200 printable"),
        ({"code": "1", "id": "x" * 201}, InvalidNameError, "1 to 200 printable"),
        ({"code": "1", "id": "\ud800"}, InvalidNameError, "1 to 200 printable"),
    ],
)
async def test_what_is_no_task_is_refused(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await SequentialFlow.execute(spec)


@pytest.mark.parametrize("task", [3, None, b"x", ["x"]])
async def test_what_is_no_id_is_refused(task: Any) -> None:
    with pytest.raises(InvalidInputError, match="resume takes the id of a task"):
        await SequentialFlow.resume(task, 1)


# --- state that is handed out --------------------------------------------------------------------


async def test_without_storage_the_caller_carries_the_state() -> None:
    task = await execute(TWO, save_to_storage=False)
    assert task.vm_state
    assert await SequentialFlow.get_task(task.id) is None
    with pytest.raises(RunNotFoundError):
        await SequentialFlow.resume(task.id, 1)

    sent = json.loads(json.dumps(task.to_dict()))
    task = await SequentialFlow.resume(sent, {"id": 7, "name": "Ada"})
    assert (task.status, task.revision) == ("paused", 2)
    done = await SequentialFlow.resume(task, [1])
    assert (done.status, done.result, done.vm_state) == (
        "completed",
        {"user": "Ada", "posts": 1},
        None,
    )


async def test_a_state_that_was_changed_is_refused() -> None:
    task = await execute("x = await fetch('u')\n" + "y = 1\n" * 20, save_to_storage=False)
    state = task.vm_state or ""
    other = (await execute("z = await fetch('u')", save_to_storage=False)).vm_state
    half = len(state) // 2
    forged = [
        evolve(
            task, vm_state=state[:half] + ("A" if state[half] != "A" else "B") + state[half + 1 :]
        ),
        evolve(task, vm_state=state[:-8]),
        evolve(task, vm_state="?"),
        evolve(task, vm_state=""),
        evolve(task, vm_state=other),
        evolve(task, id="another"),
        evolve(task, code=task.code + "#"),
        evolve(task, revision=2),
    ]
    for one in forged:
        with pytest.raises(InvalidInputError, match="was changed, is another task's"):
            await SequentialFlow.resume(one, 1)
    assert (await SequentialFlow.resume(task, 1)).status == "completed"


async def test_a_state_expires_whatever_the_caller_says(clock: FakeClock) -> None:
    task = await execute("await fetch('u')", save_to_storage=False, ttl=10)
    clock.advance(10)
    with pytest.raises(InvalidTransitionError, match="has expired"):
        await SequentialFlow.resume(evolve(task, expires_at="2099-01-01T00:00:00.000Z"), 1)


async def test_a_state_of_another_process_needs_the_same_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SEQUENTIAL_SECRET", raising=False)
    task = await execute("(await fetch('u')).json()", save_to_storage=False)
    monkeypatch.setattr(state_module, "_own_secret", b"o" * 32)
    with pytest.raises(InvalidInputError, match="set SEQUENTIAL_SECRET to the same text"):
        await SequentialFlow.resume(task, 1)

    monkeypatch.setenv("SEQUENTIAL_SECRET", "shared")
    task = await execute("(await fetch('u')).json()", save_to_storage=False)
    monkeypatch.setattr(state_module, "_own_secret", b"p" * 32)
    assert (await SequentialFlow.resume(task, 1)).result == 1


async def test_a_stored_task_goes_on_without_the_secret_by_its_journal(
    storage: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await execute(GATHER, storage=storage)
    for number in range(3):
        monkeypatch.setattr(state_module, "_own_secret", bytes([number]) * 32)
        task = await SequentialFlow.resume(task.id, number, storage=storage)
    assert task.result == [0, 1, 2]


@pytest.mark.parametrize(
    "tree", [{}, {"id": "x"}, {"id": 1, "name": "", "code": "", "status": "paused"}]
)
def test_what_is_no_task_object_is_refused(tree: Any) -> None:
    with pytest.raises(InvalidInputError, match="not a task as SequentialFlow makes it"):
        FlowTask.from_dict(tree)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", b"\xff"])
def test_what_is_no_text_of_a_task_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInputError, match="the JSON of a task"):
        FlowTask.from_json(text)


async def test_a_task_survives_json(storage: InMemoryStorage) -> None:
    code = "r = await fetch('u', method='POST', data=b'\\xff')\nresult = (1, {2}, b'x', r.json())"
    task = await execute(code, storage=storage)
    assert FlowTask.from_json(json.dumps(task.to_dict())) == task
    done = await SequentialFlow.resume(task.id, 10**30, storage=storage)
    assert done.result == (1, {2}, b"x", 10**30)
    assert FlowTask.from_json(done.to_json()) == done


# --- the machines --------------------------------------------------------------------------------


def test_each_event_loop_finds_the_processes_again(storage: InMemoryStorage) -> None:
    """As a function does that calls `asyncio.run` for every request."""
    task = asyncio.run(execute(TWO, storage=storage))
    task = asyncio.run(SequentialFlow.resume(task.id, {"id": 1, "name": "x"}, storage=storage))
    assert asyncio.run(SequentialFlow.resume(task.id, [], storage=storage)).status == "completed"


def test_event_loops_of_several_threads_do_not_meet(storage: InMemoryStorage) -> None:
    def go(number: int) -> Any:
        async def both() -> Any:
            task = await execute("(await fetch('u')).json()", storage=storage)
            return await SequentialFlow.resume(task.id, number, storage=storage)

        return asyncio.run(both()).result

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(go, range(12))) == list(range(12))


async def test_processes_can_be_ended_and_come_back(storage: InMemoryStorage) -> None:
    task = await execute(TWO, storage=storage)
    await SequentialFlow.close()
    await SequentialFlow.close()
    again = await SequentialFlow.resume(task.id, {"id": 1, "name": "x"}, storage=storage)
    assert again.status == "paused"


async def test_many_programs_at_once_take_turns(storage: InMemoryStorage) -> None:
    code = "x = await fetch('u')\nresult = x.json() * 2"
    tasks = await asyncio.gather(*(execute(code, storage=storage) for _ in range(30)))
    done = await asyncio.gather(
        *(SequentialFlow.resume(task.id, n, storage=storage) for n, task in enumerate(tasks))
    )
    assert [task.result for task in done] == [2 * n for n in range(30)]


@pytest.mark.parametrize("kind", ["records", "adapter"])
async def test_a_step_that_is_cancelled_leaves_the_task_as_it_was(kind: str) -> None:
    """Cancelled sooner or later, as a server does when its client goes away."""
    storage = InMemoryStorage() if kind == "records" else await create_adapter("memory:")
    code = "x = await fetch('u')\nfor i in range(50_000): pass\nresult = x.json()"
    cancelled = 0
    for ticks in range(0, 40, 2):
        task = await execute(code, storage=storage)
        step = asyncio.create_task(SequentialFlow.resume(task.id, "first", storage=storage))
        for _ in range(ticks):
            await asyncio.sleep(0)
        step.cancel()
        (outcome,) = await asyncio.gather(step, return_exceptions=True)
        if isinstance(outcome, FlowTask):
            assert outcome.result == "first"
            continue
        assert isinstance(outcome, asyncio.CancelledError)
        cancelled += 1
        assert await SequentialFlow.get_task(task.id, storage=storage) is not None
        again = await SequentialFlow.resume(task.id, "second", storage=storage)
        assert again.result == "second"
    assert cancelled


async def test_a_program_that_kills_its_process_is_an_error(storage: InMemoryStorage) -> None:
    """The machine of this version dies when a class is sent before its instance."""
    code = "class P:\n    pass\na = await fetch('u')\nawait fetch('v', json=[P, P()])"
    task = await execute(code, storage=storage)
    good = await execute("(await fetch('u')).json()", storage=storage)
    failed, done = await asyncio.gather(
        SequentialFlow.resume(task.id, 1, storage=storage),
        SequentialFlow.resume(good.id, 1, storage=storage),
    )
    assert failed.status == "error"
    assert "the program ended its sandbox process 3 times" in (failed.error or "")
    assert done.result == 1


def kill_sandbox_processes() -> int:
    """SIGKILL to the sandbox processes of this process; returns how many there were."""
    killed = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            if name == "monty" and int(rest.split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
                killed += 1
    return killed


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
async def test_a_sandbox_process_that_dies_is_replaced(storage: InMemoryStorage) -> None:
    code = "seen = []\nfor i in range(6):\n    seen.append((await fetch(str(i))).json())\nseen"
    task = await execute(code, storage=storage)
    for number in range(6):
        assert kill_sandbox_processes() > 0
        task = await SequentialFlow.resume(task.id, number, storage=storage)
    assert task.result == [0, 1, 2, 3, 4, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
async def test_a_turn_whose_process_dies_is_taken_again(storage: InMemoryStorage) -> None:
    code = "x = await fetch('u')\nfor i in range(3_000_000): pass\nresult = x.json()"
    task = await execute(code, storage=storage)
    step = asyncio.create_task(SequentialFlow.resume(task.id, [1], storage=storage))
    while not step.done() and kill_sandbox_processes() < 1:
        await asyncio.sleep(0)
    assert (await step).result == [1]


async def test_a_program_that_naps_leaves_its_process_to_others(
    storage: InMemoryStorage, clock: FakeClock
) -> None:
    code = "import asyncio\nx = await fetch('u')\nawait asyncio.sleep(1)\nprint('a')\nx.json()"
    tasks = [await execute(code, storage=storage) for _ in range(9)]
    done = await asyncio.gather(
        *(SequentialFlow.resume(task.id, n, storage=storage) for n, task in enumerate(tasks))
    )
    assert [(task.result, task.log) for task in done] == [(n, "a\n") for n in range(9)]

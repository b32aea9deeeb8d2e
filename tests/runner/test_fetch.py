"""Tasks that make real HTTP requests, from their source to the server and back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core.model import (
    Allow,
    CallStatus,
    InputField,
    Limits,
    RetryPolicy,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
)
from sequential.runner.engine import Engine
from sequential.runner.progress import Progress, Step
from sequential.runner.settings import RunnerSettings
from sequential.services.clock import ClockService
from sequential.services.http import HttpService, HttpSettings
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from support.http_api import HttpApi, serve

QUICK = RetryPolicy(retries=3, delay=0.01)
LOOPBACK = HttpSettings(allow_loopback=True)


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as api:
        yield api


@contextlib.asynccontextmanager
async def engine_on(
    storage: StorageAdapter, http: HttpSettings = LOOPBACK, **options: Any
) -> AsyncIterator[Engine]:
    settings = Settings(project=Path(), http=http, runner=RunnerSettings(retry=QUICK))
    services = Services([ClockService(), HttpService(http)])
    engine = Engine(storage, services, settings, secret=b"k" * 32, **options)
    try:
        yield engine
    finally:
        await engine.close()


def declared(**config: Any) -> TaskConfig:
    """The policy of a task whose input is the URL of the server."""
    return TaskConfig(name="job", inputs=(InputField(name="url"),), **config)


async def run(
    body: str, api: HttpApi, http: HttpSettings = LOOPBACK, **config: Any
) -> tuple[TaskRun, list[StackRun]]:
    """Run a task, or the body of one, to its end."""
    source = f"async def job(url):\n{body}" if body.startswith(" ") else body
    async with engine_on(MemoryAdapter(), http) as engine:
        await engine.store_task("job", source, declared(**config))
        ended = await engine.run("job", {"url": api.url})
        return ended, await engine.list_calls(ended.id)


async def value(body: str, api: HttpApi, **config: Any) -> Any:
    ended, _ = await run(body, api, **config)
    assert ended.status is Status.COMPLETED, ended.error
    return ended.value


# --- requests and answers ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"])
async def test_any_method(api: HttpApi, method: str) -> None:
    body = f"  return (await fetch(url + '/echo', method={method!r})).json()['method']"
    assert await value(body, api) == method.upper()


async def test_a_head_request_has_no_body(api: HttpApi) -> None:
    assert await value("  return (await fetch(url + '/echo', method='HEAD')).text", api) == ""


@pytest.mark.parametrize(
    ("arguments", "path", "expected"),
    [
        ("json={'a': [1, 'ü']}", "body", '{"a":[1,"ü"]}'),
        ("json=None", "body", "null"),
        ("data={'a': 'b c', 'n': [1, 2]}", "body", "a=b+c&n=1&n=2"),
        ("data=b'\\xff\\x00'", "body", "\xff\x00"),
        ("data='text'", "body", "text"),
        ("params={'q': 'ä&b', 'n': [1, True]}", "query", "q=%C3%A4%26b&n=1&n=true"),
        ("headers={'X-Own': 'yes'}", "headers.x-own", "yes"),
        ("json={}", "headers.content-type", "application/json"),
        ("data={'a': 1}", "headers.content-type", "application/x-www-form-urlencoded"),
        ("data=b'x'", "headers.content-type", "application/octet-stream"),
    ],
)
async def test_what_is_sent(api: HttpApi, arguments: str, path: str, expected: str) -> None:
    body = f"  return (await fetch(url + '/echo', method='POST', {arguments})).json()"
    found = await value(body, api)
    for part in path.split("."):
        found = found[part]
    assert (found.encode("latin-1").decode() if "ü" in expected else found) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(await fetch(url + '/redirect/3')).json()", {"n": 0}),
        ("(await fetch(url + '/redirect/2')).url[len(url):]", "/json/0"),
        ("(await fetch(url + '/redirect/1', follow_redirects=False)).status", 302),
        ("(await fetch(url + '/status/404')).ok", False),
        ("(await fetch(url + '/status/204')).text", ""),
        ("(await fetch(url + '/cookie')).headers['set-cookie']", "session=1; Path=/"),
        ("(await fetch(url + '/text?charset=latin-1')).text", "grüße"),
        ("(await fetch(url + '/text?charset=latin-1')).bytes() == b'gr\\xfc\\xdfe'", True),
        ("(await fetch(url + '/text')).text", "grüße"),
        ("(await fetch(url + '/bytes/300')).bytes()[:3] == b'\\x2b\\x2a\\x29'", True),
        ("len((await fetch(url + '/bytes/5000')).bytes())", 5000),
        ("len((await fetch(url + '/big/100000?gzip=1')).text)", 100_000),
    ],
)
async def test_what_comes_back(api: HttpApi, expression: str, expected: Any) -> None:
    assert await value(f"  return {expression}", api) == expected


# --- failures ------------------------------------------------------------------------------------


def caught(type: str, call: str) -> str:
    return f"  try:\n    return await {call}\n  except {type} as error:\n    return str(error)"


async def test_a_timeout_can_be_caught(api: HttpApi) -> None:
    call = "fetch(url + '/slow/5', timeout=0.05, retries=0)"
    assert "no answer within 0.05 s" in await value(caught("TimeoutError", call), api)


@pytest.mark.parametrize("path", ["/drop", "/cut", "/nonsense"])
async def test_a_broken_connection_is_an_os_error(api: HttpApi, path: str) -> None:
    assert api.url in await value(caught("OSError", f"fetch(url + '{path}', retries=1)"), api)
    assert api.count(path) >= 2  # the client itself repeats a GET once when it gets no answer


async def test_nobody_listens() -> None:
    with serve() as gone:
        pass
    found = await value(caught("ConnectionError", "fetch(url, retries=0)"), gone)
    assert f"GET {gone.url}/" in found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"])
async def test_private_addresses_are_refused(api: HttpApi, host: str) -> None:
    call = f"fetch('http://{host}:{api.port}/json/1')"
    found = await value(caught("PermissionError", call), api, http=HttpSettings())
    assert "allow.hosts" in found
    assert api.connections == 0


async def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(api: HttpApi) -> None:
    call = f"fetch(url + '/redirect?to=http://localhost:{api.port}/json/1')"
    allow = Allow(hosts=("127.0.0.1",))
    assert "localhost" in await value(caught("PermissionError", call), api, allow=allow)
    assert api.count("/json/1") == 0


@pytest.mark.parametrize(("hosts", "reached"), [(("127.0.0.1",), True), (("example.com",), False)])
async def test_a_task_reaches_the_hosts_it_is_allowed(
    api: HttpApi, hosts: tuple[str, ...], reached: bool
) -> None:
    ended, calls = await run(
        "  return (await fetch(url + '/json/1')).json()", api, allow=Allow(hosts=hosts)
    )
    assert (ended.status is Status.COMPLETED) is reached
    assert api.count("/json/1") == reached
    if not reached:
        assert ended.error is not None
        assert ended.error.type == "PermissionError"
        assert ended.error.traceback[0].line == 2
        assert calls[0].status is CallStatus.FAILED


async def test_a_body_over_the_limit_is_a_clear_error(api: HttpApi) -> None:
    http = HttpSettings(allow_loopback=True, body_limit=1000)
    found = await value(
        caught("OSError", "fetch(url + '/big/5000?gzip=1', retries=0)"), api, http=http
    )
    assert "1000 bytes" in found or "limit" in found


async def test_an_answer_too_large_for_the_task(api: HttpApi) -> None:
    body = caught("TypeError", "fetch(url + '/big/5000000')")
    assert "can take 4 MiB" in await value(body, api, limits=Limits(memory_mb=16))


async def test_a_wrong_argument_is_an_error_of_the_task(api: HttpApi) -> None:
    assert "Host" in await value(caught("ValueError", "fetch(url, headers={'Host': 'x'})"), api)
    assert api.requests == []


async def test_a_run_has_a_deadline(api: HttpApi) -> None:
    ended, calls = await run("  return await fetch(url + '/slow/20')", api, timeout=0.3)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "timeout")
    assert "line 2" in ended.error.message
    assert calls[0].status is CallStatus.CANCELLED


# --- attempts ------------------------------------------------------------------------------------


async def test_a_server_that_is_busy_is_asked_again(api: HttpApi) -> None:
    ended, (call,) = await run("  return (await fetch(url + '/flaky/a/2')).json()", api)
    assert ended.value == {"attempt": 3}
    assert call.attempts == 3
    times = [request.at for request in api.requests]
    assert times[1] - times[0] >= 0.004
    assert times[2] - times[1] >= 0.008


async def test_without_retries_the_first_answer_counts(api: HttpApi) -> None:
    assert await value("  return (await fetch(url + '/flaky/b/9', retries=0)).status", api) == 503
    assert api.count("/flaky/b/9") == 1


async def test_when_all_attempts_fail_the_task_gets_the_last_answer(api: HttpApi) -> None:
    ended, (call,) = await run("  return (await fetch(url + '/flaky/c/9')).json()", api)
    assert ended.value == {"attempt": 4}
    assert (call.status, call.attempts) == (CallStatus.COMPLETED, 4)


async def test_a_long_retry_after_parks_the_run(api: HttpApi) -> None:
    seen: list[Progress] = []
    clock = FakeClock(patience=0.03)
    async with engine_on(MemoryAdapter(), clock=clock, observer=seen.append) as engine:
        source = (
            "async def job(url):\n  return (await fetch(url + '/flaky/d/1?retry_after=3600')).ok\n"
        )
        await engine.store_task("job", source, declared())
        began = clock.now()
        ended = await engine.run("job", {"url": api.url})
        assert ended.value is True
        assert 3600 <= (clock.now() - began).total_seconds() < 3700
    (parked,) = [step.run for step in seen if step.step is Step.PARKED]
    assert parked.wake_at
    assert parked.wake_at[:16] == "2026-01-01T01:00"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_attempts_carry_the_same_key(api: HttpApi, method: str) -> None:
    body = f"""\
  await fetch(url + '/flaky/e/2', method='{method}', json=1)
  await fetch(url + '/json/1', method='{method}', json=1)
  await fetch(url + '/json/2', method='{method}', headers={{'Idempotency-Key': 'mine'}})
  await fetch(url + '/json/3', method='{method}', headers={{'Idempotency-Key': None}})
  await fetch(url + '/json/4')"""
    await value(body, api)
    keys = [request.headers.get("idempotency-key") for request in api.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[4:] == ["mine", None, None]


POST_TWICE = """
async def job(url):
    await fetch(url + "/json/1", method="POST")
    return (await fetch(url + "/slow/0.2", method="POST")).status
"""


async def until_asked(api: HttpApi, path: str, times: int = 1) -> None:
    async with asyncio.timeout(10):
        while api.count(path) < times:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_another_engine_repeats_a_call_in_progress_with_its_key(
    api: HttpApi, tmp_path: Path, how: str
) -> None:
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        await engine.store_task("job", POST_TWICE, declared())
        created = await engine.create_run("job", {"url": api.url})
        driving = asyncio.create_task(engine.resume(created.id))
        await until_asked(api, "/slow/0.2")
        if how == "stop":
            engine.stop()
            assert (await driving).status is Status.SUSPENDED
        else:
            driving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await driving
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        assert (await engine.resume(created.id)).value == 200
    assert [r.path for r in api.requests] == ["/json/1", "/slow/0.2", "/slow/0.2"]
    keys = [r.headers["idempotency-key"] for r in api.requests]
    assert keys[0] != keys[1] == keys[2]


# --- many at once, and large ---------------------------------------------------------------------

MANY = """
async def job(url):
    async def one(n):
        path = f"/json/{n}" if n < 20 else f"/slow/1.{n}"
        return (await fetch(url + path)).json()
    found = await gather(*[one(n) for n in range(30)])
    return [f.get("n", "slow") for f in found]
"""


async def test_outcomes_of_a_gather_survive_each_by_itself(api: HttpApi, tmp_path: Path) -> None:
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        await engine.store_task("job", MANY, declared())
        created = await engine.create_run("job", {"url": api.url})
        driving = asyncio.create_task(engine.resume(created.id))
        async with asyncio.timeout(10):
            while len(await settled(engine, created.id)) < 20 or len(api.requests) < 30:
                await asyncio.sleep(0.005)
        engine.stop()
        await driving
        done = await settled(engine, created.id)
    assert 20 <= len(done) < 30
    assert len(api.requests) == 30
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        assert (await engine.resume(created.id)).value == [*range(20), *["slow"] * 10]
    assert len(api.requests) == 30 + (30 - len(done))
    assert all(api.count(f"/json/{n}") == 1 for n in range(20))


async def settled(engine: Engine, run_id: str) -> list[StackRun]:
    return [call for call in await engine.list_calls(run_id) if call.status.is_settled]


@pytest.mark.parametrize("size", [65_536, 5_000_000])
@pytest.mark.parametrize("path", ["big", "bytes"])
async def test_large_answers_are_kept_beside_the_journal(
    api: HttpApi, tmp_path: Path, size: int, path: str
) -> None:
    source = f"""
async def job(url):
    large = await fetch(url + "/{path}/{size}")
    slow = await fetch(url + "/slow/0.15")
    return [len(large.bytes()), slow.status]
"""
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        await engine.store_task("job", source, declared())
        created = await engine.create_run("job", {"url": api.url})
        driving = asyncio.create_task(engine.resume(created.id))
        await until_asked(api, "/slow/0.15")
        engine.stop()
        await driving
    runs = tmp_path / "job" / "runs"
    assert (runs / f"run-{created.id}.journal").stat().st_size < 20_000
    assert max(f.stat().st_size for f in (runs / f"run-{created.id}.data").iterdir()) > size
    (runs / f"run-{created.id}.snapshot").unlink()  # so that the value is read again
    async with engine_on(FolderAdapter(tmp_path)) as engine:
        assert (await engine.resume(created.id)).value == [size, 200]
        first, _ = await engine.list_calls(created.id)
    assert first.size is not None
    assert first.size > size
    body = first.result.get("text") or first.result["content"]["$bytes"]
    assert len(body) >= size
    assert api.count(f"/{path}/{size}") == 1

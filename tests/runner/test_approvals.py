"""Approval links of tasks, and `wait_for_event` with a schema, in both runtimes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core.ids import idempotency_key
from sequential.core.journal import fingerprint
from sequential.core.model import Status, TaskConfig
from sequential.core.values import arguments_from_json
from sequential.errors import ConfigError, InvalidInputError, LinkExpiredError
from sequential.runner.approvals import own_url, told_url
from sequential.runner.engine import Engine

SCHEMA = {"properties": {"amount": {"type": "number"}}, "required": ["amount"]}
RUNTIMES = ["sandbox", "native"]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:") as opened:
        yield opened


async def driven(engine: Engine, code: str, runtime: str = "sandbox") -> Any:
    """A run of a task with this body, driven until it waits or ends."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    source = f"async def job():\n{lines}"
    await engine.store_task("job", source, TaskConfig("job", runtime=runtime))
    return await engine.drive((await engine.create_run("job")).id)


def parts(url: str) -> tuple[str, str, str]:
    """The run, the event and the token of a link."""
    path, _, token = url.partition("?token=")
    run_id, event = path.split("/")[-2:]
    return run_id, event, token


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_call_says_what_it_waits_for(engine: Engine, runtime: str) -> None:
    run = await driven(engine, f"return await wait_for_event('word', schema={SCHEMA})", runtime)
    assert run.status is Status.SUSPENDED
    (call,) = await engine.list_calls(run.id)
    assert arguments_from_json(call.input) == ([], {"name": "word", "schema": SCHEMA})
    question = await engine.approvals.question(*parts(engine.approvals.link(run.id, "word")))
    assert question.schema == SCHEMA
    assert question.given is None
    await engine.answer(run.id, "word", 1)
    assert (await engine.drive(run.id)).value == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_without_a_schema_a_call_is_the_one_it_was(engine: Engine, runtime: str) -> None:
    run = await driven(engine, "return await wait_for_event('word', timeout=60)", runtime)
    (call,) = await engine.list_calls(run.id)
    arguments = {"kwargs": {"name": "word", "timeout": 60}}
    assert call.input == arguments or arguments_from_json(call.input)[1] == arguments["kwargs"]
    assert call.fingerprint == fingerprint("events.wait", call.input)
    assert "schema" not in str(call.input)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("timeout", ["", ", timeout=3600"])
async def test_a_schema_that_makes_no_form_is_an_error_at_once(
    engine: Engine, runtime: str, timeout: str
) -> None:
    schema = {"properties": {"it": {"type": "array"}}}
    code = f"""try:
    await wait_for_event('word', schema={schema}{timeout})
except ValueError as error:
    return str(error)"""
    run = await driven(engine, code, runtime)
    assert run.value.startswith("wait_for_event(): the schema makes no form: the field 'it' has")


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_schema_is_a_dict(engine: Engine, runtime: str) -> None:
    run = await driven(engine, "await wait_for_event('word', schema='x')", runtime)
    assert run.error.message == "wait_for_event() takes the schema as a dict"


async def test_links_of_two_calls_count_each_for_itself(
    engine: Engine,
) -> None:
    code = """first = await services.links.create('word')
second = await services.links.create('word')
return [first, second]"""
    run = await driven(engine, code)
    tokens = [parts(url) for url in run.value]
    one, other = [await engine.approvals.question(*found) for found in tokens]
    assert one.answer_id != other.answer_id
    # A call that is performed again makes a link that counts as the same one.
    own_key = idempotency_key(run.id, 0)
    again = engine.approvals.link(run.id, "word", key=own_key)
    assert (await engine.approvals.question(*parts(again))).answer_id == one.answer_id


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "TypeError: links.create: "),
        ("'word', colour='red'", "TypeError: links.create: "),
        ("'word', base_url='http://evil.example'", "TypeError: links.create: a task cannot say"),
        ("''", "ValueError: links.create: not a name of an event"),
        ("'word', expires_in='1'", "ValueError: links.create: expires_in is a number"),
        ("'word', title=5", "ValueError: links.create: title is a text"),
        ("'word', key=5", "ValueError: links.create: key is a text"),
        ("'word', schema=[1]", "ValueError: links.create: "),
        ("'word', schema={'x': 1}", "ValueError: links.create: the schema makes no form"),
    ],
)
async def test_a_link_that_cannot_be_is_an_error_of_the_call(
    engine: Engine, arguments: str, told: str
) -> None:
    code = f"""try:
    await services.links.create({arguments})
except Exception as error:
    return type(error).__name__ + ': ' + str(error)"""
    assert (await driven(engine, code)).value.startswith(told)


async def test_a_link_of_the_engine_expires(engine: Engine) -> None:
    run = await driven(engine, "await wait_for_event('word')")
    url = engine.approvals.link(run.id, "word", expires_in=1e-6)
    await asyncio.sleep(0.01)  # moments are written in milliseconds
    with pytest.raises(LinkExpiredError):
        await engine.approvals.question(*parts(url))
    with pytest.raises(InvalidInputError, match="expires_in"):
        engine.approvals.link(run.id, "word", expires_in=float("nan"))


async def test_every_process_of_a_project_takes_the_links_of_the_others(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, adaptor=f"sqlite:{tmp_path / 'runs.db'}")
    async with Engine(settings=settings) as worker:
        run = await driven(worker, "await wait_for_event('word')")
        url = worker.approvals.link(run.id, "word", title="Well?")
        async with Engine(settings=settings) as server:
            assert (await server.approvals.question(*parts(url))).title == "Well?"


async def test_links_lead_to_where_the_server_is(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert (told_url(settings, {}), own_url(settings)) == ("", "http://127.0.0.1:3000")
    assert told_url(settings, {"SEQUENTIAL_PUBLIC_URL": "https://a.example"}) == "https://a.example"
    (tmp_path / ".sequentialrc.json").write_text(
        '{"server": {"host": "0.0.0.0", "public_url": "https://b.example"}}'
    )
    settings = load_settings(tmp_path)
    assert (told_url(settings, {}), own_url(settings)) == ("https://b.example", "")
    (tmp_path / ".sequentialrc.json").write_text('{"server": {"host": "0.0.0.0"}}')
    async with Engine("memory:", settings=load_settings(tmp_path)) as engine:
        run = await driven(engine, "await wait_for_event('word')")
        with pytest.raises(ConfigError, match=r"server\.public_url"):
            engine.approvals.link(run.id, "word")
        engine.approvals.served_at("http://127.0.0.1:8080")
        assert engine.approvals.link(run.id, "word").startswith("http://127.0.0.1:8080/approve/")

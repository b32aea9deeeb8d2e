"""Tasks in the sandbox that use the services of the package, from the call to what is written."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sequential.config import load_settings
from sequential.core.model import Allow, RetryPolicy, Status, TaskConfig, evolve
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runtimes.sandbox.dry_run import dry_run
from support.google_api import Google, google, refusal
from support.openai_api import KEY, OpenAI, openai_api

CODE = """
async def job():
    unread = await services.gapi.gmail.users.messages.list(userId="ada@example.com")
    sheet = await services.gapi.sheets.spreadsheets.values.get(spreadsheetId="s", range="A1:B1")
    answer = await services.openai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    try:
        await services.openai.models.retrieve(model="refused")
    except RuntimeError as error:
        refused = str(error)
    try:
        await services.gapi.drive.files.get(fileId="missing")
    except RuntimeError as error:
        missing = str(error)
    said = answer["choices"][0]["message"]["content"]
    return [unread["messages"], sheet["values"], said, refused, missing]
"""


@pytest.fixture
def gapi() -> Iterator[Google]:
    with google() as server:
        yield server


@pytest.fixture
def openai() -> Iterator[OpenAI]:
    with openai_api() as server:
        yield server


@pytest.fixture
async def engine(
    tmp_path: Path, gapi: Google, openai: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    monkeypatch.setenv("GAPI_ROOT_URL", gapi.api.url)
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
    settings = load_settings(tmp_path, environment={})
    runner = RunnerSettings(
        snapshot_every=1, idle_after=0.01, retry=RetryPolicy(retries=2, delay=0.01)
    )
    async with Engine(settings=evolve(settings, runner=runner)) as engine:
        await engine.keys.set("GAPI_KEY", gapi.key)
        await engine.keys.set("OPENAI_API_KEY", KEY)
        yield engine


def written(folder: Path) -> bytes:
    """All there is below a folder, without the key that is not the store's."""
    files = [one for one in folder.rglob("*") if one.is_file() and ".sequential" not in one.parts]
    return b"\0".join(one.read_bytes() for one in files)


async def test_what_the_services_got_is_written_down_and_their_secrets_are_not(
    engine: Engine, gapi: Google, openai: OpenAI, tmp_path: Path
) -> None:
    # Both repeat what they were sent, after having been busy once.
    gapi.later = [(503, refusal(503, "backendError", "Busy"), {})]
    openai.later = [(429, {"error": {"message": "Slow down"}}, {"retry_after_ms": "10"})]
    await engine.store_task("job", CODE, TaskConfig("job"))
    run = await engine.run("job")

    assert run.status is Status.COMPLETED, run.error
    unread, values, said, refused, missing = run.value
    assert (unread, values, said) == (["m"], [["1", "2"]], "You said")
    assert "Incorrect API key: Bearer {{secret:OPENAI_API_KEY}}" in refused
    assert "HTTP 404: notFound: no file for Bearer (hidden)" in missing
    calls = await engine.storage.query_stack_runs(task_run_id=run.id)
    assert [call.attempts for call in calls] == [2, 1, 2, 1, 1]
    content = written(tmp_path)
    assert b"gmail.users.messages.list" in content
    private = gapi.key.split("\\n")[3].encode()  # a line in the middle of it
    assert private in gapi.key.encode()
    for secret in (KEY.encode(), b"ya29.token", private):
        assert secret not in content


async def test_addresses_are_no_secrets(engine: Engine) -> None:
    """The address of the admin is kept beside the key; a list of users has it all the same."""
    await engine.keys.set("GAPI_ADMIN_EMAIL", "user0@example.com")
    code = """
async def job():
    page = await services.gapi.admin.users.list(maxResults=1)
    return page["users"][0]["primaryEmail"]
"""
    await engine.store_task("job", code, TaskConfig("job"))
    assert (await engine.run("job")).value == "user0@example.com"


async def test_a_task_uses_only_what_it_is_allowed_to(engine: Engine, gapi: Google) -> None:
    allow = Allow(services=("gapi",), secrets=("OPENAI_API_KEY",))
    await engine.store_task("job", CODE, TaskConfig("job", allow=allow))
    run = await engine.run("job")
    assert run.error is not None
    assert run.error.type == "PermissionError"
    assert "the secret 'GAPI_KEY' is not in the task's allow.secrets" in run.error.message
    assert gapi.api.requests == []


def test_the_dry_run_knows_methods_that_no_list_has(engine: Engine) -> None:
    methods: dict[str, list[str]] = {}
    for dotted in engine.services.methods(Allow(), CODE):
        service, _, method = dotted.partition(".")
        methods.setdefault(service, []).append(method)
    assert "sheets.spreadsheets.values.get" in methods["gapi"]
    assert dry_run(CODE, task="job", input_names=[], services=methods) == []

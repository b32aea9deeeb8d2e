"""Servers for clients: the real one on a socket of this machine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sequential.client import Client
from support.server_thread import QUICK, ServerThread, live


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEQUENTIAL_URL", "SEQUENTIAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TYPE", "BASE_URL", "AUTH_TOKEN"):
        monkeypatch.delenv(f"SERVICE_CLIENT_{name}", raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """With the store in memory; the tests of a module share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("server"))
        with live() as running:
            yield running


@pytest.fixture
async def client(server: ServerThread, tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(server.url, retry=QUICK) as made:
        yield made
        for run in await made.list_runs(unfinished=True):
            await made.cancel(run.id)
        for task in await made.list_tasks():
            await made.delete_task(task.identifier)

"""The client for programs that are not asynchronous; what it does is in test_equivalence."""

import gc
import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sequential import TaskConfig
from sequential.client import SyncClient
from sequential.errors import ConfigError
from support.server_thread import QUICK, ServerThread

ROOT = Path(__file__).parents[2]
ADD = "def add(a, b):\n    return a + b\n"
SCRIPT = """
import sys
from sequential.client import SyncClient

client = SyncClient(sys.argv[1]).__enter__()
print([task.identifier for task in client.list_tasks()])
"""


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sequential"]


def test_several_threads_use_one_client(server: ServerThread) -> None:
    with SyncClient(server.url, retry=QUICK) as client, ThreadPoolExecutor(8) as pool:
        client.store_task("add", ADD, TaskConfig("add"))

        def one(number: int) -> int:
            result: int = client.start("add", {"a": number, "b": 1}).wait().result
            return result

        assert list(pool.map(one, range(20))) == list(range(1, 21))
        assert client.delete_task("add") == 20
    assert threads() == []


def test_mistakes_are_told(server: ServerThread) -> None:
    client = SyncClient(server.url)
    with pytest.raises(ConfigError, match=r"this client is not open: use `with SyncClient\(...\)"):
        client.list_runs()
    with client:
        assert client.list_runs() == []
    with pytest.raises(ConfigError, match="this client is not open"):
        client.list_runs()


async def test_it_works_where_an_event_loop_is_running(server: ServerThread) -> None:
    with SyncClient(server.url) as client:
        assert client.list_tasks() == []


def test_a_client_that_nobody_closed_is_closed_when_it_is_forgotten(server: ServerThread) -> None:
    client = SyncClient(server.url).__enter__()
    assert client.list_tasks() == []
    assert threads() != []
    del client
    gc.collect()
    assert threads() == []


def test_a_program_may_end_without_closing(server: ServerThread) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_the_module_fits_the_client() -> None:
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "sync_engine.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    assert script.CLIENT_TARGET.read_text() == script.written(script.SYNC_CLIENT), "run `make docs`"

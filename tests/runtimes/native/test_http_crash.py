"""kill -9 in the middle of an SDK: what was answered is not asked again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.http_api import HttpApi, serve
from support.sdk_api import SdkHandler

VICTIM = Path(__file__).parents[2] / "support" / "http_victim.py"
STORES = {"folder": "folder:{}/tasks", "sqlite": "sqlite:{}/workflow.db"}

OPENAI = """
from openai import OpenAI

def job(input):
    client, texts = OpenAI(api_key="sk-test", base_url=input["api"] + "/v1"), ["begin"]
    for _ in range(4):
        messages = [{"role": "user", "content": texts[-1]}]
        answer = client.chat.completions.create(model="m", messages=messages)
        texts.append(answer.choices[0].message.content)
    return texts[-1]
"""
REQUESTS = """
import requests, uuid

def job(input):
    with requests.Session() as session:
        for number in range(4):
            id = str(uuid.uuid4())
            files = {"f": (id, b"content")}
            last = session.post(f"{input['api']}/echo?n={number}", files=files).json()["body"]
    return id in last
"""
AIOHTTP = """
import aiohttp, asyncio

async def job(input):
    async with aiohttp.ClientSession(input["api"]) as session:
        async def post(number):
            async with session.post("/echo", json={"n": number}) as answer:
                return (await answer.json())["body"]
        first = await asyncio.gather(post(0), post(1))
        return first + [await post(2), await post(3)]
"""
RESULTS: dict[str, Any] = {
    OPENAI: "You said: You said: You said: You said: begin",
    REQUESTS: True,
    AIOHTTP: ['{"n": 0}', '{"n": 1}', '{"n": 2}', '{"n": 3}'],
}


class Killer(SdkHandler):
    """Kills a process at one of its requests, which then has no answer."""

    victim: subprocess.Popen[str] | None = None
    at = 0

    def answer(self) -> None:
        kind = type(self)
        if kind.victim is not None and len(self.server.api.requests) + 1 >= kind.at:
            victim, kind.victim = kind.victim, None
            os.kill(victim.pid, signal.SIGKILL)
            self.body = self._read_body()
            self._record(self.path.partition("?")[0], "")
            self.close_connection = True
            return
        super().answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(VICTIM), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "random"},
        text=True,
    )


def killed_and_resumed(storage: str, code: str, at: int) -> tuple[Any, HttpApi]:
    """The result of a task whose process died at its n-th request, and who was asked what."""
    kind = type("KillerOnce", (Killer,), {"at": at})
    with serve(kind) as api:
        victim = start(storage, "start", json.dumps({"api": api.url}))
        kind.victim = victim  # type: ignore[attr-defined]
        victim.communicate(code, timeout=60)
        assert victim.returncode == -signal.SIGKILL
        said, _ = start(storage, "resume").communicate(timeout=60)
        return json.loads(said), api


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("code", RESULTS, ids=["openai", "requests", "aiohttp"])
def test_answered_requests_are_not_repeated(tmp_path: Path, store: str, code: str) -> None:
    result, api = killed_and_resumed(STORES[store].format(tmp_path), code, at=3)

    assert result == RESULTS[code]
    bodies = Counter(request.body for request in api.requests)
    assert sorted(bodies.values()) == [1, 1, 1, 2]  # the one in progress was made again,
    assert sorted(api.keys.values()) == [1, 1, 1, 2]  # with the key it had
    assert api.requests[2].body == api.requests[3].body

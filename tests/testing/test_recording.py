"""Recordings of calls: real requests once, then the same answers without them."""

from pathlib import Path
from typing import Any

import pytest

from sequential import SyncEngine, TaskConfig
from sequential.config import Settings
from sequential.core.model import RetryPolicy
from sequential.runner.settings import RunnerSettings
from sequential.services.base import CallError
from sequential.services.http_settings import HttpSettings
from sequential.testing.clock import FakeClock
from sequential.testing.recording import Recording
from sequential.testing.services import FakeService
from support.http_api import serve

FETCH = """
async def job(input):
    answers = []
    for url in input["urls"]:
        try:
            answers.append((await fetch(url, method="POST", data=b"x", retries=1)).status)
        except OSError as error:
            answers.append(type(error).__name__)
    return answers
"""


def run(folder: Path, records: bool, code: str, input: Any = None, *services: FakeService) -> Any:
    """What the task returns, or its error, with calls recorded or given again."""
    recording = Recording(folder / "calls.json", records=records)
    settings = Settings(
        project=folder,
        adaptor="memory:",
        http=HttpSettings(allow_loopback=records),
        runner=RunnerSettings(retry=RetryPolicy(retries=1, delay=0.01)),
    )
    with SyncEngine("memory:", services, settings, clock=FakeClock()) as engine:
        engine._engine.services.front(recording.front)
        engine.store_task("job", code, TaskConfig("job"))
        ended = engine.start("job", input).wait()
    recording.write()
    return ended.result if ended.error is None else str(ended.error)


def test_requests_are_not_made_again(tmp_path: Path) -> None:
    with serve() as api:
        urls = [f"{api.url}/json/1", f"{api.url}/status/404", f"{api.url}/json/1"]
        first = run(tmp_path, True, FETCH, {"urls": urls})
    assert first == [200, 404, 200]
    assert run(tmp_path, False, FETCH, {"urls": urls}) == first


def test_an_answer_that_led_to_another_attempt_is_recorded_as_well(tmp_path: Path) -> None:
    with serve() as api:
        urls = [f"{api.url}/status/503"]
        first = run(tmp_path, True, FETCH, {"urls": urls})
    assert first == run(tmp_path, False, FETCH, {"urls": urls}) == [503]
    assert (tmp_path / "calls.json").read_text().count('"again"') == 2


def test_errors_and_values_that_json_lacks_are_recorded(tmp_path: Path) -> None:
    def odd(x: Any) -> Any:
        if x == "fail":
            raise CallError("LookupError", "not there", "gone")
        if x == "break":
            raise KeyError("x")
        return {b"bytes": (x, {1, 2})}

    code = """
async def job():
    found = [await services.tool.odd(b"1")]
    for x in ("fail", "break"):
        try:
            await services.tool.odd(x)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found
"""
    tool = FakeService("tool", {"odd": odd})
    first = run(tmp_path, True, code, None, tool)
    assert first[0] == {b"bytes": (b"1", {1, 2})}
    assert first[1] == "LookupError: not there"
    unused = FakeService("tool", {"odd": odd})
    assert run(tmp_path, False, code, None, unused) == first
    assert unused.performed == []


def test_the_same_call_asked_for_too_often_says_how_often_it_was_recorded(tmp_path: Path) -> None:
    tool = FakeService("tool", {"next": iter(range(9)).__next__})
    code = """
async def job(input):
    return [await services.tool.next() for _ in range(input["n"])]
"""
    assert run(tmp_path, True, code, {"n": 2}, tool) == [0, 1]
    assert run(tmp_path, False, code, {"n": 2}, tool) == [0, 1]
    assert "calls.json has this call 2 times only" in run(tmp_path, False, code, {"n": 3}, tool)


@pytest.mark.parametrize("text", [b"", b"{}", b'[{"operation": 1}]'])
def test_a_damaged_recording_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "calls.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"calls\.json is no recording"):
        Recording(tmp_path / "calls.json", records=False)

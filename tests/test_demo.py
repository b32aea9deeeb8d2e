"""`make demo` shows what it promises, and would say so if it did not."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).parents[1] / "scripts" / "demo.py"


def test_everything_is_as_promised() -> None:
    done = subprocess.run(
        [sys.executable, DEMO], text=True, capture_output=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything was as promised" in done.stdout
    assert "NOT " not in done.stdout
    assert "\x1b" not in done.stdout  # colour is for terminals


def test_a_repeated_call_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    demo = load()
    shop = demo.Shop()
    shop.requests.update({**demo.REQUESTS, "POST /mails": 2})
    shop.keys["POST /mails"] = {"one", "two"}
    show = demo.Demo(tmp_path, shop)
    monkeypatch.setattr(show, "run", lambda *_, **__: '{"stack_runs": [], "status": "failed"}')

    demo.prove(show, "0" * 36)
    shop.server_close()

    assert len(show.failed) == 5
    assert capsys.readouterr().out.count("NOT ") == 5


def test_settings_of_the_user_do_not_change_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(os.environ, "TASK_MAX_RETRIES", "0")
    demo = load()
    shop = demo.Shop()
    show = demo.Demo(tmp_path, shop)
    shop.server_close()

    assert "TASK_MAX_RETRIES" not in show.environment
    assert "PATH" in show.environment


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

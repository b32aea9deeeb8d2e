import importlib.metadata
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.errors import ServiceLoadError
from sequential.services.base import CallContext
from sequential.services.discovery import installed_services, load_services
from sequential.services.local import LocalService

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("sequential_services_"):
            del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source)


async def test_public_functions_of_a_file_are_methods(folder: Path) -> None:
    write(
        folder,
        crm=(
            "from json import dumps\n"
            "from asyncio import sleep\n"
            "LIMIT = 3\n"
            "class Customer: pass\n"
            "def find(email): return {'email': email}\n"
            "async def count(): return LIMIT\n"
            "def _private(): pass\n"
            "double = lambda n: n * 2\n"
        ),
        billing="def charge(amount: float) -> float: return amount\n",
    )
    billing, crm = load_services(folder)
    assert (billing.name, list(billing.methods())) == ("billing", ["charge"])
    assert (crm.name, sorted(crm.methods())) == ("crm", ["count", "double", "find"])
    assert await crm.call("find", ["a@b.c"], {}, CONTEXT) == {"email": "a@b.c"}
    assert await crm.call("count", [], {}, CONTEXT) == 3
    await crm.close()


async def test_a_declared_service_with_dots(folder: Path) -> None:
    write(
        folder,
        google=(
            "from sequential.services.base import CallContext\n"
            "from sequential.services.local import LocalService\n"
            "gmail = LocalService('gmail')\n"
            "drive = LocalService('drive')\n"
            "@gmail.method('users.messages.list')\n"
            "async def messages(user, context: CallContext): return [user, context.run_id]\n"
            "@drive.method('files.list')\n"
            "def files(): return []\n"
            "def helper(): pass\n"
        ),
    )
    gmail, drive = load_services(folder)
    assert (gmail.name, gmail.methods()) == ("gmail", ("users.messages.list",))
    assert (drive.name, drive.methods()) == ("drive", ("files.list",))
    assert await gmail.call("users.messages.list", ["me"], {}, CONTEXT) == ["me", "run-1"]


async def test_files_may_share_a_private_one_and_dataclasses_work(folder: Path) -> None:
    write(
        folder,
        _shared="def token(): return 't'\n",
        crm=(
            "from __future__ import annotations\n"
            "import dataclasses\n"
            "from ._shared import token\n"
            "@dataclasses.dataclass\n"
            "class Customer:\n    name: str = token()\n"
            "async def name(): return Customer().name\n"
        ),
    )
    (folder / ".hidden.py").write_text("syntax error")
    (folder / "notes.txt").write_text("")
    (service,) = load_services(folder)
    assert await service.call("name", [], {}, CONTEXT) == "t"


async def test_an_edited_file_counts_at_once(folder: Path) -> None:
    for n in (1, 2):
        write(folder, crm=f"async def version(): return {n}\n")
        (service,) = load_services(folder)
        assert await service.call("version", [], {}, CONTEXT) == n
    assert not (folder / "__pycache__").exists()


def test_no_folder_no_services(tmp_path: Path) -> None:
    assert load_services(tmp_path / "services") == []


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("crm", "def f(:\n", r"crm\.py:1: SyntaxError: "),
        ("crm", "\n\nimport no_such_module\n", r"crm\.py:3: ModuleNotFoundError: .*no_such_module"),
        ("crm", "def f():\n  return 1/0\nf()\n", r"crm\.py:2: ZeroDivisionError: division by zero"),
        ("crm", "raise ValueError", r"crm\.py:1: ValueError$"),
        ("crm", "import sys\nsys.exit(1)\n", r"crm\.py:2: SystemExit: 1"),
        ("crm", "\0", r"crm\.py.*null bytes"),
        ("crm", "x = 1\n", r"crm\.py: the service 'crm' has no public function"),
        ("my-crm", "def f(): pass\n", r"my-crm\.py: the service name 'my-crm' cannot be used"),
        ("class", "def f(): pass\n", r"class\.py: the service name 'class' is reserved"),
        ("http", "def f(): pass\n", r"http\.py: the name 'http' belongs to a built-in service"),
        (
            "crm",
            (
                "from sequential.services.local import LocalService\n"
                "s = LocalService('http')\n@s.method()\ndef f(): pass\n"
            ),
            "the name 'http' belongs to a built-in service",
        ),
        (
            "crm",
            (
                "from sequential.services.local import LocalService\n"
                "s = LocalService('b')\nt = LocalService('b')\n"
                "@s.method()\n@t.method()\ndef f(): pass\n"
            ),
            "two files define a service named 'b'",
        ),
    ],
)
def test_broken_files(folder: Path, name: str, source: str, says: str) -> None:
    write(folder, **{name: source})
    with pytest.raises(ServiceLoadError, match=says):
        load_services(folder, reserved=["http"])


class Point:
    """An entry point of an installed package."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self.loaded = loaded
        self.dist = types.SimpleNamespace(name="some-package")

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    found = {"sequential.services": points}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found[group])


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    slack = LocalService("slack")
    module = types.ModuleType("jira_module")
    exec("def issue(): pass\n", vars(module))
    install(
        monkeypatch,
        Point("slack", slack),
        Point("jira", module),
        Point("crm", ImportError("not even to be imported")),
    )
    first, second = installed_services(without=["crm"])
    assert first is slack
    assert (second.name, second.methods()) == ("jira", ("issue",))


@pytest.mark.parametrize(
    ("loaded", "says"),
    [
        (ImportError("no slack_sdk"), "'x' of some-package: ImportError: no slack_sdk"),
        (LocalService, "must be a Service or a module"),
        (5, "must be a Service or a module"),
        (types.ModuleType("empty"), "no public function"),
    ],
)
def test_broken_entry_points(monkeypatch: pytest.MonkeyPatch, loaded: Any, says: str) -> None:
    install(monkeypatch, Point("x", loaded))
    with pytest.raises(ServiceLoadError, match=says):
        installed_services()


def test_a_real_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "demo_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sequential.services]\ndemo = demo_pack_service\n")
    (tmp_path / "demo_pack_service.py").write_text("def hello(): return 'hi'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [s.name for s in installed_services() if list(s.methods()) == ["hello"]] == ["demo"]

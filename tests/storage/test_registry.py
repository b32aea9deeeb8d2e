import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sequential.errors import ConfigError, UnknownAdapterError
from sequential.storage import registry
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.registry import create_adapter, register_adapter, registered_adapters


class MyAdapter(MemoryAdapter):
    def __init__(self, location: str, config: dict[str, Any]) -> None:
        super().__init__()
        self.location, self.config, self.ready = location, config, False

    async def init(self) -> None:
        self.ready = True


BUILT_IN = ["firestore", "folder", "memory", "postgres", "redis", "sqlite", "supabase"]


def make(location: str, **config: Any) -> MyAdapter:
    return MyAdapter(location, config)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize(
    ("name", "config", "folder"),
    [
        ("default", {}, "tasks"),
        ("folder", {}, "tasks"),
        ("", {}, "tasks"),
        ("folder:./my/tasks", {}, "my/tasks"),
        ("folder", {"path": "there"}, "there"),
        ("folder:C:odd", {}, "C:odd"),
    ],
)
async def test_the_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, config: dict[str, Any], folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = await create_adapter(name, **config)
    assert type(adapter) is FolderAdapter
    assert adapter.folder.path == str(tmp_path / folder)
    await adapter.close()


async def test_memory() -> None:
    assert type(await create_adapter("memory:")) is MemoryAdapter
    assert type(await create_adapter("memory")) is MemoryAdapter
    with pytest.raises(ConfigError, match="takes no location"):
        await create_adapter("memory:x")


async def test_an_adapter_of_ones_own_hides_no_other(tmp_path: Path) -> None:
    register_adapter("mine", make)
    adapter = await create_adapter("mine:here", size=3)
    assert isinstance(adapter, MyAdapter)
    assert (adapter.location, adapter.config, adapter.ready) == ("here", {"size": 3}, True)
    adapter = await create_adapter("mine://host/x")
    assert isinstance(adapter, MyAdapter)
    assert adapter.location == "mine://host/x"
    assert registered_adapters() == sorted([*BUILT_IN, "mine"])
    assert type(await create_adapter("memory")) is MemoryAdapter


@pytest.mark.parametrize(
    "name", [*BUILT_IN, "default", "postgresql", "valkey", "rediss", "", "a b", "a:b", "A"]
)
def test_a_name_that_is_taken_or_no_word_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a storage adapter"):
        register_adapter(name, make)


async def test_what_is_no_factory_is_refused() -> None:
    with pytest.raises(ConfigError, match="is str: give a function"):
        register_adapter("mine", "not a function")  # type: ignore[arg-type]
    register_adapter("mine", lambda location: object())  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="returned object"):
        await create_adapter("mine")


async def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'siize'"):
        await create_adapter("folder", siize=1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("foldr:x", 'did you mean "folder"?'),
        ("Memory", 'did you mean "memory"?'),
        ("postgre://user:secret@host/db", 'did you mean "postgres"?'),
        ("mysql://user:secret@host/db", f"there are {', '.join(BUILT_IN)}"),
        ("x" * 200, f"there are {', '.join(BUILT_IN)}"),
    ],
)
async def test_an_unknown_name_lists_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(UnknownAdapterError) as caught:
        await create_adapter(name)
    assert hint in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).endswith(", ".join(BUILT_IN))
    assert len(str(caught.value)) < 200


async def test_an_installed_package_brings_its_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_adapter.py").write_text(
        "from sequential.storage.memory import MemoryAdapter\n"
        "def create(location): return MemoryAdapter()\n"
    )
    info = tmp_path / "their_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sequential.adapters]\n"
        "theirs = their_adapter:create\nfolder = their_adapter:create\ngone = their_adapter:no\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert registered_adapters() == sorted([*BUILT_IN, "gone", "theirs"])
    assert isinstance(await create_adapter("theirs:x"), MemoryAdapter)
    assert type(await create_adapter("folder")) is FolderAdapter
    with pytest.raises(ConfigError, match="gone is installed but cannot be loaded"):
        await create_adapter("gone")


CHECK = """
import sys
import sequential.storage.registry
ours = {m.removeprefix("sequential.storage.") for m in sys.modules if m.startswith("sequential.st")}
assert ours == {"sequential.storage", "registry", "base", "documents", "outside"}, ours
"""


def test_no_adapter_is_imported_before_it_is_chosen() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)


MISSING = """
import asyncio, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

package = sys.argv[2]
for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
    del sys.modules[name]  # a .pth file of some package of Google has loaded it already
sys.meta_path.insert(0, Missing())
from sequential.errors import ConfigError
from sequential.storage.registry import create_adapter
try:
    asyncio.run(create_adapter(sys.argv[1]))
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgres://localhost/db", "psycopg", "postgres"),
        ("postgresql://localhost/db", "psycopg", "postgres"),
        ("redis://localhost", "redis", "redis"),
        ("valkey://localhost", "redis", "redis"),
        ("firestore://project", "google", "firestore"),
        ("firestore://project", "google.cloud", "firestore"),
        ("firestore://project", "google.cloud.firestore_v1", "firestore"),
        ("firestore://project", "google.auth", "firestore"),
        ("firestore://project", "grpc", "firestore"),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    url: str, package: str, extra: str
) -> None:
    command = [sys.executable, "-c", MISSING, url, package]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == (
        f"the storage adapter {extra} needs the package {package}: "
        f"pip install 'sequential-ecosystem[{extra}]'\n"
    )


def test_a_fault_of_an_adapter_s_own_is_not_taken_for_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry._BUILT_IN, "redis", "sequential.storage.no_such_module:create")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry._factory("redis")


WINDOWS = """
import sys
sys.modules["fcntl"] = None
from sequential.errors import ConfigError
try:
    import sequential.storage.folder
except ConfigError as error:
    assert "Windows" in str(error) and "memory:" in str(error)
else:
    raise SystemExit("no error")
"""


def test_without_file_locks_the_folder_store_names_alternatives() -> None:
    subprocess.run([sys.executable, "-c", WINDOWS], check=True)

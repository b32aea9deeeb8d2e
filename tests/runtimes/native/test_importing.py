"""Modules that are told of when they come, and what an import means for a run."""

import importlib
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sequential.runtimes.native import patches
from sequential.runtimes.native.importing import ImportHook, is_importing, rebind
from support.http_lab import HttpLab


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that modules can be imported from; they are forgotten afterwards."""
    patches.install()  # it is done once in a process, and must not be undone here
    known, finders = set(sys.modules), [*sys.meta_path]
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.meta_path[:] = finders
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


class Told:
    """Remembers which modules it was told of."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def __call__(self, module: ModuleType) -> None:
        self.seen.append((module.__name__, getattr(module, "VALUE", None)))


def test_a_module_is_told_of_once_it_is_complete(place: Path) -> None:
    (place / "hooked_one.py").write_text("VALUE = 1\n")
    told = Told()
    ImportHook({"hooked_one": told}).install()
    assert told.seen == []

    import hooked_one  # type: ignore[import-not-found]
    import hooked_one as again

    assert told.seen == [("hooked_one", 1)]
    assert again is hooked_one
    assert type(hooked_one.__loader__).__name__ == "SourceFileLoader"
    assert hooked_one.__spec__.loader is hooked_one.__loader__


def test_modules_in_packages_and_in_zip_files(place: Path) -> None:
    (place / "hooked_package").mkdir()
    (place / "hooked_package" / "__init__.py").write_text("from . import inner\nVALUE = 'outer'\n")
    (place / "hooked_package" / "inner.py").write_text("VALUE = 'inner'\n")
    with zipfile.ZipFile(place / "more.zip", "w") as archive:
        archive.writestr("hooked_zip.py", "VALUE = 'zip'\n")
        archive.writestr("hooked_zip_2.py", "VALUE = 'zip 2'\n")
    sys.path.insert(0, str(place / "more.zip"))
    told = Told()
    names = ("hooked_package.inner", "hooked_package", "hooked_zip", "hooked_zip_2")
    ImportHook(dict.fromkeys(names, told)).install()
    try:
        for name in ("hooked_package", "hooked_zip", "hooked_zip_2"):
            importlib.import_module(name)
    finally:
        sys.path.remove(str(place / "more.zip"))

    assert told.seen == [
        ("hooked_package.inner", "inner"),
        ("hooked_package", "outer"),
        ("hooked_zip", "zip"),
        ("hooked_zip_2", "zip 2"),
    ]


def test_a_module_that_is_there_already(place: Path) -> None:
    (place / "hooked_before.py").write_text("VALUE = 2\n")
    importlib.import_module("hooked_before")
    told = Told()

    ImportHook({"hooked_before": told}).install()

    assert told.seen == [("hooked_before", 2)]


def test_a_module_that_fails_is_told_of_when_it_succeeds(place: Path) -> None:
    (place / "hooked_broken.py").write_text("raise KeyError('broken')\n")
    told = Told()
    ImportHook({"hooked_broken": told, "hooked_missing": told}).install()
    with pytest.raises(KeyError):
        importlib.import_module("hooked_broken")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hooked_missing")
    assert told.seen == []

    (place / "hooked_broken.py").write_text("VALUE = 'mended, and of another length'\n")
    importlib.invalidate_caches()
    importlib.import_module("hooked_broken")

    assert told.seen == [("hooked_broken", "mended, and of another length")]


def test_whether_a_module_is_being_imported(place: Path) -> None:
    (place / "asks.py").write_text(
        "from sequential.runtimes.native.importing import is_importing\nVALUE = is_importing()\n"
    )

    assert importlib.import_module("asks").VALUE
    assert not is_importing()


def test_functions_that_modules_took_by_name_are_replaced(place: Path) -> None:
    (place / "took_it.py").write_text("from time import sleep as rest\nimport time\n")
    module = importlib.import_module("took_it")
    old = module.rest

    def new(seconds: float) -> None: ...

    rebind({old: new})
    try:
        assert module.rest is new
        assert module.time is time
        assert time.sleep is old  # Python's own modules keep theirs
    finally:
        rebind({new: old})


async def test_what_an_import_does_is_not_the_run_s(place: Path) -> None:
    """A replay, where the module is there already, draws the same numbers all the same."""
    (place / "draws.py").write_text(
        "import random, threading, uuid\n"
        "NUMBER, ID = random.random(), uuid.uuid4()\n"
        "thread = threading.Thread(target=print, args=('',))\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    code = """
import asyncio, random, uuid

async def job(input):
    import draws
    await asyncio.sleep(random.random())
    return [str(uuid.uuid4()), random.random()]
"""
    run, calls = await HttpLab().run(code)  # it is replayed there, too

    assert run.error is None, run.error
    assert [call.operation for call in calls] == ["clock.sleep"]

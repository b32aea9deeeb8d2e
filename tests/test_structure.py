"""The house rules: who may import whom, how long things may get, what is public.

The rules are those of CONTRIBUTING.md; here they are held.
"""

import ast
import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sequential

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sequential"
MODULES = sorted(PACKAGE.rglob("*.py"))

LONGEST_MODULE, LONG_MODULE = 600, 400
LONGEST_FUNCTION = 60
VAGUE = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}

# What each part may import of ours: a name means that module and all below it.
FAMILIES = ("runtimes", "services", "storage")
MAY_IMPORT = {
    "errors": set(),
    "core": {"core", "errors"},
    "runtimes": {"core", "errors", "runtimes", "task"},  # `task` has the names that tasks use
    "services": {"core", "errors", "services"},
    "storage": {"core", "errors", "storage"},
    "config": {
        *("core", "errors", "runner.settings", "web.settings"),
        *("services.http_settings", "services.remote_settings"),
    },
    "runner": {
        *("core", "errors", "runner", "config", "services.http_settings"),
        # What is wrong with a task's code, which its runtime knows without running it.
        *("runtimes.sandbox.dry_run", "runtimes.native.dry_run"),
        "storage.folder_task_files",  # the files that `sync-tasks` copies, whatever the store
        *(f"{family}.{door}" for family in FAMILIES for door in ("base", "registry")),
    },
    "cli": {
        *("cli", "runner", "config", "core", "errors", "web"),
        *("services.base", "services.describe"),  # what a call brings, what a service tells
    },
    # The library entrances use the doors of all that the runner uses, and the runner itself.
    "flow": {
        *("flow", "core", "errors", "config", "runner", "storage.files"),  # files that last
        *(f"{family}.{door}" for family in FAMILIES for door in ("base", "registry")),
    },
    "web": {"web", "core", "errors", "config", "runner", "services.base", "services.describe"},
    "edge": {
        *("edge", "core", "errors", "config", "runner", "services.base"),
        *("web.approval_answer", "web.approval_page"),  # the same page, without a server
    },
    # Programs elsewhere have neither engine nor storage nor sandbox.
    "client": {"client", "core", "errors", "runner.loop_thread", "runner.run_handle"},
    "task": set(),  # tasks import it where nothing else of ours is
    "testing": {
        *("testing", "core", "errors", "config", "storage.folder_task_files"),
        *("runner.clock", "runner.engine", "runner.sync_engine"),  # what the plugin offers
        *(f"{family}.base" for family in FAMILIES),
    },
}
# The package's front door names where things are, and imports none of it.
FRONT_DOOR = "__init__"

# The core decides; it does not act. So nothing in it may wait, look at a clock, or draw lots.
NOT_IN_CORE = {
    *("asyncio", "concurrent", "multiprocessing", "threading", "time", "os", "random", "secrets"),
    *("socket", "ssl", "pathlib", "io", "shutil", "subprocess", "tempfile", "urllib", "http"),
    *("sqlite3", "logging", "sys"),
}
CORE_MAY_USE = {"cronsim", "msgspec", "zstandard"}
NOT_CALLED_IN_CORE = {
    *("uuid.uuid1", "uuid.uuid4", "uuid.uuid7", "datetime.now", "datetime.utcnow"),
    *("datetime.today", "date.today", "open", "input", "print"),
}


class Import(NamedTuple):
    importer: str  # below `sequential`, as in `core.model`
    imported: str  # in full, as in `sequential.core.values` or `os`
    line: int

    @property
    def part(self) -> str:
        return self.importer.partition(".")[0]

    @property
    def ours(self) -> str | None:
        """The imported name below our package; None when it is somebody else's."""
        head, _, rest = self.imported.partition(".")
        return rest if head == "sequential" else None

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    """`core.model` for `src/sequential/core/model.py`, `core` for its `__init__.py`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_of(path: Path) -> Iterator[Import]:
    importer = module_name(path)
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(importer, alias.name, node.lineno)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                for alias in names:
                    full = f"{module}.{alias.name}"
                    is_module = (
                        (PACKAGE.parent / full.replace(".", "/")).with_suffix(".py").exists()
                    )
                    yield Import(importer, full if is_module else module, node.lineno)
            case ast.ImportFrom(level=level) if level:
                yield Import(importer, "(relative)", node.lineno)


ALL_IMPORTS = [found for path in MODULES for found in imports_of(path)]


def permits(allowed: set[str], name: str) -> bool:
    return any(name == one or name.startswith(one + ".") for one in allowed)


def test_every_part_of_the_package_has_an_import_rule() -> None:
    parts = {module_name(path).partition(".")[0] for path in MODULES} - {FRONT_DOOR}

    assert parts <= set(MAY_IMPORT), "say in MAY_IMPORT what the new part may import"


def test_parts_import_only_what_the_architecture_permits() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.ours is not None
        and found.importer != FRONT_DOOR
        and not permits(MAY_IMPORT[found.part], found.ours)
    ]

    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    assert [
        str(found)
        for found in ALL_IMPORTS
        if (found.ours or "").partition(".")[0] == "cli" and found.part != "cli"
    ] == []


def test_imports_are_written_in_full() -> None:
    assert [str(found) for found in ALL_IMPORTS if found.imported == "(relative)"] == []


@pytest.mark.parametrize(
    ("importer", "imported", "right"),
    [
        ("core.model", "sequential.core.values", True),
        ("core.model", "sequential.storage.base", False),
        ("storage.folder", "sequential.services.base", False),
        ("runtimes.sandbox.pool", "sequential.runtimes.base", True),
        ("runner.drive", "sequential.storage.base", True),
        ("runner.drive", "sequential.storage.folder", False),
        ("config", "sequential.runner.engine", False),
        ("cli.run", "sequential.runner.engine", True),
        ("cli.run", "sequential.storage.folder", False),
    ],
)
def test_the_rule_itself_tells_right_from_wrong(importer: str, imported: str, right: bool) -> None:
    found = Import(importer, imported, 1)

    assert permits(MAY_IMPORT[found.part], found.ours or "") is right


def test_the_core_uses_nothing_that_acts() -> None:
    standard = sys.stdlib_module_names - NOT_IN_CORE
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.part in ("core", "errors") and found.ours is None
        if found.imported.partition(".")[0] not in standard | CORE_MAY_USE
    ]

    assert wrong == []


def test_the_core_reads_no_clock_and_draws_no_lots() -> None:
    wrong = [
        f"{module_name(path)}:{node.lineno} calls {ast.unparse(node.func)}"
        for path in (PACKAGE / "core").glob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in NOT_CALLED_IN_CORE
    ]

    assert wrong == []


def test_modules_are_short() -> None:
    lines = {module_name(path): len(path.read_text().splitlines()) for path in MODULES}
    long = [f"{name} has {count} lines" for name, count in lines.items() if count > LONG_MODULE]

    assert [name for name, count in lines.items() if count > LONGEST_MODULE] == []
    if long:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"getting long: {', '.join(long)}", stacklevel=1)


def test_modules_are_named_after_what_they_hold() -> None:
    assert [module_name(path) for path in MODULES if path.stem in VAGUE] == []


def test_modules_say_what_they_are_for() -> None:
    bare = [module_name(path) for path in MODULES if not ast.get_docstring(parsed(path))]

    assert bare == []


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{module_name(path)}.{node.name} has {length} lines"
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]

    assert long == []


PUBLIC = """
    Allow CallContext CallError CallStatus Engine Failure HttpSettings InputField
    KeyValueAdapter Limits LocalService Progress RetryPolicy Run RunnerSettings Schedule Secret
    SequentialError Service ServiceClient Settings StackProcessor StackRun Status Step
    StorageAdapter SyncEngine SyncRun TaskConfig TaskExecutor TaskFunction TaskRun TryAgain
    Webhook Worker __version__ create_adapter load_settings register_adapter registered_adapters
""".split()


def test_the_public_names_are_these() -> None:
    assert sorted(sequential.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_are_explained(name: str) -> None:
    value = getattr(sequential, name)

    assert name in dir(sequential)
    if name != "__version__":
        assert inspect.getdoc(value)


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if inspect.isclass(getattr(sequential, name))]
)
def test_public_methods_are_explained(name: str) -> None:
    kind = getattr(sequential, name)
    bare = [
        method.__name__
        for method in vars(kind).values()
        if inspect.isfunction(method) and not method.__name__.startswith("_")
        # A name and its types may say it all, but only where it takes and gives records.
        if not inspect.getdoc(method)
        and not re.match(r"(get|create|update|append)_", method.__name__)
        and method.__name__ not in ("methods", "due_after", "close")
    ]

    assert bare == []


def test_an_unknown_name_is_refused_like_everywhere() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = sequential.Motor


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import sequential; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )
    loaded = set(done.stdout.split())

    assert "sequential" in loaded
    assert not any(name.startswith("sequential.") for name in loaded)
    third_party = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert third_party == {"sequential"}


def test_the_command_line_starts_without_what_only_some_commands_need() -> None:
    code = "import sys, sequential.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )

    heavy = {"aiohttp", "pydantic_monty", "zstandard"} & set(done.stdout.split())
    assert heavy == set()


def test_constraints_hold_names_versions_and_hashes_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    marker = r"[a-z_]+ (==|!=|<|>=) '[\w.]+'"
    pinned = re.compile(rf"[a-z0-9-]+==[0-9][0-9a-z.]*( ; {marker}( and {marker})*)? \\")
    hashed = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")

    assert [
        line
        for line in lines
        if not (line.startswith("# ") or pinned.fullmatch(line) or hashed.fullmatch(line))
    ] == []
    assert not re.search(r"://|/|\.(org|com|io|dev)\b", "\n".join(lines[1:]))


def test_constraints_pin_everything_that_is_required() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    required = project["project"]["dependencies"] + [
        item for group in groups.values() for item in group if isinstance(item, str)
    ]
    names = {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in required}
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )

    assert names - pinned == set(), "run `make pin`"

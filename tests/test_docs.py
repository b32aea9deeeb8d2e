"""What README.md and docs/ show works as shown.

The ```bash blocks of a page are one session in an empty folder with the examples beside it; a
practice API answers at the address that the page uses. A comment before a block changes how it is
treated:

    <!-- skip: reason -->        not run; only for what installs
    <!-- server: postgres -->    run on a server of the tests instead of the one it names; or redis
    <!-- exit: 1 -->             the last command of the block ends with this code
    <!-- task: name -->          Python for code.py of this task: it goes through the dry run
    <!-- native: name -->        the same for a native task
    <!-- run -->                 a Python program: it is run in the session's folder
    <!-- service -->             Python for services/<name>.py: it is loaded
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from practice_api import PracticeApi

from sequential import TaskConfig, errors
from sequential.config import ProjectFile
from sequential.runtimes.native.dry_run import dry_run as dry_run_native
from sequential.runtimes.sandbox.dry_run import dry_run
from sequential.services.discovery import load_services
from support.postgres_server import postgres_server
from support.valkey_server import valkey

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))),
]
BLOCK = re.compile(r"(?:<!-- (\w+)(?:: (.*?))? -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)
INSTALLS = ("python3 -m venv", "python3 -m pip install", "git clone", "make ", "pip install")
ONE_MACHINE = re.compile(r"(?<![\w.])/(?:home|Users|private|mnt)/")


class Block(NamedTuple):
    page: Path
    kind: str  # the comment before it
    note: str
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.stem}-{self.text.strip().partition(chr(10))[0][:40]}"


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, *(part or "" for part in found.groups()))
        for page in PAGES
        for found in BLOCK.finditer(page.read_text())
        if found[3] in languages
    ]


SESSIONS = sorted({block.page for block in blocks("bash") if block.kind != "skip"})

# How to have a server for a test, and the URLs that pages show instead of its own.
SERVERS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], list[str]]] = {
    "postgres": (postgres_server, ["postgresql://worker:secret@db.example.com:5432/app"]),
    "redis": (
        valkey,
        ["redis://localhost:6379/0", "rediss://user:password@redis.example.com:6380/0"],
    ),
}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", SESSIONS, ids=page_id)
def test_commands_work_as_shown(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=leave_out)
    own = [block for block in blocks("bash") if block.page == page and block.kind != "skip"]
    with (
        practice_api(any("practice_api.py" in block.text for block in own)) as port,
        servers({block.note for block in own if block.kind == "server"}) as (urls, missing),
    ):
        own = [block for block in own if block.kind != "server" or block.note not in missing]
        project_file = tmp_path / "examples" / ".sequentialrc.json"
        project_file.write_text(project_file.read_text().replace("8000", str(port)))
        script = "\n".join(session(own)).replace("8000", str(port))
        for shown, url in urls.items():
            script = script.replace(shown, url)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment(tmp_path),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, f"{page.name}: {done.stdout}"
    check_output(page, done.stdout)
    if missing:
        pytest.skip(f"all but a server's part is as shown: {', '.join(missing.values())}")


@contextlib.contextmanager
def servers(names: set[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The URLs to put in place of those shown, and why servers of some names are not there."""
    urls: dict[str, str] = {}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as running:
        for name in sorted(names):
            server, shown = SERVERS[name]
            try:
                urls |= dict.fromkeys(shown, running.enter_context(server()).url)
            except LookupError as error:
                missing[name] = str(error)
        yield urls, missing


def check_output(page: Path, printed: str) -> None:
    """What a page shows as the output of its commands is really printed."""
    for block in blocks("text"):
        if block.page == page and block.page.stem != "cli":
            assert block.text in printed, f"{page.name} shows an output that is not printed"
    if page == ROOT / "README.md":
        assert "Unfinished: my-emails" in printed
        asked = re.findall(r"^GET .*$", printed, re.MULTILINE)
        assert len(asked) - len(set(asked)) <= 1


def session(own: list[Block]) -> Iterator[str]:
    yield "trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; wait; exit $code' EXIT"
    for number, block in enumerate(own, 1):
        yield f"echo '=== block {number}'"
        if block.kind == "exit":
            yield f"set +e\n{block.text}\n[ $? = {block.note} ] || exit 1"
        else:
            yield f"set -e\n{block.text}"
        if "practice_api.py" in block.text:
            yield "until grep -q serving api.log; do sleep 0.05; done"


def environment(home: Path) -> dict[str, str]:
    ours = ("SEQUENTIAL_", "TASK_", "DATABASE_URL", "SQLITE_DB_PATH", "SUPABASE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    own = Path(sys.executable).parent
    return {**kept, "HOME": str(home), "PATH": f"{own}:{os.environ['PATH']}"}


def leave_out(_: str, names: list[str]) -> set[str]:
    return {"runs", "__pycache__", ".sequential", "crm-notes.json"} & set(names)


class practice_api:
    """A practice API, or only a port for one that the page starts itself."""

    def __init__(self, started_by_page: bool) -> None:
        self.server = None if started_by_page else PracticeApi()

    def __enter__(self) -> int:
        if self.server is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
                return port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self.server.server_port

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()


@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if b.kind in ("", "task")], ids=lambda b: b.id
)
def test_task_code_passes_the_dry_run(block: Block) -> None:
    assert dry_run(block.text, task=block.note or "main") == []


@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if b.kind == "native"], ids=lambda b: b.id
)
def test_native_code_passes_its_dry_run(block: Block) -> None:
    assert dry_run_native(block.text, task=block.note) == []


@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if b.kind == "run"], ids=lambda b: b.id
)
def test_programs_run(block: Block, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=tmp_path,
        env=environment(tmp_path) | {"PYTHONPATH": str(ROOT / "examples")},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if b.kind == "service"], ids=lambda b: b.id
)
def test_services_load(block: Block, tmp_path: Path) -> None:
    (tmp_path / "gmail.py").write_text(block.text)

    (service,) = load_services(tmp_path)
    assert service.methods()


@pytest.mark.parametrize("block", blocks("json"), ids=lambda b: b.id)
def test_settings_are_understood(block: Block) -> None:
    is_task = "name" in json.loads(block.text)

    msgspec.json.decode(block.text, type=TaskConfig if is_task else ProjectFile)


def test_only_what_installs_is_skipped() -> None:
    skipped = [block for block in blocks("bash", "python") if block.kind == "skip"]

    assert [b.id for b in skipped if not b.text.startswith(INSTALLS)] == []
    assert all(block.note for block in skipped)


def test_comments_are_known() -> None:
    kinds = {block.kind for block in blocks("bash", "python", "json", "text", "mermaid", "toml")}

    assert kinds <= {"", "skip", "server", "exit", "task", "native", "run", "service", "generated"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_generated_parts_are_in_step(page: Path) -> None:
    text = page.read_text()

    assert docs_script().renewed(text) == text, "run `make docs`"


def docs_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_pages_name_no_place_of_one_machine(page: Path) -> None:
    assert ONE_MACHINE.findall(page.read_text()) == []


def test_every_code_of_a_failure_is_explained() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    codes = set(re.findall(r"\bcode(?:: str)? ?= ?\"(\w+)\"", source))

    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [p.name for p in (ROOT / "docs").glob("*.md") if f"docs/{p.name}" not in readme] == []


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^## sequential-ecosystem (\w[\w-]*)$", page_text("cli"), re.MULTILINE)

    assert commands
    assert [command for command in commands if f"`{command}" not in readme] == []


def page_text(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_environment_variables_are_explained() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "sequential").rglob("*.py"))
    read = set(re.findall(r"\"((?:SEQUENTIAL|TASK)_[A-Z_]+)\"", source))

    assert [name for name in read if name not in page_text("configuration")] == []


def test_exit_codes_and_faults_are_those_of_the_code() -> None:
    faults = {kind.fault for kind in vars(errors).values() if hasattr(kind, "fault")}

    assert faults == {"caller", "task", "engine"}

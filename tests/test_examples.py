"""Every example runs, against the practice API beside it, and does what its README line says."""

import hashlib
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from practice_api import PracticeApi

from sequential import Engine, TaskRun, load_settings
from sequential.core.task_graph import machine_of
from sequential.runtimes.sandbox.dry_run import dry_run
from sequential.testing.clock import FakeClock

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/code.py"))
CRM = ["find_customers", "add_note", "count_notes"]


@pytest.fixture
def api() -> Iterator[PracticeApi]:
    server = PracticeApi()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the examples, which are a project of their own."""
    skip = shutil.ignore_patterns("runs", "__pycache__", ".sequential", "crm-notes.json")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=skip))


class Examples:
    def __init__(self, project: Path, api: PracticeApi) -> None:
        self.project = project
        self.api = api
        self.log = ""
        self.operations: list[str] = []
        self.children: Counter[str] = Counter()
        self.started, self.ended = "", ""

    async def run(self, name: str, **given: Any) -> TaskRun:
        """Run a task in a world in which waiting takes no time."""
        return await self._run(name, given)

    async def answered(self, name: str, event: str, data: Any, **given: Any) -> TaskRun:
        """The same for one that was given an event before it asked."""
        return await self._run(name, given, event, data)

    async def _run(
        self, name: str, given: dict[str, Any], event: str = "", data: Any = None
    ) -> TaskRun:
        settings = load_settings(self.project, environment={}, allow_loopback=True)
        settings.defaults["api"] = self.api.url
        async with Engine(settings=settings, clock=FakeClock()) as engine:
            run = await engine.create_run(name, given)
            if event:
                await engine.answer(run.id, event, data)
            run = await engine.resume(run.id)
            self.log = "".join(line.text for line in await engine.get_log(run.id))
            children = await engine.list_children(run.id)
            self.children = Counter(child.task_identifier for child in children)
            self.operations = [call.operation for call in await engine.list_calls(run.id)]
        return run

    async def result(self, name: str, **given: Any) -> Any:
        run = await self.run(name, **given)
        assert run.error is None, str(run.error)
        return run.value


@pytest.fixture
def examples(project: Path, api: PracticeApi) -> Examples:
    return Examples(project, api)


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_finds_nothing(name: str) -> None:
    config = json.loads((EXAMPLES / name / "config.json").read_text())
    names = [field["name"] for field in config["inputs"]]

    assert config["name"] == name
    source = (EXAMPLES / name / "code.py").read_text()
    services, handlers = {"crm": CRM}, graph_handlers(name, source)
    assert dry_run(source, task=name, input_names=names, services=services, handlers=handlers) == []


def graph_handlers(name: str, source: str) -> list[str] | None:
    """The functions that its graph calls, if it has one, which must have no mistake."""
    graph = EXAMPLES / name / "graph.json"
    if not graph.exists():
        return None
    machine = machine_of(graph.read_text(), source, name)
    assert (machine.warnings, machine.notes) == ((), ())
    return [one.handler for one in machine.chart.invocations.values() if one.handler]


def test_every_example_is_tested_and_listed() -> None:
    tests = Path(__file__).read_text()
    readme = (EXAMPLES / "README.md").read_text()

    assert len(NAMES) >= 6
    assert [name for name in NAMES if f'"{name}"' not in tests or f"`{name}`" not in readme] == []


async def test_search_inbox(examples: Examples, api: PracticeApi) -> None:
    result = await examples.result("search-inbox", word="Invoice")

    assert [message["id"] for message in result["messages"]] == [0, 2, 4, 8]
    assert result["messages"][1]["body"] == "About: Your invoice is overdue"
    assert api.requests["GET /messages"] == 3
    assert examples.log.splitlines()[-1] == "page 3: 4 found so far"


async def test_retry_logic(examples: Examples, api: PracticeApi) -> None:
    result = await examples.result("retry-logic")

    assert result == {"attempt": 3, "data": {"served": 3}}
    assert examples.operations == [*("http.fetch", "clock.sleep") * 2, "http.fetch"]


async def test_retry_logic_gives_up(examples: Examples) -> None:
    run = await examples.run("retry-logic", attempts=2)

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "OSError"
    assert "HTTP 503" in run.error.message


async def test_compare_prices(examples: Examples) -> None:
    shops = ["corner", "closed", "market", "online"]
    result = await examples.result("compare-prices", product="kettle", shops=shops)

    assert result["best"] == {"shop": "market", "price": 9.9}
    assert (result["product"], result["in_stock"]) == ("Kettle", 7)
    assert list(result["failed"]) == ["closed"]
    assert "HTTP 410" in result["failed"]["closed"]


async def test_nightly_report(examples: Examples, api: PracticeApi) -> None:
    result = await examples.result("nightly-report", nights=3)

    assert result["reports"] == ["report-1", "report-2", "report-3"]
    days = [body["day"] for body in api.bodies]
    assert days == ["2025-12-31", "2026-01-01", "2026-01-02"]
    assert max(api.keys.values()) == 1


async def test_triage_ticket(examples: Examples, api: PracticeApi) -> None:
    result = await examples.result("triage-ticket", ticket="I was charged twice!")

    assert result == {"queue": "billing", "urgent": True}
    assert api.requests["POST /v1/chat/completions"] == 2
    assert examples.log.startswith("not usable: ")


async def test_greet_customers(examples: Examples, project: Path) -> None:
    result = await examples.result("greet-customers", city="London")

    assert result == {"greeted": ["Ada", "Alan"], "notes": 2}
    notes = json.loads((project / "crm-notes.json").read_text())
    assert [note["customer"] for note in notes.values()] == [1, 3]


async def test_check_download(examples: Examples) -> None:
    digest = hashlib.sha256(b"a.bin" * 20_000).hexdigest()
    result = await examples.result("check-download", files={"a.bin": digest, "b.bin": "0" * 64})

    assert result["ok"] is False
    assert [file["ok"] for file in result["files"]] == [True, False]
    assert result["files"][0]["size"] == 100_000


async def test_notify_webhook(examples: Examples, api: PracticeApi) -> None:
    result = await examples.result("notify-webhook", event={"order": 7})

    assert result == {"delivery": 1, "archive": 2}
    assert api.requests["POST /hooks/orders"] == 2  # the first one found the receiver busy
    assert sorted(api.keys.values()) == [1, 2]
    assert api.keys["order-7"] == 1


async def test_approval(examples: Examples, api: PracticeApi) -> None:
    """With one refused invoice number; the others are paid, each by a run of "pay-invoice"."""
    answer = {"by": "Ann", "ok": True}
    run = await examples.answered("approval", "approval", answer, invoices=[7, "x", 9])

    assert run.value == {"paid": [7, 9], "reason": "approved by Ann"}
    assert examples.operations == ["events.wait", *["tasks.run"] * 3]
    assert examples.children == {"pay-invoice": 3}
    assert api.requests["POST /hooks/payments"] == 2


async def test_approval_refused_or_forgotten(examples: Examples, api: PracticeApi) -> None:
    answer = {"by": "Ann", "ok": False}
    run = await examples.answered("approval", "approval", answer, invoices=[1])
    forgotten = await examples.result("approval", invoices=[1])

    assert run.value == {"paid": [], "reason": "refused by Ann"}
    assert forgotten == {"paid": [], "reason": "nobody answered"}
    assert api.requests["POST /hooks/payments"] == 0


async def test_batch_processing(examples: Examples, api: PracticeApi) -> None:
    """Four states, each of them a run of its own; two of them make one call each."""
    result = await examples.result("batch-processing")

    assert [message["id"] for message in result] == list(range(8))
    assert result[0]["subject"] == "INVOICE 1041"
    assert examples.children == {"batch-processing": 4}
    assert api.requests["GET /messages"] == 2


async def test_conditional_branching(examples: Examples) -> None:
    """A shop that has a price leads to A, one that is closed to B."""
    assert await examples.result("conditional-branching", shop="market") == {
        "path": "A",
        "price": 9.9,
    }
    assert await examples.result("conditional-branching", shop="nowhere") == {
        "path": "B",
        "reason": "closed",
    }


async def test_complex_workflow(examples: Examples, api: PracticeApi) -> None:
    run = await examples.answered("complex-workflow", "APPROVE", {"by": "Ann"}, day="2026-01-31")

    report = {"day": "2026-01-31", "invoices": [0, 2], "total": 131}
    assert run.value == {"report": "report-1", **report}
    assert api.bodies == [report]


async def test_complex_workflow_rejected_forgotten_or_broken(
    examples: Examples, api: PracticeApi
) -> None:
    run = await examples.answered("complex-workflow", "REJECT", None, day="2026-01-31")
    forgotten = await examples.result("complex-workflow", day="2026-01-31")
    by_nobody = {"by": "nobody"}
    run2 = await examples.answered("complex-workflow", "APPROVE", by_nobody, day="2026-01-31")
    broken = await examples.result("complex-workflow", api=f"{api.url}/nothing", day="2026-01-31")

    assert run.value == forgotten == run2.value == {"report": None}
    assert api.requests["POST /reports"] == 0
    assert broken["report"] is None
    assert "HTTP 404" in broken["error"]

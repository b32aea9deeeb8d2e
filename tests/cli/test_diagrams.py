"""`graph`: a task's graph and a run's way through it, as SVG and as Mermaid text."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from support.command_line import Project

GRAPH = {
    "initial": "work",
    "states": {
        "work": {"onDone": "approval", "onError": "failed"},
        "approval": {"on": {"APPROVE": "approved"}, "after": {"86400000": "failed"}},
        "approved": {"type": "final"},
        "failed": {"type": "final"},
    },
}


@pytest.fixture
def order(project: Project) -> Path:
    folder = project.task("order", "def work(input):\n    return {'n': 1}\n")
    (folder / "graph.json").write_text(json.dumps(GRAPH))
    return folder


@pytest.fixture
def waiting(project: Project, order: Path) -> str:
    """A run that waits for an event."""
    project.ok("submit", "order")
    project.ok("worker", "--until-idle")
    (run_id,) = project.run_ids("order")
    return run_id


def test_a_graph_is_drawn_as_text_or_as_a_picture(project: Project, order: Path) -> None:
    text = project.ok("graph", "order").out
    assert text == project.ok("graph", "order", "--mermaid").out
    assert text.startswith("stateDiagram-v2\n")
    assert "s2 --> s4 : after 1 d" in text
    root = ET.fromstring(project.ok("graph", "order", "--svg").out)
    assert root.tag.endswith("svg")
    assert root[0].text == "order"


def test_it_goes_to_a_file(project: Project, order: Path) -> None:
    done = project.ok("graph", "order", "--svg", "--output", "order.svg")
    assert (done.out, done.err) == ("", "written to order.svg\n")
    assert Path("order.svg").read_text().startswith("<svg")
    done = project("graph", "order", "--svg", "--output", "nowhere/order.svg")
    assert done.code == 2
    assert "nowhere/order.svg cannot be written: No such file" in done.err


def test_a_run_is_marked_in_the_graph_that_it_began_with(
    project: Project, order: Path, waiting: str
) -> None:
    (order / "graph.json").write_text('{"initial": "a", "states": {"a": {"type": "final"}}}')
    lines = project.ok("graph", "order", "--run", waiting[:13]).out.splitlines()
    assert "  class s1 visited" in lines
    assert "  class s2 active" in lines
    svg = project.ok("graph", "order", "--run", waiting, "--svg").out
    assert svg.count('class="box active"') + svg.count('class="box visited active"') == 1
    assert svg.count('class="line taken"') == 1


def test_what_has_no_graph_is_not_drawn(project: Project, order: Path, waiting: str) -> None:
    project.task("plain", "def plain(input):\n    return 1\n")
    project.ok("run", "plain")
    done = project("graph", "plain")
    assert (done.code, done.out) == (2, "")
    assert "plain has no graph.json" in done.err
    assert "follows no graph" in project("graph", "plain", "--run", project.run_ids("plain")[0]).err
    assert "did you mean order?" in project("graph", "ordr").err
    assert "there is no run of order" in project("graph", "order", "--run", "ffff").err


def test_a_graph_with_mistakes_is_refused_with_all_of_them(project: Project, order: Path) -> None:
    text = json.dumps(GRAPH).replace('"failed"}', '"faild"}').replace('"initial"', '"intial"')
    (order / "graph.json").write_text(text)
    done = project("graph", "order")
    assert done.code == 2
    assert 'did you mean "failed"?' in done.err
    assert 'did you mean "initial"?' in done.err


def test_the_schema_belongs_to_no_task(project: Project) -> None:
    assert project.ok("graph", "--schema").json["$schema"].endswith("2020-12/schema")
    for wrong in (["graph"], ["graph", "order", "--schema"], ["graph", "--schema", "--run", "1"]):
        assert project(*wrong).code == 2


def test_the_drawings_in_the_documents_are_those_that_are_made(project: Project) -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "graph-diagrams.md").read_text()
    graph, code = re.findall(r"cat > tasks/refund/.*? <<'END'\n(.*?)END\n", page, re.DOTALL)
    (shown,) = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    (project.task("refund", code) / "graph.json").write_text(graph)
    assert project.ok("graph", "refund").out == shown
    assert project.ok("graph", "refund", "--svg").out == (docs / "refund.svg").read_text(), (
        "drawn otherwise now: look whether it is better, and put the new one there"
    )

"""The JSON Schema of graph.json takes what the reader takes, and refuses what is misspelt."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from sequential.cli.graph_schema import FILE_NAME, REFERENCE, keep_schema, schema_text
from sequential.core.model import RetryPolicy
from sequential.core.statechart import vocabulary
from statechart_oracle import features, generator
from support.command_line import Project
from support.drawings import FULFILMENT, Graph

SCHEMA = json.loads(schema_text())
VALIDATOR = Draft202012Validator(SCHEMA)
PARTS = SCHEMA["$defs"]
EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/**/graph.json"))

SIMPLE: Graph = {
    "$schema": REFERENCE,
    "//": "a remark",
    "initial": "work",
    "context": {"n": {"$expr": "input.n"}},
    "states": {
        "work": {"onSuccess": "good", "onFail": ["bad"], "x-colour": "red"},
        "good": {"onDone": [{"target": "end", "guard": {"$expr": "event.output.ok"}}, "bad"]},
        "bad": {"invoke": {"src": "task:mend", "retry": {"max": 2}, "timeoutMs": 5, "onDone": []}},
        "end": {"type": "final", "output": {"$expr": "context.data"}},
    },
}  # fmt: skip


def problems(graph: Any) -> list[str]:
    return [f"{one.json_path}: {one.message}" for one in VALIDATOR.iter_errors(graph)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("graph", [SIMPLE, FULFILMENT], ids=["simple", "general"])
def test_it_takes_graphs(graph: Graph) -> None:
    assert problems(graph) == []


def test_it_takes_the_examples() -> None:
    assert [
        (path, found) for path in EXAMPLES if (found := problems(json.loads(path.read_text())))
    ] == []


def test_it_takes_the_graphs_of_the_tests() -> None:
    cases = [*features.cases(), *map(generator.case, range(150))]
    assert [(case.name, found) for case in cases if (found := problems(case.graph))] == []


def objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all objects whose keys are words of the format."""
    named = ("states", "on", "after", "context", "input", "output", "meta", "params", "tags")
    if isinstance(value, dict):
        if not path or path[-1] not in named:
            yield path
        for key, inner in value.items():
            if key not in ("context", "input", "output", "meta", "params"):
                yield from objects(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects(inner, (*path, index))


@pytest.mark.parametrize("graph", [SIMPLE, FULFILMENT], ids=["simple", "general"])
def test_a_misspelt_word_is_refused_wherever_it_stands(graph: Graph) -> None:
    paths = list(objects(graph))
    assert len(paths) > 5
    for path in paths:
        wrong = copy.deepcopy(graph)
        part = wrong
        for step in path:
            part = part[step]
        part["onErorr"] = "end"
        assert problems(wrong), path


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {},
        {"states": {"a.b": {}}},
        {"states": {"#a": {}}},
        {"states": {"a": {"type": "switch"}}},
        {"states": {"a": {"on": {"": "a"}}}},
        {"states": {"a": {"invoke": {"onDone": "a"}}}},
        {"states": {"a": {"invoke": {"src": "f", "timeoutMs": 0}}}},
        {"states": {"a": {"always": {"guard": {"$expr": "1", "type": "and"}}}}},
        {"states": {"a": {"onDone": {"target": "a", "cond": "x"}}}},
        {"states": {"a": {}}, "context": 3},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: Any) -> None:
    assert problems(wrong)


def test_its_words_are_those_of_the_reader() -> None:
    state = PARTS["state"]["properties"]
    assert set(state) == vocabulary.STATE_KEYS | set(vocabulary.SHORTHAND)
    assert set(SCHEMA["properties"]) == vocabulary.MACHINE_KEYS | set(vocabulary.SHORTHAND)
    assert set(PARTS["transition"]["anyOf"][1]["properties"]) == vocabulary.TRANSITION_KEYS
    assert set(PARTS["invoke"]["properties"]) == vocabulary.INVOKE_KEYS
    assert set(PARTS["action"]["anyOf"][1]["properties"]) == vocabulary.ACTION_KEYS
    assert set(PARTS["guard"]["anyOf"][3]["properties"]) == vocabulary.GUARD_KEYS
    initial = state["initial"]["anyOf"][1]
    assert set(initial["properties"]) == vocabulary.INITIAL_KEYS
    assert set(state["type"]["enum"]) == {*vocabulary.TYPES, "normal"}
    retry = {field.name for field in msgspec.structs.fields(RetryPolicy)} | {"max"}
    assert set(PARTS["retry"]["anyOf"][1]["properties"]) == retry


def test_it_is_found_from_each_graph_of_a_project(tmp_path: Path) -> None:
    task = tmp_path / "tasks" / "order"
    task.mkdir(parents=True)
    kept = keep_schema(task.parent)
    assert (task / REFERENCE).resolve() == kept.resolve()
    assert json.loads(kept.read_text()) == SCHEMA


def test_a_schema_in_the_tasks_folder_is_no_task(project: Project) -> None:
    project.ok("init")
    project.task("one", "def one(input):\n    return 1\n")
    project.ok("graph", "--schema", "--output", f"tasks/{FILE_NAME}")
    assert [task["name"] for task in project.ok("list", "--json").json] == ["one"]
    assert project.ok("run", "one").code == 0


def test_names_are_of_the_same_kinds_as_what_they_stand_for() -> None:
    named: Graph = {
        **SIMPLE,
        "implementations": {
            "guards": {"//": "a remark", "isMany": {"$expr": "context.n > 2"}},
            "actions": {"count": ["log", {"type": "assign", "params": {"n": 1}}]},
            "delays": {"soon": 100, "later": {"$expr": "context.n * 1000"}},
        },
    }
    assert problems(named) == []
    wrongs: list[Graph] = [
        {"guard": {}},
        {"guards": {"is": 1}},
        {"actions": 1},
        {"delays": {"x": "1 d"}},
    ]
    for wrong in wrongs:
        assert problems({**named, "implementations": wrong}) != []

"""A task's graph.json with the functions of its code: what is read, and what is refused."""

import pytest

from sequential.core.statechart.problems import GraphError
from sequential.core.task_graph import machine_of

GRAPH = '{"initial": "a", "states": {"a": {"onDone": "b"}, "b": {"type": "final"}}}'


def refused(graph: str, source: str = "def a(input): pass\n") -> str:
    with pytest.raises(GraphError) as caught:
        machine_of(graph, source, "job")
    return str(caught.value)


def test_functions_of_the_code_are_handlers() -> None:
    machine = machine_of(GRAPH, "async def a(input): ...\ndef _own(): ...\n", "job")
    (invocation,) = machine.chart.invocations.values()
    assert invocation.handler == "a"
    assert "no function named" in refused(GRAPH, "def _a(input): ...\n")


def test_the_function_with_the_name_of_the_task_handles_every_state() -> None:
    source = "def my_job(input): ...\ndef other(input): ...\n"
    (invocation,) = machine_of(GRAPH, source, "my-job").chart.invocations.values()
    assert invocation.handler == "my_job"


def test_a_source_that_cannot_be_parsed_is_not_looked_at_here() -> None:
    (invocation,) = machine_of(GRAPH, "def a(:", "job").chart.invocations.values()
    assert invocation.src == "a"


def test_what_is_no_json_is_refused_with_its_place() -> None:
    assert "this is not JSON" in (found := refused('{"initial": "a",}'))
    assert "line 1 column 17" in found


def test_a_state_that_stands_twice_is_refused() -> None:
    twice = GRAPH.replace('"b": {', '"a": {}, "b": {')
    assert refused(twice) == (
        'graph.json: $: the key "a" stands twice in one object: rename one of them'
    )

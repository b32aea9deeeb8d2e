"""Where a run is and which way it came, from the notes in its journal."""

import json
from typing import Any

import msgspec
import pytest

from sequential.core.diagrams.arrows import arrows_of
from sequential.core.diagrams.marks import Marks, marks_of
from sequential.core.statechart.effects import StepEffect
from sequential.core.statechart.problems import GraphError
from support.drawings import FULFILMENT, chart
from support.statecharts import Run


def steps(run: Run) -> list[dict[str, Any]]:
    found = [one for one in run.effects if isinstance(one, StepEffect)]
    return [json.loads(msgspec.json.encode(one)) for one in found]


def test_a_run_that_has_not_begun_is_nowhere() -> None:
    assert marks_of(chart(FULFILMENT), []) == Marks()


def test_the_way_of_a_run() -> None:
    run = Run(FULFILMENT)
    told = steps(run)
    told += steps(run.send("PICKED"))
    marks = marks_of(run.machine.chart, told)
    stock = "fulfilment.prepare.stock"
    assert f"{stock}.packing.box" in marks.active
    assert "fulfilment.prepare.payment.charging" in marks.active
    assert f"{stock}.picking" in marks.visited - marks.active
    assert marks.active <= marks.visited
    taken = [(one.source.name, one.target.name) for one in
             arrows_of(run.machine.chart, marks) if one.is_taken]  # fmt: skip
    assert taken == [("picking", "packing")]


def test_a_run_that_has_ended_is_where_it_ended() -> None:
    run = Run(FULFILMENT)
    told = [*steps(run), *steps(run.send("CANCEL"))]
    marks = marks_of(run.machine.chart, told)
    assert marks.active == {"fulfilment", "fulfilment.cancelled"}
    assert "fulfilment.prepare" in marks.visited


def test_the_steps_of_another_graph_are_refused() -> None:
    told = steps(Run({"initial": "elsewhere", "states": {"elsewhere": {}}}))
    with pytest.raises(GraphError, match="elsewhere"):
        marks_of(chart(FULFILMENT), told)

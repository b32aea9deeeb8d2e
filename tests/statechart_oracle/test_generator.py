"""The random graphs: the same everywhere, and with something of everything in them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sequential.core.statechart.machine import Machine
from statechart_oracle import generator
from statechart_oracle.golden import recorded
from statechart_oracle.javascript import javascript

CASES = [generator.case(seed) for seed in range(200)]


def parts(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from parts(one)


def test_a_seed_stands_for_the_same_case_everywhere() -> None:
    kept = [one.case for one in recorded() if one.case.name.startswith("seed ")]

    again = [generator.case(int(one.name.removeprefix("seed "))) for one in kept]

    assert again == kept, "the generator is another one: python -m statechart_oracle --record"


def test_there_is_something_of_everything() -> None:
    found: Counter[str] = Counter()
    for part in parts([case.graph for case in CASES]):
        if isinstance(part, dict):
            found.update(part.keys())
            found.update(str(part.get(key)) for key in ("type", "history"))
            found["several targets"] += isinstance(part.get("target"), list)
            found["delayed"] += "delay" in part
    for step in parts([case.steps for case in CASES]):
        found.update(step.keys() if isinstance(step, dict) else ())

    wanted = """
        parallel final history shallow deep initial entry exit onDone after always invoke output
        onError guard and or not stateIn assign raise cancel log reenter * job.* job.ok.* delayed
        send advance resolve reject restart
    """
    rare = {name: found[name] for name in [*wanted.split(), "several targets"] if found[name] < 15}
    assert rare == {}


def test_graphs_are_nested_and_small() -> None:
    machines = [Machine(case.graph, None) for case in CASES]
    depths = Counter(
        max(len(list(state.ancestors())) for state in one.chart.states) for one in machines
    )

    assert min(depths) >= 1
    assert max(depths) == generator.DEEPEST
    assert depths[generator.DEEPEST] > len(CASES) / 2
    assert max(case.size for case in CASES) < 50_000


@pytest.mark.parametrize(
    ("expression", "source"),
    [
        ("context.n + 1", '(h.read(context, "n") + 1)'),
        ("event['a'] == null", '(h.read(event, "a") === null)'),
        ("not true", "!h.truth(true)"),
        ("1 and 2 or 3", "(h.truth((h.truth(1) ? 2 : 1)) ? (h.truth(1) ? 2 : 1) : 3)"),
        ("1 if [] else 2", "(h.truth([]) ? 1 : 2)"),
        ("1 / 0", "h.divide(1, 0)"),
    ],
)
def test_an_expression_in_javascript(expression: str, source: str) -> None:
    assert javascript(expression) == source


@pytest.mark.parametrize("expression", ["len('a')", "1 // 2", "1 < 2 < 3", "1 in [1]"])
def test_what_may_mean_something_else_in_javascript_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="may not mean the same"):
        javascript(expression)

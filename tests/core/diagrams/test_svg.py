"""The SVG of a graph: harmless, on its own in a page, the same every time, readable by all."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.svg import svg
from support.drawings import FULFILMENT, HOSTILE, Graph, all_marked, chart, random_graphs

SPACE = "{http://www.w3.org/2000/svg}"
ELEMENTS = "svg title desc style defs marker path rect g text circle".split()
ATTRIBUTES = (
    "id width height viewBox role aria-labelledby class d x y rx cx cy r refX refY "
    "markerWidth markerHeight markerUnits orient marker-end".split()
)


@pytest.mark.parametrize("graph", [FULFILMENT, HOSTILE, *random_graphs(60)])
def test_it_is_xml_of_few_harmless_elements(graph: Graph) -> None:
    drawn = chart(graph)
    root = ET.fromstring(svg(drawn, all_marked(drawn)))
    for element in root.iter():
        assert element.tag.removeprefix(SPACE) in ELEMENTS
        assert set(element.attrib) <= set(ATTRIBUTES)


def test_hostile_names_are_shown_and_do_nothing() -> None:
    text = svg(chart(HOSTILE))
    assert "<script" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert "&lt;script&gt;alert(1)" in text
    assert text.encode()


def test_nothing_comes_from_elsewhere() -> None:
    text = svg(chart(FULFILMENT)).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "//" not in text
    assert "href" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_drawings_in_one_page_do_not_disturb_one_another() -> None:
    one, other = (svg(chart(graph)) for graph in (FULFILMENT, HOSTILE))
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in (one, other)]
    assert not set(ids[0]) & set(ids[1])
    root = ET.fromstring(one)
    (style,) = [element.text or "" for element in root.iter(f"{SPACE}style")]
    rules = style.replace("@media(prefers-color-scheme:dark){", "").replace("}}", "}")
    selectors = [one for rule in rules.split("}")[:-1] for one in rule.partition("{")[0].split(",")]
    assert len(selectors) > 20
    assert all(selector.startswith(f"#{ids[0][0]} ") for selector in selectors)
    assert set(re.findall(r"url\(#([^)]+)\)", one)) <= set(ids[0])


def test_people_who_hear_it_learn_the_same() -> None:
    marks = Marks(frozenset({"fulfilment", "fulfilment.ship"}))
    root = ET.fromstring(svg(chart(FULFILMENT), marks, "Parcels"))
    title, text = (
        next(one for one in root if one.get("id") == part)
        for part in root.attrib["aria-labelledby"].split()
    )
    assert title.text == "Parcels"
    said = (text.text or "").splitlines()
    assert "A graph of 16 states." in said
    assert "It begins in prepare." in said
    assert "Active: ship." in said
    assert "prepare.stock begins in picking." in said
    assert "prepare.stock.picking leads to refused (after 1 d)." in said


def classes(text: str) -> dict[str, str]:
    """Classes of the boxes, by what their tooltips say."""
    return dict(re.findall(r'<g><title>([^<]+)</title>\n<rect class="([^"]+)"', text))


def test_where_a_run_is_and_was_is_marked() -> None:
    visited = frozenset({"fulfilment.prepare", "fulfilment.ship"})
    taken = frozenset({("fulfilment.prepare", "xstate.done.state.fulfilment.prepare",
                        "fulfilment.ship")})  # fmt: skip
    text = svg(chart(FULFILMENT), Marks(frozenset({"fulfilment.ship"}), visited, taken))
    marked = classes(text)
    assert marked["ship: Hand it over."] == "box visited active"
    assert marked["prepare"] == "box outer visited"
    assert marked["refused"] == "box final"
    assert marked["prepare.payment"] == "box outer region"
    assert text.count('class="line taken"') == 1


def test_the_same_graph_gives_the_same_text_in_every_process() -> None:
    code = (
        "from support.drawings import *; from sequential.core.diagrams.svg import svg; "
        "from sequential.core.diagrams.mermaid import mermaid; import hashlib; "
        "drawn = chart(FULFILMENT); text = svg(drawn, all_marked(drawn)) + mermaid(drawn); "
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    path = [one for one in sys.path if one]
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(path), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1

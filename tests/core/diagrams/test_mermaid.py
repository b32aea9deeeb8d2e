"""The Mermaid text of a graph: what it says, and that Mermaid takes it whatever the names are."""

import json
import subprocess
from pathlib import Path

import pytest

from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.mermaid import mermaid
from support.drawings import FULFILMENT, HOSTILE, Graph, all_marked, chart, random_graphs
from support.npm_packages import node, node_modules

HERE = Path(__file__).parent

EXPECTED = """\
stateDiagram-v2
  [*] --> s1
  state "anywhere" as s0any
  state "prepare" as s1 {
    state "payment" as s2 {
      [*] --> s3
      state "charging" as s3
      s3 : runs charge
      state "paid" as s4
      s4 --> [*]
    }
    --
    state "stock" as s5 {
      [*] --> s6
      state "picking" as s6
      state "packing" as s7 {
        [*] --> s8
        state "box" as s8
        state "tape" as s9
        s9 --> [*]
        state "H" as s10
      }
      state "paused" as s11
      state "packed" as s12
      s12 --> [*]
    }
  }
  state "ship" as s13
  s13 : runs task#58;ship-parcel
  s13 : Hand it over.
  state "delivered" as s14
  s14 --> [*]
  state "refused" as s15
  s15 --> [*]
  state "cancelled" as s16
  s16 --> [*]
  s0any --> s16 : CANCEL
  s1 --> s13 : done
  s3 --> s4 : done
  s3 --> s3 : error [context.n #60; 3]
  s3 --> s15 : error [else]
  s6 --> s7 : PICKED
  s6 --> s15 : after 1 d
  s7 --> s11 : PAUSE
  s7 --> s12 : done
  s8 --> s9 : NEXT
  s8 --> s6 : AGAIN
  s11 --> s10 : GO
  s13 --> s6 : RECALL
  s13 --> s14 : done
  s10 --> s8
  classDef visited stroke:#b45309,stroke-width:2px
  class s3 visited
  classDef active fill:#fde68a,stroke:#b45309,stroke-width:3px,color:#1f2937
  class s13 active
"""


def test_what_it_says() -> None:
    active = frozenset({"fulfilment", "fulfilment.ship"})
    visited = active | {"fulfilment.prepare", "fulfilment.prepare.payment.charging"}
    assert mermaid(chart(FULFILMENT), Marks(active, visited)) == EXPECTED


def test_a_machine_of_regions_is_wrapped_in_a_state() -> None:
    regions: Graph = {"a": {"initial": "x", "states": {"x": {}}}, "b": {}}
    text = mermaid(chart({"id": "both", "type": "parallel", "states": regions}))
    assert text.splitlines()[1:] == [
        '  state "both" as s0 {',
        '    state "a" as s1 {',
        "      [*] --> s2",
        '      state "x" as s2',
        "    }",
        "    --",
        '    state "b" as s3',
        "  }",
    ]


def test_names_cannot_say_anything_to_mermaid() -> None:
    text = mermaid(chart(HOSTILE))
    assert not set(text) & set("<\x1b\u202e\u2028\ud800`\\")
    assert "%%" not in text


@pytest.fixture(scope="module")
def modules() -> Path:
    try:
        node()
        return node_modules("Mermaid", HERE / "mermaid.package.json")
    except LookupError as error:
        pytest.skip(str(error))


def test_mermaid_itself_takes_it(modules: Path) -> None:
    charts = [chart(graph) for graph in (FULFILMENT, HOSTILE, *random_graphs(15))]
    texts = [mermaid(one, all_marked(one)) for one in charts]
    texts.append("stateDiagram-v2\n  state { a --> : b\n")
    done = subprocess.run(
        [node(), HERE / "parse_mermaid.mjs", modules],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *said, of_nonsense = json.loads(done.stdout)
    assert len(said) == 17
    assert [(text, one) for text, one in zip(texts, said, strict=False) if one] == []
    assert "error" in of_nonsense.lower()

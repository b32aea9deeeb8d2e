"""Graphs to draw: one with all kinds of states and ways, one of hostile names, random ones."""

from typing import Any

from sequential.core.diagrams.marks import Marks
from sequential.core.statechart.definition import Chart
from sequential.core.statechart.machine import Machine
from statechart_oracle import generator

Graph = dict[str, Any]

FULFILMENT: Graph = {
    "id": "fulfilment",
    "initial": "prepare",
    "on": {"CANCEL": ".cancelled", "NOTE": {"actions": {"type": "log"}}},
    "states": {
        "prepare": {
            "type": "parallel",
            "onDone": "ship",
            "states": {
                "payment": {
                    "initial": "charging",
                    "states": {
                        "charging": {
                            "invoke": {
                                "src": "charge",
                                "onDone": "paid",
                                "onError": [
                                    {"guard": {"$expr": "context.n < 3"}, "target": "charging"},
                                    "#fulfilment.refused",
                                ],
                            }
                        },
                        "paid": {"type": "final"},
                    },
                },
                "stock": {
                    "initial": "picking",
                    "states": {
                        "picking": {
                            "on": {"PICKED": "packing"},
                            "after": {"86400000": "#fulfilment.refused"},
                        },
                        "packing": {
                            "initial": "box",
                            "states": {
                                "box": {"on": {"NEXT": "tape", "AGAIN": "#fulfilment.prepare"}},
                                "tape": {"type": "final"},
                                "before": {"type": "history", "target": "box"},
                            },
                            "on": {"PAUSE": "paused"},
                            "onDone": "packed",
                        },
                        "paused": {"on": {"GO": "packing.before"}},
                        "packed": {"type": "final"},
                    },
                },
            },
        },
        "ship": {
            "description": "Hand it over.",
            "invoke": {"src": "task:ship-parcel", "onDone": "delivered"},
            "on": {"RECALL": "prepare.stock.picking"},
        },
        "delivered": {"type": "final"},
        "refused": {"type": "final"},
        "cancelled": {"type": "final"},
    },
}

EVIL = "a\"b;c:d#e{f}<g>%h\\i`j&amp;k' --> [*] %%{init}%% \u202e\x1b[31m\u2028 \ud800 </svg>"
HOSTILE: Graph = {
    "id": EVIL,
    "initial": EVIL.replace(".", ""),
    "states": {
        EVIL: {
            "description": f"{EVIL}\n---\n</desc><script>alert(1)</script>",
            "invoke": {"src": EVIL, "onDone": "end"},
            "on": {EVIL.replace("*", ""): "state", "X": {"target": EVIL, "guard": EVIL}},
        },
        **{
            name: {"on": {"E": "end"}}
            for name in ("state", "note", "--", "[*]", "class", "direction", " ", "]]>", "🙂")
        },
        "end": {},
    },
}


def chart(graph: Graph) -> Chart:
    return Machine(graph).chart


def random_graphs(count: int) -> list[Graph]:
    return [generator.case(seed).graph for seed in range(count)]


def all_marked(drawn: Chart) -> Marks:
    ids = frozenset(state.id for state in drawn.states)
    return Marks(ids, ids)

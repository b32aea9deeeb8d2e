"""A case: a graph, the input of its run, and what happens to it afterwards."""

import hashlib
import json
from typing import Any

import msgspec

Graph = dict[str, Any]
# {"send": event} | {"advance": milliseconds} | {"resolve" | "reject": [invocation id, value]}
# | {"restart": True}: the snapshot goes to storage and a new actor takes it from there
Step = dict[str, Any]
# value, context, status, output, error, and the parameters of the `log` actions since the last one;
# what is alive: invocations [id, src, input] and names of timers; history as sorted state ids
Observation = dict[str, Any]


class Case(msgspec.Struct, frozen=True):
    name: str
    graph: Graph
    steps: list[Step]
    input: Any = None

    @property
    def size(self) -> int:
        return len(json.dumps([self.graph, self.steps, self.input]))

    def number(self, below: int, purpose: str) -> int:
        """Drawn from the case itself: the same one for the same purpose, whenever it is asked."""
        digest = hashlib.sha256(f"{purpose} {self.name}".encode()).digest()
        return int.from_bytes(digest[:8]) % below


class Refused(msgspec.Struct, frozen=True):
    """Why one side could not walk through a case at all."""

    reason: str


Walked = list[Observation] | Refused

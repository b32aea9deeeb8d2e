"""Our interpreter and XState, case by case, and the first thing in which they differ."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from statechart_oracle.cases import Case, Observation, Refused, Walked

_TESTS = Path(__file__).parents[1]
_LONGEST = 600  # seconds
_LEGS = 3  # of a walk: each is walked by a process of its own


class Difference(msgspec.Struct, frozen=True):
    """Where the two part: at the start (step 0), after a step, or in that one of them refuses."""

    case: Case
    step: int
    ours: Observation | Refused
    theirs: Observation | Refused

    def __str__(self) -> str:
        steps = [
            f"  {number}. {json.dumps(step)}{'   <-- here' if number == self.step else ''}"
            for number, step in enumerate([{"start": self.case.input}, *self.case.steps])
        ]
        lines = [
            f"{self.case.name}: not what XState does",
            textwrap.indent(json.dumps(self.case.graph, indent=2), "  "),
            *steps,
            *self._sides(),
        ]
        return "\n".join(lines)

    def _sides(self) -> list[str]:
        if isinstance(self.ours, Refused) or isinstance(self.theirs, Refused):
            return [f"  ours: {self.ours}", f"  XState: {self.theirs}"]
        differing = [key for key in self.theirs if self.ours.get(key) != self.theirs[key]]
        return [
            line
            for key in differing
            for line in (
                f"  {key}, ours:   {json.dumps(self.ours.get(key))}",
                f"  {key}, XState: {json.dumps(self.theirs[key])}",
            )
        ]


def walked_by_us(cases: Sequence[Case], *, thorough: bool = False) -> list[Walked]:
    """What our interpreter shows, with two changes of process at points drawn from each case.

    Making the machine anew takes longer than a step, so only every fourth case is walked with one
    for every step, unless it is asked for.
    """
    luggage: list[Any] = [None] * len(cases)
    walked: list[Walked] = [[] for _ in cases]
    cuts = [_cuts(case) for case in cases]
    for number in range(_LEGS):
        lines = [
            {
                "graph": case.graph,
                "input": case.input,
                "steps": case.steps[cut[number] : cut[number + 1]],
                "luggage": carried,
                "anew": thorough or case.number(4, "anew") == 0,
            }
            for case, cut, carried in zip(cases, cuts, luggage, strict=True)
        ]
        for index, answer in enumerate(_leg(lines)):
            so_far = walked[index]
            if isinstance(so_far, Refused):
                continue
            if "refused" in answer:
                walked[index] = Refused(answer["refused"])
            else:
                so_far += answer["seen"]
                luggage[index] = answer["luggage"]
    return walked


def _cuts(case: Case) -> list[int]:
    within = len(case.steps) + 1
    changes = sorted(case.number(within, f"change of process {n}") for n in range(_LEGS - 1))
    return [0, *changes, len(case.steps)]


def _leg(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "statechart_oracle.walk"],
        cwd=_TESTS,
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        check=False,
        text=True,
        timeout=_LONGEST,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines), done.stderr
    return answers


def differences(
    cases: Sequence[Case], ours: Sequence[Walked], theirs: Sequence[Walked]
) -> list[Difference]:
    """The first difference of each case that has one."""
    pairs = zip(cases, ours, theirs, strict=True)
    return [found for case, a, b in pairs if (found := _difference(case, a, b))]


def _difference(case: Case, ours: Walked, theirs: Walked) -> Difference | None:
    if isinstance(ours, Refused) or isinstance(theirs, Refused):
        return Difference(case, 0, _if_refused(ours), _if_refused(theirs))
    assert len(ours) == len(theirs) == len(case.steps) + 1
    restarted = False
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        restarted |= number > 0 and "restart" in case.steps[number - 1]
        a, b = comparable(a, b, restarted=restarted)
        if number == 0 and b["error"] == "thrown":
            return None  # it never was in any state
        if a != b:
            return Difference(case, number, a, b)
        if b["status"] == "error":
            return None  # what an ended machine shows is of no interest
    return None


def _if_refused(walked: Walked) -> Observation | Refused:
    return walked if isinstance(walked, Refused) else {}


def comparable(
    ours: Observation, theirs: Observation, *, restarted: bool
) -> tuple[Observation, Observation]:
    """Both without what XState does not keep, or words differently.

    Its persisted snapshots have no timers. An exception has its own message, and XState has
    already performed the actions before it.
    """
    if restarted:
        ours, theirs = ours | {"timers": []}, theirs | {"timers": []}
    if theirs["error"] == {"thrown": True} and ours["error"] is not None:
        ours, theirs = (side | {"error": "thrown", "trace": []} for side in (ours, theirs))
    return ours, theirs

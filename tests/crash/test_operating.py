"""What happens to runs from outside survives a SIGKILL after every operation of the store.

Whatever was answered is taken once, a call of `run_task` has one child, calls that were completed
are not performed again, and those in progress at the kill are, with the key they had.
"""

import collections
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLAYER = Path(__file__).with_name("operating.py")

RESULTS: dict[str, Any] = {
    "early": [1, 2],
    "parked": [1, 1, 2],
    "driven": [1, 1, 2],
    "late": "late",
    "children": [0, 1, 2],
    "cancelled": None,
    "retried": ["first", "second", "third"],
    "regions": [1, 2, 3, 4],
    "left": "late",
    "events": [1, 2],
}
RESULTS |= {
    f"native-{shape}": RESULTS[shape] for shape in ("parked", "driven", "late", "retried", "left")
}
CHILDREN = {
    "children": [["child", "completed"]] * 3,
    "retried": [["moody", "completed"]],
    "native-retried": [["moody", "completed"]],
    "regions": [["job", "completed"]] * 4,
    "events": [["job", "completed"]],
}
LONGEST = ("children", "retried", "native-driven", "native-retried", "left")
# The longest ones on SQLite, all others on the folder: each store has its own tests for kills.
PLACES = [("sqlite" if one in LONGEST else "default", one) for one in RESULTS]
PLACES.append(("sqlite", "regions"))


def reports(folder: Path, adaptor: str, shape: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(PLAYER), str(folder), adaptor, shape]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("adaptor", "shape"), PLACES)
def test_what_comes_from_outside_survives_a_kill_after_every_operation(
    tmp_path: Path, adaptor: str, shape: str
) -> None:
    seen = reports(tmp_path / "project", adaptor, shape)
    undisturbed = performed(seen[-1])
    for report in seen:
        at = f"killed after {report['boundary']} (operation {report['n']})"
        status = "cancelled" if shape == "cancelled" else "completed"
        assert (report["status"], report["result"]) == (status, RESULTS[shape]), (at, report)
        assert report["events"] == 0, at
        check_children(report, shape, at)
        check_deliveries(report, at)
        check_performed(performed(report), undisturbed, at)
    assert {"claim", "commit"} <= {report["boundary"] for report in seen}
    assert seen[-1]["boundary"] == ""


def check_children(report: dict[str, Any], shape: str, at: str) -> None:
    """One child for each call, unless this was given up before it was performed."""
    if shape == "cancelled":
        assert {tuple(child) for child in report["children"]} <= {("waits", "cancelled")}, at
        assert len(report["children"]) <= 2, at
    elif shape.endswith("left"):  # a late timer may be quicker than the handler
        ended = [status for _, status in report["children"]]
        assert ended in (["cancelled", "completed"], ["completed"]), at
    else:
        assert report["children"] == CHILDREN.get(shape, []), at


def check_deliveries(report: dict[str, Any], at: str) -> None:
    """Every outcome of a run that has completed was delivered once."""
    if report["status"] == "completed":
        known = [(turn, order) for _, _, turn, order in report["calls"]]
        assert None not in [turn for turn, _ in known], at
        places = [(turn, order) for turn, order in known if order is not None]  # not given up
        assert len(set(places)) == len(places), at


def performed(report: dict[str, Any]) -> dict[str, list[str]]:
    """What a call was given -> the keys it was performed with."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for _, argument, key in report["noted"]:
        found[str(argument)].append(key)
    return found


def check_performed(made: dict[str, list[str]], expected: dict[str, list[str]], at: str) -> None:
    """Calls are performed again only if they were in progress, and with the same key."""
    assert made.keys() == expected.keys(), at
    assert all(len(set(keys)) == 1 for keys in made.values()), (at, made)
    again = {name: len(keys) - len(expected[name]) for name, keys in made.items()}
    assert all(times in (0, 1) for times in again.values()), (at, again)
    assert sum(again.values()) <= 2, (at, again)

"""A run is killed with SIGKILL at every boundary of its turns, and ends as if nothing had happened.

The store's own rule: an outcome is delivered once, a call that was completed is never performed
again, and a call that was in progress at the kill is performed again with the same key.
"""

import collections
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.http_api import HttpApi, serve

DRIVER = Path(__file__).with_name("driver.py")

RESULTS = {
    "sequential": ([200, 200, 200], "call 0\ncall 1\ncall 2\n"),
    "parallel": ([200, 200, 200], ""),
    "sleeping": (200, "slept\n"),
    "retrying": (200, "dropped\n"),
    "native-parallel": ([200, 200, 200], ""),
    "native-library": ([True, True, 200], "too long\n"),
    "steps": ([200, 200], ""),
    "native-regions": ([200, 200], ""),
    "native-timers": (200, ""),
}
GRAPHS = ("steps", "native-regions", "native-timers")
IN_PROGRESS = {"parallel": 3, "native-parallel": 3, "native-regions": 2}  # else 1


def reports(folder: Path, shape: str, url: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(DRIVER), str(folder), shape, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def requests_of(api: HttpApi, mark: str) -> dict[str, list[str]]:
    """Path -> the idempotency keys its requests carried, for the run with this mark."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for request in api.requests:
        if f"mark={mark}" in request.query.split("&"):
            path = request.path.partition("?")[0].replace(mark, "MARK")
            found[path].append(request.headers.get("idempotency-key", ""))
    return found


@pytest.mark.parametrize("shape", sorted(RESULTS))
def test_a_run_survives_a_kill_at_every_boundary(tmp_path: Path, shape: str) -> None:
    with serve() as api:
        seen = reports(tmp_path / "project", shape, api.url)
        result, log = RESULTS[shape]
        undisturbed = requests_of(api, seen[-1]["mark"])
        for report in seen:
            at = f"killed {report['boundary']} (boundary {report['n']})"
            assert report["status"] == "completed", (at, report["error"])
            assert report["result"] == result, at
            assert report["log"] == log, at
            check_deliveries(report, at)
            made = requests_of(api, report["mark"])
            check_requests(made, undisturbed, IN_PROGRESS.get(shape, 1), at)
    boundaries = {report["boundary"].rstrip("0123456789 ") for report in seen}
    assert {"before write", "before fdatasync", "before replace"} <= boundaries
    if shape not in GRAPHS:
        assert {"after write", "after fdatasync"} <= boundaries
    if shape in ("sequential", "retrying"):  # in the others the order of boundaries varies
        assert {"before call", "in call", "after call"} <= boundaries
    assert seen[-1]["boundary"] == ""


def check_deliveries(report: dict[str, Any], at: str) -> None:
    """Every outcome has exactly one place in the order of deliveries.

    What a graph notes, and what it gives up, is delivered in no order.
    """
    calls = report["calls"]
    assert [call[0] for call in calls] == list(range(len(calls))), at
    assert None not in [turn for *_, turn, _ in calls], at
    is_given = [call for call in calls if call[2] != "cancelled" and call[1] != "graph.step"]
    places = [(turn, order) for *_, turn, order in is_given]
    assert None not in [order for _, order in places], at
    assert len(set(places)) == len(is_given), at


def check_requests(
    made: dict[str, list[str]], expected: dict[str, list[str]], in_progress: int, at: str
) -> None:
    """Only a call in progress at the kill is made again, and its key is the same."""
    assert made.keys() == expected.keys(), at
    assert all(len(set(keys)) == 1 for keys in made.values()), (at, made)
    again = {path: len(keys) - len(expected[path]) for path, keys in made.items()}
    assert all(times in (0, 1) for times in again.values()), (at, again)
    assert sum(again.values()) <= in_progress, (at, again)

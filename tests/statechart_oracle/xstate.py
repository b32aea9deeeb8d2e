"""XState walks through cases: the same machines, as JavaScript, on a clock that the steps move."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from statechart_oracle.cases import Case, Refused, Walked
from statechart_oracle.javascript import translated
from support.npm_packages import node, node_modules

_SCRIPT = Path(__file__).with_name("observe.cjs")
_PACKAGES = Path(__file__).with_name("xstate.package.json")
_DIGEST = (
    "c8506f0c715ec94b7b979bd0cc9c6c227c4a32489baf702bc61b906371e93565"  # what was compared with
)
_LONGEST = 600  # seconds


def package() -> Path:
    """XState's folder, installed if need be; raises `LookupError` that says why there is none."""
    folder = node_modules("XState", _PACKAGES) / "xstate"
    sources = sorted((folder / "dist").glob("*.cjs.js"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if digest != _DIGEST:
        raise AssertionError(f"{folder} is not the XState that it should be: remove it")
    return folder


def walked_by_xstate(cases: Sequence[Case], *, entered_order: bool = False) -> list[Walked]:
    """What XState shows after the start and every step of each case.

    In document order, which SCXML asks for and we keep, unless the order in which states were
    entered is asked for, which is XState's own.
    """
    lines = [
        {"config": translated(case.graph), "input": case.input, "steps": case.steps}
        for case in cases
    ]
    done = subprocess.run(
        [node(), _SCRIPT, package(), *(["entered"] if entered_order else [])],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        check=False,
        text=True,
        timeout=_LONGEST,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), done.stderr
    return [Refused(a["refused"]) if "refused" in a else a["seen"] for a in answers]

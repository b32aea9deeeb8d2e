"""Recorded walks: what XState showed once, to be compared with wherever there is no Node.

A line of the file, which is compressed, is a case and the observations of XState.
"""

import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import msgspec

from statechart_oracle.cases import Case, Walked

FILE = Path(__file__).with_name("golden.jsonl.xz")


class Recorded(msgspec.Struct, frozen=True):
    case: Case
    seen: list[dict[str, object]]


def record(cases: Sequence[Case], walked: Sequence[Walked]) -> int:
    """Writes the file; returns its size in bytes."""
    lines = [
        json.dumps({"case": msgspec.to_builtins(case), "seen": seen}, separators=(",", ":"))
        for case, seen in zip(cases, walked, strict=True)
    ]
    packed = lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    return FILE.write_bytes(packed)


def recorded() -> list[Recorded]:
    lines = lzma.decompress(FILE.read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Recorded) for line in lines]

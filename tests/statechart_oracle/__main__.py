"""Compare the interpreter of state graphs with XState: `make oracle`.

python -m statechart_oracle [--machines N] [--seed S] [--thorough] [--entered] [--record]
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from statechart_oracle import features, generator, golden
from statechart_oracle.cases import Case, Refused
from statechart_oracle.comparison import Difference, differences, walked_by_us
from statechart_oracle.shrinking import shrunk
from statechart_oracle.xstate import walked_by_xstate

_AT_ONCE = 250
_RECORDED, _RECORDED_FROM = 500, 1_000_000  # seeds of the recording


def main() -> int:
    options = _options()
    if options.record:
        return _record()
    first = random.randrange(10**9) if options.seed is None else options.seed
    cases = [*features.cases(), *(generator.case(first + n) for n in range(options.machines))]
    begun = time.monotonic()

    def part(begin: int) -> tuple[int, list[Difference]]:
        some = cases[begin : begin + _AT_ONCE]
        theirs = walked_by_xstate(some, entered_order=options.entered)
        seen = sum(0 if isinstance(one, Refused) else len(one) for one in theirs)
        return seen, differences(some, walked_by_us(some, thorough=options.thorough), theirs)

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(part, range(0, len(cases), _AT_ONCE)))
    found = [one for _, some in parts for one in some]
    print(
        f"{len(cases)} machines (--seed {first}), {sum(seen for seen, _ in parts)} observations, "
        f"{len(found)} differences, {time.monotonic() - begun:.0f} s"
    )
    if found and not options.entered:
        print(shrunk(min(found, key=lambda one: one.case.size), compare))
    return 1 if found else 0


def compare(cases: Sequence[Case]) -> list[Difference]:
    return differences(cases, walked_by_us(cases), walked_by_xstate(cases))


def _record() -> int:
    """Write the recording anew: after a change of the generator, or of the release of XState."""
    seeds = range(_RECORDED_FROM, _RECORDED_FROM + _RECORDED)
    cases = [*features.cases(), *map(generator.case, seeds)]
    print(f"{golden.record(cases, walked_by_xstate(cases))} bytes in {golden.FILE.name}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="statechart_oracle")
    parser.add_argument("--machines", type=int, default=5000)
    parser.add_argument("--seed", type=int, help="of the first; drawn by lot otherwise")
    parser.add_argument(
        "--thorough", action="store_true", help="make a new machine for every step of every walk"
    )
    parser.add_argument(
        "--entered", action="store_true", help="with simultaneous transitions in XState's order"
    )
    parser.add_argument("--record", action="store_true", help="write golden.jsonl.xz")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

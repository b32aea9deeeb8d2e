"""How large a graph and what it computes may become.

Strangers may have written a graph, and the host interprets it. Each bound answers an attack that
worked without it; each is far beyond what people write.
"""

import math
from typing import Any

MAX_STATES = 5_000  # of one graph
MAX_DEPTH = 50  # states inside states
MAX_NESTING = 150  # JSON inside JSON, anywhere in a graph

MAX_NAMED = 100_000  # actions for which names stand, wherever they are used

MAX_SOURCE = 1_000  # characters of one expression
MAX_EXPRESSION_DEPTH = 50
MAX_NUMBER = 2**63  # exclusive, both signs; floats only have to be finite
MAX_TEXT = 1_000_000  # characters that an expression may build
MAX_ITEMS = 100_000  # values that a list or an object may hold, counted all the way down

MAX_MICROSTEPS = 1_000  # of one macrostep
MAX_QUEUED = 1_000  # events that are raised and not taken yet
MAX_ENTERED = 50_000  # states that one macrostep may enter
MAX_EFFECTS = 50_000  # of one macrostep
MAX_BUILT = 1_000_000  # items that all assignments of one macrostep may build
MAX_TIMERS = 1_000  # delayed events that wait at a time
MAX_DELAY = 2**53  # milliseconds


def bounded(value: Any) -> Any:
    """The value itself, if it is small enough to be kept as JSON; else `ValueError`."""
    measure(value)
    return value


def measure(value: Any) -> int:
    """How many items the value holds, all the way down; `ValueError` if it is too large."""
    if isinstance(value, list | dict):
        return _measure_tree(value)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"the text is longer than {MAX_TEXT} characters")
    if not isinstance(value, str):
        check_number(value)
    return 1


def check_number(value: Any) -> None:
    """Raise `ValueError` for a number that is not kept exactly by every JSON reader."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("the result is not a finite number")
    elif isinstance(value, int) and not -MAX_NUMBER < value < MAX_NUMBER:
        raise ValueError("the number is too large")


def _measure_tree(value: list[Any] | dict[str, Any]) -> int:
    items, text, stack = 0, 0, [value]
    while stack:
        one: Any = stack.pop()
        items += 1
        if isinstance(one, str):
            text += len(one)
        elif isinstance(one, list | dict):
            if items + len(stack) + len(one) > MAX_ITEMS:
                raise ValueError(f"the value has more than {MAX_ITEMS} items")
            stack.extend(one.values() if isinstance(one, dict) else one)
        if text > MAX_TEXT:
            raise ValueError(f"the value has more than {MAX_TEXT} characters")
    return items

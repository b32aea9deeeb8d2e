"""Times in a graph: milliseconds, written as a number, or as a text where a key has to be one."""

import re

_MILLISECONDS = re.compile(r"[0-9]+(\.[0-9]+)?\Z")
_LONGEST = 20


def milliseconds(text: str) -> float | None:
    """The number that the text is; None for a name."""
    if not _MILLISECONDS.match(text) or len(text) > _LONGEST:
        return None
    exact = float(text)
    return int(exact) if exact == int(exact) else exact

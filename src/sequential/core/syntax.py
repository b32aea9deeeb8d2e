"""Parsing Python, also in several threads at a time."""

import ast

_ATTEMPTS = 10


def parse(source: str, filename: str = "<unknown>") -> ast.Module:
    """What `ast.parse` gives.

    CPython 3.11 counts how deep it is for all threads together, and raises `SystemError` when two
    are at it (python/cpython#106905); the source is fine then, and is parsed again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(source, filename)
        except SystemError:
            continue
    return ast.parse(source, filename)

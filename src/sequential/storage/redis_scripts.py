"""The operations of the Redis store, each a Lua script that the server runs as one command."""

import functools
import hashlib
from importlib import resources
from typing import NamedTuple

# What a script needs besides the text of its own operation.
_CLAIMING = ("claim", "claim_due", "wakeups", "next_wakeup")


class Script(NamedTuple):
    """A script and the name under which the server remembers it."""

    name: str
    text: bytes
    digest: str


@functools.cache
def script(name: str) -> Script:
    parts = ["prelude", *(["claiming"] if name in _CLAIMING else []), name]
    folder = resources.files("sequential.storage") / "lua"
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in parts)
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())

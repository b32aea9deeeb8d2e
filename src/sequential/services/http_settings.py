"""What an operator decides about the HTTP calls of all tasks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal

import msgspec

# (host, port) -> addresses as text. The seam for tests and for hosts with their own DNS; whatever
# it answers is still judged by the address guard.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


Seconds = Annotated[float, msgspec.Meta(gt=0)]
NoneOrMore = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and permissions: times in seconds, sizes in bytes."""

    timeout: Seconds = 60.0  # of a whole fetch, redirects and body included
    connect_timeout: Seconds = 10.0  # of one connection, TLS included
    body_limit: Count = 32 * 1024 * 1024  # of an answer's body after decompression
    max_redirects: NoneOrMore = 10
    max_connections: Count = 500  # open at a time, a shell's usual limit is 1024 files
    per_host: Count | None = None  # requests at a time to one host, of one process; None: no limit
    allow_private: bool = False  # private networks and loopback, for every task
    # This machine; "own": but for tasks and runs that came over HTTP, or within other bounds.
    allow_loopback: bool | Literal["own"] = False
    user_agent: str = "sequential-ecosystem"

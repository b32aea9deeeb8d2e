"""What an operator decides about the HTTP calls of all tasks."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

# (host, port) -> addresses as text. The seam for tests and for hosts with their own DNS; whatever
# it answers is still judged by the address guard.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and permissions: times in seconds, sizes in bytes."""

    timeout: float = 60.0  # of a whole fetch, redirects and body included
    connect_timeout: float = 10.0  # of one connection, TLS included
    body_limit: int = 32 * 1024 * 1024  # of an answer's body after decompression
    max_redirects: int = 10
    max_connections: int = 500  # open at a time, a shell's usual limit is 1024 files
    allow_private: bool = False  # private networks and loopback, for every task
    allow_loopback: bool = False
    user_agent: str = "sequential-ecosystem"

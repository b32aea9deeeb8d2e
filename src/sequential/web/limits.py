"""How much a server takes: requests a second, and bytes of each."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from litestar.types import HTTPReceiveMessage, Receive, Scope

from sequential.web.errors import Refused

LONGEST_URL = 8 << 10  # bytes of path and query
LARGEST_HEADERS = 32 << 10  # bytes of all headers together
MOST_SENDERS = 10_000  # that are remembered; who has been silent longest is forgotten


class Rate:
    """A token bucket for each sender: `rate` a second, and `burst` at once after a pause."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def wait(self, sender: str, rate: float, burst: float, cost: float = 1.0) -> float:
        """Take `cost`; 0 if it was there, else the seconds until it is, and nothing is taken."""
        now = self._clock()
        left = self.left(sender, rate, burst)
        is_enough = left >= cost
        self._buckets[sender] = (left - cost if is_enough else left, now)
        self._buckets.move_to_end(sender)
        if len(self._buckets) > MOST_SENDERS:
            self._buckets.popitem(last=False)
        return 0.0 if is_enough else (cost - left) / rate

    def left(self, sender: str, rate: float, burst: float) -> float:
        """What is there for a sender."""
        left, then = self._buckets.get(sender, (burst, 0.0))
        return min(burst, left + max(0.0, self._clock() - then) * rate)


def refuse_fast(seconds: float, what: str) -> Refused:
    """The answer to a sender who has to wait."""
    after = str(max(1, math.ceil(seconds)))
    return Refused(
        429, "rate_limited", f"too many {what}", f"try again in {after} s", Retry_After=after
    )


def sender_of(address: str) -> str:
    """What is counted for an address: of IPv6 the network, as each machine has a whole one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def check_sizes(scope: Scope, largest_body: int) -> None:
    """Refuse a request for what its head says, before anything of its body is read."""
    path = scope.get("raw_path") or b""
    if len(path) + len(scope["query_string"]) > LONGEST_URL:
        raise Refused(414, "too_large", "the address is longer than this server takes")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS:
        raise Refused(431, "too_large", "the headers are larger than this server takes")
    length = dict(scope["headers"]).get(b"content-length", b"")
    # What is no number is refused by the protocol, or counted as it comes.
    if length.isdigit() and int(length[:20]) > largest_body:
        raise body_too_large(largest_body)


def bounded(receive: Receive, largest: int) -> Receive:
    """`receive` that refuses a body as soon as more than `largest` bytes of it have come."""
    taken = 0

    async def receive_bounded() -> HTTPReceiveMessage:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > largest:
                raise body_too_large(largest)
        return message  # type: ignore[return-value]

    return receive_bounded


def body_too_large(largest: int) -> Refused:
    message = f"the body is larger than the {largest} bytes that this server takes"
    return Refused(413, "too_large", message, Connection="close")

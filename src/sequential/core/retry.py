"""When a call that failed is tried again."""

import hashlib

from sequential.core.model import RetryPolicy


def next_delay(
    policy: RetryPolicy,
    attempts: int,
    key: str,
    *,
    retry_after: float | None = None,
    retries: int | None = None,
) -> float | None:
    """Seconds to wait after `attempts` attempts, or None when there shall be no other.

    Exponential, cut at `policy.max_delay`, spread by `policy.jitter`. The spread is derived from
    `key`, so that a replay sees the same times. A `retry_after` from the other side, in seconds, is
    honoured even when it is longer; `retries` overrides the policy's number for one call.
    """
    allowed = policy.retries if retries is None else retries
    if attempts > allowed:
        return None
    try:
        backoff = min(policy.max_delay, policy.delay * float(policy.factor) ** (attempts - 1))
    except OverflowError:
        backoff = policy.max_delay if policy.delay > 0 else 0.0
    spread = backoff * (1 + policy.jitter * (2 * _fraction(f"{key}:{attempts}") - 1))
    return max(0.0, spread, retry_after or 0.0)


def _fraction(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32

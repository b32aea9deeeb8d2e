"""Settings of the runner that operators may want to change; the defaults suit one machine."""

import msgspec

from sequential.core.model import RetryPolicy


class RunnerSettings(msgspec.Struct, frozen=True):
    """Times in seconds."""

    retry: RetryPolicy = RetryPolicy()  # of tasks that have none of their own
    timeout: float | None = None  # of tasks that have none of their own
    live_programs: int = 8  # programs in memory at a time; others wait or are snapshots
    calls: int = 100  # calls performed at a time
    park_after: float = 5.0  # a wait longer than this gives the run back to storage
    idle_after: float = 0.25  # a program that waits this long for a call leaves memory
    snapshot_every: int = 20  # turns; fewer never cost more to replay than a snapshot to take
    lease: float = 60.0  # how long a worker that says nothing keeps its runs
    deaths: int = 3  # a run that ends its sandbox process so often without progress fails

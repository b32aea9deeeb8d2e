"""Settings of the runner that operators may want to change; the defaults suit one machine."""

from typing import Annotated

import msgspec

from sequential.core.model import RetryPolicy

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class RunnerSettings(msgspec.Struct, frozen=True):
    """Times in seconds."""

    retry: RetryPolicy = RetryPolicy()  # of tasks that have none of their own
    timeout: Positive | None = None  # of tasks that have none of their own
    live_programs: Count = 8  # programs in memory at a time; others wait or are snapshots
    calls: Count = 100  # calls performed at a time
    park_after: Seconds = 5.0  # a wait longer than this gives the run back to storage
    idle_after: Seconds = 0.25  # a program that waits this long for a call leaves memory
    snapshot_every: Count = 50  # turns; fewer never cost more to replay than a snapshot to take
    lease: Positive = 60.0  # how long a worker that says nothing keeps its runs
    sweep: Positive | None = None  # between two looks for work; None: what suits the store
    deaths: Count = 3  # a run that ends its sandbox process so often without progress fails
    native: bool = True  # whether this process runs native tasks: code that may do anything

"""Records to try a store with: runs, calls, and texts and values that are hard to keep."""

import random
from typing import Any

import msgspec

from sequential.core import ids, times
from sequential.core.model import (
    Allow,
    CallStatus,
    Frame,
    InputField,
    RunEvent,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)

NOW = "2026-03-01T12:00:00.123Z"
SOON = "2026-03-01T12:01:00.123Z"
LATER = "2026-03-01T13:00:00.000Z"

TEXTS = [
    "",
    'it\'s "quoted" \\ `back` %s $1 {x} ; DROP TABLE task_runs; --',
    "line\nline\r\n\ttab\x00nul\x1b[31m\x7f\u2028\ufeff",
    "naïve café 東京 \U0001f40d \u202eright-to-left e\u0301",
    '","crc":"00000000"}\n{"$payload": {"file": "../../etc/passwd"}}',
    "0123456789" * 10_000,
]
SHORT_TEXTS = [text for text in TEXTS if len(text) < 1000]
TREES: list[Any] = [
    None,
    *(False, 0, 0.0, "", [], {}, True, 1, 1.0, -0.0, 1e300, 5e-324, 2**53 + 1, -(2**70)),
    {"b": 1, "a": {"": [None, {"$bytes": "AAE="}]}, "id": "x", "$payload": {"file": "x"}},
    {"$payload": {"file": "run-input.json", "size": 1, "sha256": "00"}},
    *({text: [text]} for text in TEXTS),
]


def new_run(number: int = 0, **changes: Any) -> TaskRun:
    """A run as it is before anybody has driven it; later numbers have later ids."""
    at = times.after(NOW, number)
    run = TaskRun(
        id=ids.run_id(1_770_000_000_000 + number, random.randbytes(10)),  # noqa: S311
        task_identifier="my-task",
        status=Status.PENDING,
        input={"userId": "123"},
        created_at=at,
        updated_at=at,
        config=TaskConfig("my-task", inputs=(InputField("userId"),), allow=Allow(hosts=("a.b",))),
        code="async def my_task(userId):\n    return userId\n",
    )
    return evolve(run, **changes)


def new_call(run: TaskRun, sequence: int, **changes: Any) -> StackRun:
    """A call that was asked for in the turn after its number and is being performed."""
    call = StackRun(
        id=ids.stack_run_id(run.id, sequence),
        task_run_id=run.id,
        operation="http.fetch",
        status=CallStatus.IN_PROGRESS,
        input={"url": "https://example.com", "sequence": sequence},
        created_at=times.after(NOW, sequence),
        updated_at=times.after(NOW, sequence),
        sequence=sequence,
        fingerprint="0123456789abcdef",
        where=Frame("code.py", sequence + 1, 4, "my_task", "await fetch(url)"),
        requested_turn=sequence + 1,
    )
    return evolve(call, **changes)


def delivered(call: StackRun, turn: int, **changes: Any) -> StackRun:
    """The call, completed and delivered in `turn`."""
    done: dict[str, Any] = {
        "status": CallStatus.COMPLETED,
        "result": {"status": 200},
        "delivered_turn": turn,
        "delivered_order": 0,
        "delivered_at": NOW,
        "duration": 0.25,
        "attempts": 1,
    }
    return evolve(call, **{**done, **changes})


def text_of(record: Any) -> bytes:
    """A record as text: unlike `==`, this tells 1 from True and sees the order of keys."""
    return msgspec.json.encode(record)


def answer(number: int = 0, **changes: Any) -> RunEvent:
    """An answer from outside, as it waits for the program to take it."""
    event = RunEvent(f"event-{number}", "approved", NOW, {"by": "Ada", "number": number})
    return evolve(event, **changes)

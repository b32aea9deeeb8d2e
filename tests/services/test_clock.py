from datetime import timedelta
from typing import Any

import pytest

from sequential.services.base import CallContext, CallError
from sequential.services.clock import ClockService

CONTEXT = CallContext("run", "task", 0, 1, "key")


@pytest.mark.parametrize(
    ("args", "kwargs", "seconds"),
    [
        ([0], {}, 0),
        ([1.5], {}, 1.5),
        ([], {"seconds": 86400 * 365}, 86400 * 365),
        ([], {"delay": 2}, 2),
    ],
)
async def test_sleep(args: list[Any], kwargs: dict[str, Any], seconds: float) -> None:
    clock = ClockService()
    assert clock.due_after("sleep", args, kwargs) == seconds
    assert await clock.call("sleep", args, kwargs, CONTEXT) is None


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([-1], {}),
        ([float("nan")], {}),
        ([float("inf")], {}),
        ([10**400], {}),
        (["1"], {}),
        ([True], {}),
        ([None], {}),
        ([timedelta(1)], {}),
        ([], {}),
        ([1, 2], {}),
        ([1], {"seconds": 1}),
        ([], {"minutes": 1}),
    ],
)
async def test_what_is_no_time_is_due_at_once_and_refused(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    clock = ClockService()
    assert clock.due_after("sleep", args, kwargs) == 0
    with pytest.raises(CallError) as error:
        await clock.call("sleep", args, kwargs, CONTEXT)
    assert error.value.failure.type == "ValueError"


async def test_there_is_no_other_method() -> None:
    assert ClockService().due_after("slep", [5], {}) == 0
    with pytest.raises(CallError, match="did you mean 'sleep'"):
        await ClockService().call("slep", [5], {}, CONTEXT)

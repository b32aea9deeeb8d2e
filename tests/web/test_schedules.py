"""Schedules over HTTP."""

from typing import Any

import httpx
import pytest

from sequential.core.model import TaskConfig
from sequential.core.schedule import Schedule
from sequential.runner.engine import Engine
from web.test_runs import API

PLACE = f"{API}/schedules/hello/nightly"
NIGHTLY = {"cron": "0 3 * * *", "time_zone": "Europe/Berlin", "input": {"name": "Ada"}}


async def test_a_schedule_is_kept_listed_and_removed(client: httpx.AsyncClient) -> None:
    made = await client.put(PLACE, json=NIGHTLY)
    assert made.status_code == 201
    schedule = made.json()["schedule"]
    assert schedule == {
        "name": "nightly",
        "every": None,
        "catch_up": "one",
        "enabled": True,
        "start": None,
        **NIGHTLY,
    }
    assert made.json()["next"] is not None
    again = await client.put(PLACE, json={"every": "15m", "input": {"name": "Bob"}})
    assert (again.status_code, again.json()["schedule"]["every"]) == (200, "15m")
    assert (await client.get(PLACE)).json() == again.json()
    for query in ({}, {"task": "hello"}):
        listed = await client.get(f"{API}/schedules", params=query)
        assert listed.json() == {"items": [again.json()], "next": None}
    assert (await client.get(f"{API}/schedules", params={"task": "approval"})).json()["items"] == []
    assert (await client.delete(PLACE)).status_code == 204
    gone = await client.delete(PLACE)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "schedule_not_found")


async def test_those_of_config_json_are_listed_and_not_removed(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    config = TaskConfig("failing", schedules=(Schedule("often", every=60.0),))
    await engine.store_task("failing", "def failing(): pass", config)
    (listed,) = (await client.get(f"{API}/schedules")).json()["items"]
    assert (listed["task"], listed["origin"]) == ("failing", "config.json")
    refused = await client.delete(f"{API}/schedules/failing/often")
    assert refused.status_code == 404
    assert "config.json" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "cron"),
        ({"cron": "61 * * * *"}, 400, "minute"),
        ({"cron": "* * * * *", "time_zone": "Berlin"}, 400, "time_zone"),
        ({"every": "15m"}, 400, '"name" (string) is missing'),
        ({"every": "15m", "catch_up": "some"}, 400, "catch_up"),
        ({"every": "15m", "evry": 1}, 400, "evry"),
    ],
)
async def test_a_schedule_that_cannot_be_is_not_kept(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, told: str
) -> None:
    refused = await client.put(PLACE, json=body)
    assert refused.status_code == status
    assert told in refused.json()["error"]["message"]
    assert (await client.get(f"{API}/schedules")).json()["items"] == []


async def test_a_schedule_needs_its_task(client: httpx.AsyncClient) -> None:
    refused = await client.put(f"{API}/schedules/nobody/nightly", json=NIGHTLY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "task_not_found")

"""A run that lasts for days and costs nothing while it waits.

`asyncio.sleep` is written down with the time it ends, so the process may stop, the machine may be
replaced, and the run still wakes at two. Times are UTC.
"""

import asyncio
from datetime import datetime, timedelta, timezone


async def nightly_report(api, nights):
    reports = []
    for _ in range(nights):
        await asyncio.sleep(seconds_until_two())
        day = (now() - timedelta(days=1)).date().isoformat()
        response = await fetch(f"{api}/sales", params={"day": day})
        sales = response.raise_for_status().json()
        posted = await fetch(
            f"{api}/reports",
            method="POST",
            json={"day": day, "total": sales["total"], "orders": len(sales["orders"])},
        )
        reports.append(posted.raise_for_status().json()["id"])
        print(f"reported {day}: {sales['total']}")
    return {"reports": reports}


def seconds_until_two():
    two = now().replace(hour=2, minute=0, second=0, microsecond=0)
    if two <= now():
        two += timedelta(days=1)
    return (two - now()).total_seconds()


def now():
    return datetime.now(timezone.utc)

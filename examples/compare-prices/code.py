"""Fan out and in again: `gather` for calls that must all work, `settle` for those that may fail.

The calls run at the same time, and each answer is kept by itself: killed when three of four have
come in, the run asks the fourth shop only.
"""

import asyncio


async def compare_prices(api, product, shops):
    details, stock = await asyncio.gather(
        fetch_json(f"{api}/products/{product}"),
        fetch_json(f"{api}/products/{product}/stock"),
    )
    answers = await settle(*[offer(api, shop, product) for shop in shops])

    offers = [answer["value"] for answer in answers if answer["ok"]]
    failed = {
        shop: answer["message"]
        for shop, answer in zip(shops, answers, strict=True)
        if not answer["ok"]
    }
    best = min(offers, key=lambda offer: offer["price"]) if offers else None
    return {"product": details["name"], "in_stock": stock["count"], "best": best, "failed": failed}


async def offer(api, shop, product):
    answer = await fetch_json(f"{api}/shops/{shop}/price", {"product": product})
    return {"shop": shop, "price": answer["price"]}


async def fetch_json(url, params=None):
    response = await fetch(url, params=params, retries=1)
    return response.raise_for_status().json()

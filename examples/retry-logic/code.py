"""A retry loop of one's own, with the attempts and the waiting in plain sight.

`fetch` already repeats a request that met 429, 502, 503 or a broken connection, if repeating it
does no harm. Write a loop like this where you want another rule; `retries=0` turns the built-in
one off. The waiting is durable: after a crash, only what is left of it is waited.
"""

import asyncio


async def retry_logic(api, attempts):
    attempt = 1
    while True:
        try:
            response = await fetch(f"{api}/busy", retries=0)
            return {"attempt": attempt, "data": response.raise_for_status().json()}
        except OSError as error:
            print(f"attempt {attempt} failed: {error}")
            if attempt >= attempts:
                raise
        await asyncio.sleep(attempt)
        attempt += 1

"""Asking for the next invocation: a request is sent, and its answer not waited for.

No HTTP client is loaded for this, as it would cost more than all the rest of a cold start.
"""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds in which the request has to be on its way


async def post(url: str) -> None:
    """Send `POST <url>` without a body and hang up; raises `OSError` when it cannot be sent."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    context = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if context else 80)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    place = parts.netloc.rpartition("@")[2]
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {place}\r\nContent-Length: 0\r\n"
        "User-Agent: sequential-edge\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(head.encode("ascii"))
                await writer.drain()
            finally:
                writer.close()
            with contextlib.suppress(OSError):  # it is sent; how the other end hangs up is its own
                await writer.wait_closed()
    except UnicodeEncodeError as error:
        raise OSError(f"the address {url!r} is not written in ASCII") from error

"""Bytes are values like any other: download, hash, compare.

Answers over 64 KiB are kept in files of their own beside the journal; a body may have up to 32 MiB
(`http.body_limit`).
"""

import asyncio
import hashlib


async def check_download(api, files):
    results = await asyncio.gather(*[check(api, name, files[name]) for name in sorted(files)])
    return {"ok": all(result["ok"] for result in results), "files": results}


async def check(api, name, expected):
    response = await fetch(f"{api}/files/{name}", timeout=60)
    content = response.raise_for_status().bytes()
    actual = hashlib.sha256(content).hexdigest()
    return {"name": name, "size": len(content), "sha256": actual, "ok": actual == expected}

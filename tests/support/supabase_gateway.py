"""A stand-in for the gateway that Supabase puts in front of PostgREST; it knows the API keys."""

import asyncio
import base64
import hmac
import io
import json
import threading
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from support.postgrest_server import SECRET

SECRET_KEY = "sb_secret_of-the-new-kind"  # keys of this kind are no tokens
_OF_ONE_CONNECTION = {"host", "connection", "content-length", "transfer-encoding", "apikey"}


def token(role: str, seconds: float = 3600) -> str:
    """A key of the old kind: a signed token that says whose it is and until when."""
    claims = {"role": role, "iss": "supabase", "exp": int(time.time() + seconds)}
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    signature = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


class Refusal(msgspec.Struct):
    """An answer that did not come from the database."""

    status: int
    body: dict[str, Any] = msgspec.field(default_factory=lambda: {"message": "not now"})
    headers: dict[str, str] = {}


class SupabaseGateway:
    """`/rest/v1/` for whoever has one of `keys`, by TCP and on a Unix socket, in a thread.

    `refusals` are what the next requests are answered with, which are not passed on. `losses` are
    statuses to answer with in place of what PostgREST has answered.
    """

    def __init__(self, upstream: int, socket: Path) -> None:
        self.keys: set[str] = {SECRET_KEY}
        self.refusals: list[Refusal] = []
        self.losses: list[int] = []
        self.requests = 0
        self.port = 0
        self.socket = socket
        self._upstream = f"http://127.0.0.1:{upstream}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100, force_close=False), auto_decompress=False
        )
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        await web.UnixSite(self._runner, str(self.socket)).start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        key = request.headers.get("apikey", "")
        if key not in self.keys:
            return _said(401, f"Invalid API key {key}")  # some servers do repeat it
        if not request.path.startswith("/rest/v1/"):
            return _said(404, "no Route matched with those values")
        if self.refusals:
            refusal = self.refusals.pop(0)
            return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
        try:
            return await self._pass_on(request, key)
        except aiohttp.ClientError:
            return _said(502, "An invalid response was received from the upstream server")

    async def _pass_on(self, request: web.Request, key: str) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _OF_ONE_CONNECTION}
        if key == SECRET_KEY:
            headers.setdefault("Authorization", f"Bearer {token('service_role')}")
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs.removeprefix("/rest/v1"),
            data=io.BytesIO(await request.read()),
            headers=headers,
        ) as answer:
            body = await answer.read()
        if self.losses:
            return _said(self.losses.pop(0), "the gateway gave up")
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OF_ONE_CONNECTION}
        return web.Response(status=answer.status, body=body, headers=kept)


def _said(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

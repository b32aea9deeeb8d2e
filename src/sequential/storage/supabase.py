"""Storage in a Supabase project through its data API, for any number of processes.

The tables and functions are those of the PostgreSQL store, in a schema of their own that the API
does not expose; one function, `public.sequential_call`, calls the others (`supabase_migration`).
Each operation is one HTTPS request and one transaction. Whoever can connect to the database itself,
with `DATABASE_URL=postgresql://...`, uses the same tables, and with less delay.
"""

import asyncio
import io
import os

import aiohttp
import msgspec

from sequential.errors import StorageError
from sequential.storage import supabase_errors
from sequential.storage.sql_functions import SqlFunctionsAdapter
from sequential.storage.sql_refusals import Refused
from sequential.storage.supabase_address import Address, parse
from sequential.storage.supabase_errors import Busy
from sequential.storage.supabase_migration import expected

_CONNECT_TIMEOUT = 10.0  # seconds
_AT_START = 5.0  # seconds in which a project that is busy when we begin may come round
_LONGEST_PAUSE = 10.0  # seconds, whatever a busy project asks for


class _Installed(msgspec.Struct):
    """What a project says about itself."""

    version: int
    functions: str
    entry: str
    isolation: str


class SupabaseAdapter(SqlFunctionsAdapter):
    """Tasks and runs in the Supabase project at `address`."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.options.patience)
        self.address = address
        self._permits = asyncio.Semaphore(address.options.pool)
        self._open: tuple[aiohttp.ClientSession, int] | None = None

    async def init(self) -> None:
        if self._open is not None:
            return
        self._open = self._session(), os.getpid()
        try:
            self._check(await self._about())
        except BaseException:
            session, _ = self._open
            self._open = None
            await session.close()
            raise

    def _session(self) -> aiohttp.ClientSession:
        key = self.address.key.headers()
        return aiohttp.ClientSession(
            headers={
                **key,
                "Accept": "application/json",
                "Content-Type": "application/json",
                "Content-Profile": "public",
                "User-Agent": "sequential-ecosystem",
            },
            connector=aiohttp.TCPConnector(limit=self.address.options.pool),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        )

    async def _about(self) -> bytes:
        """What the project says about itself; only a busy one is asked again, for some seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + min(_AT_START, self.patience)
        while True:
            try:
                return await self._send("about", b"{}")
            except Busy:
                if clock() >= end:
                    raise
                await asyncio.sleep(0.1)
            except Refused as refused:
                raise StorageError(f"{self.address.url} refused: {refused.code}") from None

    def _check(self, answer: bytes) -> None:
        if answer == b"null":
            raise supabase_errors.of_missing(self.address)
        try:
            found = msgspec.json.decode(answer, type=_Installed)
        except ValueError:
            raise supabase_errors.of_foreign(self.address) from None
        wanted = expected()
        if found.version > wanted.version:
            raise supabase_errors.of_newer(self.address)
        if (found.version, found.functions, found.entry) != wanted:
            raise supabase_errors.of_missing(self.address)
        if found.isolation != "read committed":
            raise StorageError(
                f"{self.address.url}: transactions are {found.isolation!r} there, but limits of "
                "tasks need 'read committed': reset default_transaction_isolation of its roles"
            )

    async def close(self) -> None:
        if self._open is None:
            return
        session, process = self._open
        if process != os.getpid():
            return  # a forked process: the connections belong to its parent
        self.patience = 0.0  # what cannot be given back now, time gives back
        await super().close()
        self._open = None
        await session.close()

    async def _send(self, function: str, arguments: bytes) -> bytes:
        session = self._opened()
        request = b'{"operation":"%b","arguments":%b}' % (function.encode(), arguments)
        try:
            async with self._permits:
                return await self._ask(session, request)
        except Busy as busy:
            await asyncio.sleep(min(busy.pause, self.patience, _LONGEST_PAUSE))
            raise

    async def _ask(self, session: aiohttp.ClientSession, request: bytes) -> bytes:
        """The answer to one request."""
        try:
            async with (
                asyncio.timeout(self.address.options.timeout),
                session.post(
                    self.address.entry, data=io.BytesIO(request), allow_redirects=False
                ) as response,
            ):
                data = await response.read()
        except aiohttp.ClientError as error:
            raise supabase_errors.of_sending(self.address, error) from None
        except TimeoutError:
            raise supabase_errors.of_silence(self.address) from None
        if response.status != 200:
            raise supabase_errors.of_answer(self.address, response.status, response.headers, data)
        if response.content_type != "application/json":
            raise supabase_errors.of_foreign(self.address)
        return data

    def _opened(self) -> aiohttp.ClientSession:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if self._open[1] != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._open[0]


def create(
    location: str = "",
    url: str | None = None,
    key: str | None = None,
    schema: str | None = None,
    pool: int | None = None,
    timeout: float | None = None,
    patience: float | None = None,
) -> SupabaseAdapter:
    """The factory of `supabase:https://<project>.supabase.co`.

    What is not given is taken from SUPABASE_URL, and from SUPABASE_SERVICE_KEY, SUPABASE_KEY or
    SUPABASE_ANON_KEY: a key is no part of a location, as these are shown.
    """
    config = {"schema": schema, "pool": pool, "timeout": timeout, "patience": patience}
    return SupabaseAdapter(parse(location, url, key, config))

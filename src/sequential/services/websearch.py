"""The service "websearch": finding pages, by an engine of the operator's choice.

    found = await services.websearch.search(query="durable execution", limit=3)
    [page["url"] for page in found["results"]]

`ddgs` needs no key and reads the pages that search engines show to people, who may turn it away at
any time. The others have an API and want a key, which is in the keystore.
"""

import asyncio
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from sequential.services.base import CallContext, CallError
from sequential.services.local import LocalService
from sequential.services.outgoing import (
    Outgoing,
    address_if_any,
    nonsense,
    refused,
    shortened,
    too_slow,
    unreachable,
)

MOST = 50  # results of one search
TIMEOUT = 20.0  # seconds for one search
LONGEST = 1000  # characters of a query
_OPERATION = "websearch.search"


class Result(msgspec.Struct, frozen=True):
    """A page that was found. `snippet` is what the engine shows of it."""

    title: str
    url: str
    snippet: str


class Found(msgspec.Struct, frozen=True):
    """What a search has found. `timestamp` is when, as ISO 8601 in UTC."""

    query: str
    results: list[Result]
    timestamp: str
    engine: str


class SearchEngine(Protocol):
    """Where to search. One instance serves all calls of a process."""

    name: str

    async def search(self, query: str, limit: int, context: CallContext) -> Sequence[Result]:
        """Up to `limit` results, the best first.

        Raise `CallError` for what the task shall see, `TryAgain` when another attempt may do
        better. A key is got from `context.secrets`.
        """
        ...

    async def close(self) -> None:
        """Give back connections and the like."""
        ...


class DdgsEngine:
    """Several search engines without a key, by the package `ddgs`."""

    name = "ddgs"

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._threads: ThreadPoolExecutor | None = None

    async def search(self, query: str, limit: int, context: CallContext) -> Sequence[Result]:
        """Ask in a thread of our own, as the package blocks."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(8, "websearch")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                return await loop.run_in_executor(self._threads, self._found, query, limit)
        except TimeoutError:
            raise too_slow(_OPERATION, self._timeout, again=True) from None

    async def close(self) -> None:
        """Searches that are under way go on in their threads, and nobody takes what they find."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _found(self, query: str, limit: int) -> list[Result]:
        from ddgs import DDGS  # noqa: PLC0415 - it takes a while to import
        from ddgs.exceptions import (  # noqa: PLC0415
            DDGSException,
            RatelimitException,
            TimeoutException,
        )

        try:
            with DDGS(timeout=max(1, int(self._timeout / 2))) as engines:
                rows = engines.text(query, max_results=limit)
        except RatelimitException as error:
            raise refused(_OPERATION, 429, str(error), repeatable=True) from error
        except TimeoutException as error:
            raise unreachable(_OPERATION, f"no engine answered: {error}", again=True) from error
        except DDGSException as error:
            if "no results" in str(error).lower():
                return []
            raise unreachable(_OPERATION, f"no engine answered: {error}", again=True) from error
        return _results(rows, "title", "href", "body")


class ApiEngine:
    """A search engine with an API over HTTP. The subclasses say how it is asked."""

    name = ""
    root = ""

    def __init__(self, root: str | None = None, timeout: float = TIMEOUT) -> None:
        self._root = (root or self.root).rstrip("/")
        self._outgoing = Outgoing(timeout)

    async def search(self, query: str, limit: int, context: CallContext) -> Sequence[Result]:
        """Ask the API, with the key of the keystore."""
        url, headers = await self._request(query, limit, context)
        answer = await self._outgoing.send(
            _OPERATION,
            "GET",
            url,
            headers={"Accept": "application/json", **headers},
            repeatable=True,
        )
        body = _object(answer.body)
        if answer.status >= 300:
            told = shortened(_message(body))
            raise refused(_OPERATION, answer.status, told, answer.headers, repeatable=True)
        if body is None:
            raise nonsense(_OPERATION, f"{self.name} answers with something else than JSON")
        return self._read(body)

    async def close(self) -> None:
        """Give back the connections."""
        await self._outgoing.close()

    async def _request(
        self, query: str, limit: int, context: CallContext
    ) -> tuple[str, dict[str, str]]:
        raise NotImplementedError

    def _read(self, body: Mapping[str, Any]) -> list[Result]:
        raise NotImplementedError


class BraveEngine(ApiEngine):
    """Brave's search. The key is the secret `BRAVE_API_KEY`."""

    name = "brave"
    root = "https://api.search.brave.com"

    async def _request(
        self, query: str, limit: int, context: CallContext
    ) -> tuple[str, dict[str, str]]:
        key = await context.secrets.get("BRAVE_API_KEY")
        params = urlencode({"q": query, "count": min(limit, 20)})
        return f"{self._root}/res/v1/web/search?{params}", {"X-Subscription-Token": key.strip()}

    def _read(self, body: Mapping[str, Any]) -> list[Result]:
        web = body.get("web")
        rows = web.get("results") if isinstance(web, dict) else None
        return _results(rows, "title", "url", "description")


class GoogleEngine(ApiEngine):
    """Google's programmable search, by `GOOGLE_SEARCH_KEY` and `GOOGLE_SEARCH_ENGINE`, its id."""

    name = "google"
    root = "https://customsearch.googleapis.com"

    async def _request(
        self, query: str, limit: int, context: CallContext
    ) -> tuple[str, dict[str, str]]:
        key = await context.secrets.get("GOOGLE_SEARCH_KEY")
        engine = await address_if_any(context.secrets, "GOOGLE_SEARCH_ENGINE")
        if engine is None:
            engine = await context.secrets.get("GOOGLE_SEARCH_ENGINE")  # which says what to do
        params = urlencode({"q": query, "num": min(limit, 10), "cx": engine.strip()})
        return f"{self._root}/customsearch/v1?{params}", {"X-Goog-Api-Key": key.strip()}

    def _read(self, body: Mapping[str, Any]) -> list[Result]:
        return _results(body.get("items"), "title", "link", "snippet")


class SerpApiEngine(ApiEngine):
    """Google's results by way of SerpApi. The key is the secret `SERPAPI_KEY`."""

    name = "serpapi"
    root = "https://serpapi.com"

    async def _request(
        self, query: str, limit: int, context: CallContext
    ) -> tuple[str, dict[str, str]]:
        key = await context.secrets.get("SERPAPI_KEY")
        # Its API takes the key in the URL only, which is shown in no message of ours.
        params = {"engine": "google", "q": query, "num": limit, "api_key": key.strip()}
        return f"{self._root}/search.json?{urlencode(params)}", {}

    def _read(self, body: Mapping[str, Any]) -> list[Result]:
        return _results(body.get("organic_results"), "title", "link", "snippet")


class WebSearchService(LocalService):
    """Searches by one of several engines, the first of which is used if nobody says otherwise."""

    def __init__(self, engines: Iterable[SearchEngine], default: str | None = None) -> None:
        super().__init__("websearch", "Finding pages of the web.")
        self._engines = {engine.name: engine for engine in engines}
        self._default = default or next(iter(self._engines))
        self.add(self._search, "search", retry="safe")

    async def close(self) -> None:
        """Close the engines."""
        for engine in self._engines.values():
            await engine.close()
        await super().close()

    async def _search(
        self, context: CallContext, query: str, limit: int = 5, engine: str | None = None
    ) -> Found:
        """Search the web: up to `limit` pages with title, url and snippet, the best first."""
        name = engine or self._default
        if name not in self._engines:
            raise _wrong(f"there is no engine {name!r}; there are {', '.join(self._engines)}")
        if not 1 <= limit <= MOST:
            raise _wrong(f"limit is a number from 1 to {MOST}")
        if not query.strip() or len(query) > LONGEST:
            raise _wrong(f"query is a text of 1 to {LONGEST} characters")
        results = await self._engines[name].search(query, limit, context)
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Found(query, list(results)[:limit], moment.replace("+00:00", "Z"), name)


def service(
    engines: Iterable[SearchEngine] | None = None, default: str | None = None
) -> WebSearchService:
    """The service with these engines; without them with all that there are.

    `default` is the name of the one that is used; without it `WEBSEARCH_ENGINE` says it.
    """
    if engines is None:
        engines = (DdgsEngine(), BraveEngine(), GoogleEngine(), SerpApiEngine())
    return WebSearchService(engines, default or os.environ.get("WEBSEARCH_ENGINE") or None)


def _results(rows: Any, title: str, url: str, snippet: str) -> list[Result]:
    """The rows of an answer as results; what has no address is left out."""
    if not isinstance(rows, list):
        return []
    return [
        Result(str(row.get(title) or ""), str(row[url]), str(row.get(snippet) or ""))
        for row in rows
        if isinstance(row, dict) and row.get(url)
    ]


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _message(body: Mapping[str, Any] | None) -> str:
    """What an API says about an error, in the forms of these three."""
    error = (body or {}).get("error", "")
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or ""
    return str(error)


def _wrong(told: str) -> CallError:
    return CallError("ValueError", f"{_OPERATION}: {told}", code="invalid_call")

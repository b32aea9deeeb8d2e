"""The service "websearch": the engines with an API before a server like theirs, `ddgs` at its door.

`ddgs` reads the pages of real search engines, so what it finds is replaced here.
"""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Self
from urllib.parse import parse_qs

import ddgs
import pytest
from ddgs.exceptions import DDGSException, RatelimitException, TimeoutException

from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.websearch import (
    ApiEngine,
    BraveEngine,
    DdgsEngine,
    GoogleEngine,
    Result,
    SerpApiEngine,
    WebSearchService,
    service,
)
from support.http_api import Handler, HttpApi, serve
from support.kept_secrets import KeptSecrets

SECRETS = {
    "BRAVE_API_KEY": "brave-key",
    "GOOGLE_SEARCH_KEY": "google-key",
    "GOOGLE_SEARCH_ENGINE": "cx1",
    "SERPAPI_KEY": "serp-key",
}
PAGE = {"title": "A page", "url": "https://a.example", "link": "https://a.example"}
TEXT = {"description": "About it", "snippet": "About it"}


class Engines(Handler):
    """Answers as Brave, Google and SerpApi do."""

    def route_res(self, *path: str) -> None:
        self._found({"web": {"results": [{**PAGE, **TEXT}, {"title": "no address"}]}})

    def route_customsearch(self, *path: str) -> None:
        self._found({"items": [{**PAGE, **TEXT}, "no object"]})

    def _found(self, body: Any) -> None:
        self.reply_json({} if "nothing" in self.query["q"] else body)

    def answer(self) -> None:
        if self.path.startswith("/search.json"):
            self.path = self.path.replace("/search.json", "/serp")
        super().answer()

    do_GET = answer

    def route_serp(self) -> None:
        self._found({"organic_results": [{**PAGE, **TEXT}]})

    def route_broken(self, status: str, *path: str) -> None:
        body = {"error": {"message": "Not today", "code": int(status)}}
        headers = {"Retry_After": "3"}
        self.reply(int(status), json.dumps(body).encode(), "application/json", **headers)

    def route_page(self, *path: str) -> None:
        self.reply(200, b"<html>", "text/html")

    def route_late(self, *path: str) -> None:
        self.server.closing.wait(5)


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve(Engines) as api:
        yield api


@pytest.fixture
def context() -> CallContext:
    return CallContext("run-1", "task", 0, 1, "key-1", secrets=KeptSecrets(SECRETS))


ENGINES = [BraveEngine, GoogleEngine, SerpApiEngine]
KEYS = {"brave": "x-subscription-token", "google": "x-goog-api-key", "serpapi": None}


@pytest.mark.parametrize("kind", ENGINES)
async def test_engines_with_an_api(
    api: HttpApi, context: CallContext, kind: type[ApiEngine]
) -> None:
    search = WebSearchService([kind(api.url)])
    found = await search.call("search", [], {"query": "durable & more", "limit": 3}, context)
    assert found["query"] == "durable & more"
    assert found["engine"] == kind.name
    page = {"title": "A page", "url": "https://a.example", "snippet": "About it"}
    assert found["results"] == [page]
    assert found["timestamp"].endswith("Z")
    assert datetime.fromisoformat(found["timestamp"]).tzinfo is not None

    asked = parse_qs(api.last.query)
    assert asked["q"] == ["durable & more"]
    header = KEYS[kind.name]
    sent = api.last.headers[header] if header else asked["api_key"][0]
    assert sent in SECRETS.values()
    nothing = await search.call("search", ["nothing"], {}, context)
    assert nothing["results"] == []
    await search.close()


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("place", "again", "told"),
    [
        ("broken/429", True, "HTTP 429: Not today"),
        ("broken/503", True, "HTTP 503: Not today"),
        ("broken/401", False, "HTTP 401: Not today"),
        ("page", False, "answers with something else than JSON"),
        ("late", True, "no answer within 0.3 s"),
    ],
)
async def test_engines_that_do_not_answer(
    api: HttpApi, context: CallContext, kind: type[ApiEngine], place: str, again: bool, told: str
) -> None:
    search = WebSearchService([kind(f"{api.url}/{place}", timeout=0.3)])
    with pytest.raises(TryAgain if again else CallError, match=told) as error:
        await search.call("search", ["x"], {}, context)
    if isinstance(error.value, TryAgain) and place != "late":
        assert error.value.retry_after == 3
    assert not any(key in str(error.value) for key in SECRETS.values())
    await search.close()


async def test_an_engine_without_its_key(api: HttpApi) -> None:
    context = CallContext("run-1", "task", 0, 1, "key-1", secrets=KeptSecrets({}))
    search = WebSearchService([BraveEngine(api.url)])
    with pytest.raises(CallError, match="there is no secret 'BRAVE_API_KEY'"):
        await search.call("search", ["x"], {}, context)
    assert api.requests == []
    await search.close()


class Found:
    """In place of `ddgs.DDGS`: finds what a test says, or raises it."""

    answer: Any = ()
    asked: Any = None

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def text(self, query: str, max_results: int) -> Any:
        Found.asked = query, max_results, threading.current_thread().name
        if isinstance(Found.answer, Exception):
            raise Found.answer
        return Found.answer() if callable(Found.answer) else Found.answer


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddgs, "DDGS", Found)


@pytest.mark.usefixtures("without_network")
async def test_ddgs_needs_no_key(context: CallContext) -> None:
    search = service()
    Found.answer = [{"title": "T", "href": "https://b.example", "body": "B"}] * 9
    found = await search.call("search", ["x"], {"limit": 2}, context)
    assert found["results"] == [{"title": "T", "url": "https://b.example", "snippet": "B"}] * 2
    assert found["engine"] == "ddgs"
    query, limit, thread = Found.asked
    assert (query, limit) == ("x", 2)
    assert thread.startswith("websearch")
    Found.answer = DDGSException("No results found.")
    assert (await search.call("search", ["x"], {}, context))["results"] == []
    await search.close()


@pytest.mark.usefixtures("without_network")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RatelimitException("202"), "HTTP 429: 202"),
        (TimeoutException("timed out"), "no engine answered: timed out"),
        (DDGSException("all broken"), "no engine answered: all broken"),
    ],
)
async def test_ddgs_is_turned_away(context: CallContext, error: Exception, told: str) -> None:
    search = service()
    Found.answer = error
    with pytest.raises(TryAgain, match=told):
        await search.call("search", ["x"], {}, context)
    await search.close()


@pytest.mark.usefixtures("without_network")
async def test_ddgs_takes_too_long(context: CallContext) -> None:
    search = WebSearchService([DdgsEngine(timeout=0.2)])
    go_on = threading.Event()
    Found.answer = lambda: go_on.wait(10) and []
    with pytest.raises(TryAgain, match=r"TimeoutError: websearch.search: no answer within 0.2 s"):
        await search.call("search", ["x"], {}, context)
    go_on.set()
    await search.close()


class Own:
    """An engine of one's own."""

    name = "own"
    is_closed = False

    async def search(self, query: str, limit: int, context: CallContext) -> Sequence[Result]:
        await asyncio.sleep(0)
        return [Result(f"{query} {n}", f"https://own.example/{n}", "") for n in range(9)]

    async def close(self) -> None:
        self.is_closed = True


async def test_an_engine_of_ones_own_and_which_one_is_used(
    context: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Own()
    monkeypatch.setenv("WEBSEARCH_ENGINE", "own")
    search = service([DdgsEngine(), own])
    found = await search.call("search", ["x"], {"limit": 2}, context)
    assert [one["title"] for one in found["results"]] == ["x 0", "x 1"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"engine": "altavista"}, "there is no engine 'altavista'; there are ddgs, own"),
        ({"limit": 0}, "limit is a number from 1 to 50"),
        ({"limit": "5"}, "limit: expected `int`"),
        ({"query": " "}, "query is a text of 1 to 1000 characters"),
    ]
    for given, told in wrong:
        with pytest.raises(CallError, match=told):
            await search.call("search", [], {"query": "x", **given}, context)
    await search.close()
    assert own.is_closed


def test_the_result_is_described() -> None:
    described = service().describe().find("search")
    assert described is not None
    assert "$ref" in json.dumps(described.result) or "results" in json.dumps(described.result)
    assert set(described.parameters["properties"]) == {"query", "limit", "engine"}

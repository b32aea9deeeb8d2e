"""The service "supabase" with a real PostgREST before a real PostgreSQL."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from sequential.core.model import evolve
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.supabase import SupabaseService, service
from sequential.services.supabase_query import Rules
from support.http_api import Handler, HttpApi, serve
from support.kept_secrets import KeptSecrets
from support.postgres_server import PostgresServer, postgres_server
from support.supabase_gateway import Refusal
from support.supabase_project import SupabaseProject, shared_project

__all__ = ["shared_project"]

TABLES = """
create table people(id bigint primary key, name text not null, age int, tags text[] default '{}');
create table tickets(id bigint primary key, title text, person bigint references people(id));
create table salaries(person bigint primary key references people(id), amount int);
create function older_than(years int) returns setof people language sql stable as
    'select * from people where age > years';
create function forbidden() returns int language sql as 'select 1';
notify pgrst, 'reload schema';
"""
ROWS = """
truncate people, tickets, salaries;
insert into people values (1, 'Ada', 36, '{math}'), (2, 'Grace', 85, '{navy,math}'),
    (3, 'Linus', null, '{}');
insert into tickets values (10, 'open it', 1), (11, 'close it', 2);
insert into salaries values (1, 100);
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tables(shared_project: SupabaseProject) -> SupabaseProject:
    shared_project.apply(TABLES)
    wait_until_known(shared_project, "rpc/older_than?years=1")
    return shared_project


def wait_until_known(project: SupabaseProject, path: str) -> None:
    """PostgREST reads the schema again when it is told to, and not at once."""
    headers = {"apikey": project.key, "Authorization": f"Bearer {project.key}"}
    end = time.monotonic() + 30
    while True:
        answer = httpx.get(f"{project.url}/rest/v1/{path}", headers=headers)
        if answer.status_code != 404:
            answer.raise_for_status()
            return
        assert time.monotonic() < end, answer.text
        time.sleep(0.02)


@pytest.fixture
def project(tables: SupabaseProject) -> SupabaseProject:
    tables.apply(ROWS)
    tables.gateway.refusals, tables.gateway.losses = [], []
    return tables


@pytest.fixture
async def supabase(project: SupabaseProject) -> AsyncIterator[SupabaseService]:
    rules = Rules(frozenset({"people", "tickets"}), frozenset({"older_than"}))
    service = SupabaseService(rules, project.url, timeout=10)
    yield service
    await service.close()


@pytest.fixture
def context(project: SupabaseProject) -> CallContext:
    secrets = KeptSecrets({"SUPABASE_SERVICE_KEY": project.key})
    return CallContext("run-1", "task", 0, 1, "key-1", secrets=secrets)


async def failure(
    supabase: SupabaseService, method: str, context: CallContext, **given: Any
) -> str:
    with pytest.raises(CallError) as error:
        await supabase.call(method, [], given, context)
    return f"{error.value.failure.type}: {error.value.failure.message}"


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, [1, 2, 3]),
        ({"filters": {"name": "Ada"}}, [1]),
        ({"filters": {"age": {"gt": 30, "lt": 80}}}, [1]),
        ({"filters": {"age": None}}, [3]),
        ({"filters": {"id": [1, 3]}}, [1, 3]),
        ({"filters": {"name": {"like": "%a%"}}, "order": "-id"}, [2, 1]),
        ({"filters": {"tags": {"contains": ["math"]}}}, [1, 2]),
        ({"order": ["-age", "id"], "limit": 2, "offset": 1}, [2, 1]),
        ({"filters": {"name": "x&select=salaries(*)"}}, []),
    ],
)
async def test_rows_are_chosen(
    supabase: SupabaseService, context: CallContext, given: dict[str, Any], ids: list[int]
) -> None:
    asked = {"table": "people", "columns": "id", **given}
    answer = await supabase.call("table.select", [], asked, context)
    found = [row["id"] for row in answer["data"]]
    assert (found if "order" in given else sorted(found)) == ids


async def test_one_row_a_count_and_other_tables(
    supabase: SupabaseService, context: CallContext
) -> None:
    async def select(**given: Any) -> Any:
        return await supabase.call("table.select", [], given, context)

    one = await select(table="people", columns="name", filters={"id": 1}, single=True)
    assert one == {"data": {"name": "Ada"}, "count": None}
    told = await failure(supabase, "table.select", context, table="people", single=True)
    assert told.startswith("RuntimeError: supabase.table.select people: HTTP 406: PGRST116")
    assert (await select(table="people", count="exact", limit=1))["count"] == 3
    joined = await select(table="tickets", columns="title, who:people(name)", order="id", limit=1)
    assert joined["data"] == [{"title": "open it", "who": {"name": "Ada"}}]


async def test_rows_are_written(supabase: SupabaseService, context: CallContext) -> None:
    async def call(method: str, **given: Any) -> Any:
        return (await supabase.call(method, [], {"table": "people", **given}, context))["data"]

    barbara = {"id": 4, "name": "Barbara", "age": 88, "tags": []}
    assert await call("table.insert", rows=barbara) == [barbara]
    told = await failure(supabase, "table.insert", context, table="people", rows=barbara)
    assert told.startswith("RuntimeError: supabase.table.insert people: HTTP 409: 23505: duplicate")
    changed = await call("table.upsert", rows=[{**barbara, "age": 89}], on_conflict="id")
    assert changed[0]["age"] == 89
    assert await call("table.upsert", rows=barbara, ignore_duplicates=True) == []
    assert len(await call("table.update", values={"age": 1}, filters={"id": {"gte": 3}})) == 2
    assert [row["id"] for row in await call("table.delete", filters={"id": 4})] == [4]
    assert await call("table.select", columns="id", filters={"age": 1}) == [{"id": 3}]


async def test_functions_are_called(supabase: SupabaseService, context: CallContext) -> None:
    for get in (False, True):
        given = {"function": "older_than", "params": {"years": 50}, "get": get}
        answer = await supabase.call("rpc", [], given, context)
        assert [row["name"] for row in answer["data"]] == ["Grace"]


def step(property: str, *args: Any) -> dict[str, Any]:
    return {"property": property, "args": list(args)}


@pytest.mark.parametrize(
    ("chain", "names"),
    [
        ([step("from", "people"), step("select", "name"), step("eq", "id", 1)], ["Ada"]),
        # As the original's clients wrote them, in JavaScript.
        (
            [
                {"type": "call", "property": "from", "args": ["people"]},
                {"type": "call", "property": "select", "args": ["name", {"count": "exact"}]},
                step("in", "id", [1, 2, 3]),
                step("not", "age", "is", None),
                step("order", "age", {"ascending": False}),
                step("range", 0, 1),
            ],
            ["Grace", "Ada"],
        ),
        ([step("table", "people"), step("select"), step("or", "id.eq.3,age.gt.80")], None),
        ([step("from", "people"), step("select"), step("not_"), step("eq", "id", 1)], None),
        ([step("from", "people"), step("select", "name"), step("match", {"id": 2})], ["Grace"]),
        ([step("rpc", "older_than", {"years": 50}), step("select", "name")], ["Grace"]),
        (
            [
                step("from", "people"),
                step("update", {"age": 5}),
                step("filter", "id", "eq", 1),
                step("select", "name"),
            ],
            ["Ada"],
        ),
    ],
)
async def test_chains_of_the_original(
    supabase: SupabaseService, context: CallContext, chain: Any, names: list[str] | None
) -> None:
    answer = await supabase.call("chain", [chain], {}, context)
    found = [row["name"] for row in answer["data"]]
    assert found == (names if names is not None else ["Grace", "Linus"])


async def test_one_row_of_a_chain(supabase: SupabaseService, context: CallContext) -> None:
    begin = [step("from", "people"), step("select", "id")]
    single = [*begin, step("eq", "id", 1), step("single")]
    assert (await supabase.call("chain", [single], {}, context))["data"] == {"id": 1}
    nobody = [*begin, step("eq", "id", 9), step("maybeSingle")]
    assert (await supabase.call("chain", [nobody], {}, context))["data"] is None
    counted = [step("from", "people"), step("select", "*", {"count": "exact", "head": True})]
    assert await supabase.call("chain", [counted], {}, context) == {"data": [], "count": 3}


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("table.select", {"table": "salaries"}, "the table 'salaries' is not open to tasks"),
        ("table.select", {"table": "people", "columns": "*,salaries(*)"}, "'salaries' is not"),
        ("table.select", {"table": "people", "columns": "a:salaries!x ( amount )"}, "'salaries'"),
        ("table.select", {"table": "people", "columns": '..."salaries"(amount)'}, "'salaries'"),
        ("table.select", {"table": "people", "columns": "tickets(*,salaries())"}, "'salaries'"),
        ("table.select", {"table": "rpc/forbidden"}, "cannot be the name of a table"),
        ("table.select", {"table": "../rpc/forbidden"}, "cannot be the name of a table"),
        ("table.select", {"table": "people", "filters": {"select": "x"}}, "name of a column"),
        ("table.select", {"table": "people", "filters": {"id": {"select": "x"}}}, "no operator"),
        ("table.select", {"table": "people", "filters": {"id": {"not": "x"}}}, "no operator"),
        ("table.select", {"table": "people", "count": "exact,tx=rollback"}, "count is one of"),
        ("table.update", {"table": "people", "values": {"age": 1}, "filters": {}}, "every row"),
        ("table.delete", {"table": "people", "filters": {}}, "every row"),
        ("rpc", {"function": "forbidden"}, "the function 'forbidden' is not open to tasks"),
        (
            "rpc",
            {
                "function": "older_than",
                "params": {"years": 1, "select": "salaries(*)"},
                "get": True,
            },
            "a parameter 'select' cannot be sent with get",
        ),
        ("chain", {"chain": []}, "a list of 1 to 50 steps"),
        ("chain", {"chain": [step("from", "people")]}, "after from comes one of select, insert"),
        ("chain", {"chain": [step("select")]}, "begins with from or rpc"),
        ("chain", {"chain": [step("auth"), step("admin")]}, "there is no step 'auth'"),
        ("chain", {"chain": [step("from", "people"), step("__class__")]}, "there is no step"),
        ("chain", {"chain": [step("from", "people"), step("selct")]}, "did you mean 'select'?"),
        ("chain", {"chain": [step("from", "people"), step("delete"), step("not_")]}, "every row"),
        ("chain", {"chain": [step("from", "people"), step("select"), step("rpc")]}, "stand here"),
        ("chain", {"chain": [step("from", "people"), step("insert", "x")]}, "takes one object"),
        (
            "chain",
            {"chain": [step("from", "people"), step("select"), step("filter", "id", "x.y", 1)]},
            "filter takes a column, a value",
        ),
        (
            "chain",
            {"chain": [step("from", "people"), step("insert", {}, {"returning": "a,b"})]},
            "returning is one of",
        ),
        (
            "chain",
            {"chain": [step("from", "people"), step("select"), step("single"), step("eq", "a", 1)]},
            "eq cannot stand here",
        ),
    ],
)
async def test_nothing_else_can_be_reached(
    supabase: SupabaseService,
    project: SupabaseProject,
    context: CallContext,
    method: str,
    given: dict[str, Any],
    told: str,
) -> None:
    before = project.gateway.requests
    assert told in await failure(supabase, method, context, **given)
    assert project.gateway.requests == before


async def test_everything_is_open_when_the_operator_says_so(
    project: SupabaseProject, context: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", project.url)
    monkeypatch.setenv("SUPABASE_TABLES", "*")
    monkeypatch.setenv("SUPABASE_FUNCTIONS", "*")
    supabase = service()
    given = {"table": "people", "columns": "salaries(amount)", "filters": {"id": 1}}
    answer = await supabase.call("table.select", [], given, context)
    assert answer["data"] == [{"salaries": {"amount": 100}}]
    assert (await supabase.call("rpc", ["forbidden"], {}, context))["data"] == 1
    told = await failure(supabase, "rpc", context, function="sequential_call")
    assert "belongs to the engine's own store" in told
    await supabase.close()

    elsewhere = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_KEY": project.key}
    context = evolve(context, secrets=KeptSecrets(elsewhere))
    with pytest.raises(TryAgain, match="the connection failed"):  # the secret counts, if it is set
        await supabase.call("rpc", ["forbidden"], {}, context)
    await supabase.close()

    monkeypatch.delenv("SUPABASE_TABLES")
    told = await failure(service(), "table.select", context, table="people")
    assert told.endswith("is not open to tasks (SUPABASE_TABLES lists no table)")


READ = ("table.select", {"table": "people"})
WRITE = ("table.insert", {"table": "people", "rows": {"id": 9, "name": "x"}})


@pytest.mark.parametrize(
    ("call", "refusal", "again"),
    [
        (READ, Refusal(503, {"message": "busy"}, {"Retry-After": "7"}), True),
        (WRITE, Refusal(503, {"message": "busy"}, {"Retry-After": "7"}), False),
        (READ, Refusal(429, {"message": "slow down"}, {"Retry-After": "7"}), True),
        (WRITE, Refusal(429, {"message": "slow down"}, {"Retry-After": "7"}), True),
        (
            WRITE,
            Refusal(503, {"code": "PGRST001", "message": "no database"}, {"Retry-After": "7"}),
            True,
        ),
        (WRITE, Refusal(409, {"code": "40001", "message": "again"}, {"Retry-After": "7"}), True),
        (READ, Refusal(400, {"code": "PGRST100", "message": "no"}), False),
        (READ, Refusal(302, {}, {"Location": "http://127.0.0.1:9/"}), False),
    ],
)
async def test_which_errors_are_worth_another_attempt(
    supabase: SupabaseService,
    project: SupabaseProject,
    context: CallContext,
    call: tuple[str, dict[str, Any]],
    refusal: Refusal,
    again: bool,
) -> None:
    project.gateway.refusals = [refusal]
    before = project.gateway.requests
    with pytest.raises(TryAgain if again else CallError, match=f"HTTP {refusal.status}") as error:
        await supabase.call(call[0], [], call[1], context)
    if isinstance(error.value, TryAgain):
        assert error.value.retry_after == 7
    assert project.gateway.requests == before + 1


async def test_a_key_that_is_not_known_and_none_at_all(
    supabase: SupabaseService, context: CallContext
) -> None:
    kept = {"SUPABASE_SERVICE_KEY": "sb_secret_wrong"}
    context = evolve(context, secrets=KeptSecrets(kept))
    told = await failure(supabase, "table.select", context, table="people")
    assert told.startswith("RuntimeError: supabase.table.select people: HTTP 401: ")
    kept.clear()
    told = await failure(supabase, "table.select", context, table="people")
    assert told == "LookupError: there is no secret 'SUPABASE_SERVICE_KEY'"


@contextlib.asynccontextmanager
async def at(url: str) -> AsyncIterator[SupabaseService]:
    supabase = SupabaseService(Rules(frozenset({"people"})), url, timeout=0.3)
    yield supabase
    await supabase.close()


class Misbehaving(Handler):
    """The address of a project that begins with `/slow`, `/gone` or `/page`."""

    def route_slow(self, *path: str) -> None:
        self.server.closing.wait(5)

    def route_gone(self, *path: str) -> None:
        self.close_connection = True

    def route_page(self, *path: str) -> None:
        self.reply(200, b"<html>", "text/html")


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve(Misbehaving) as api:
        yield api


async def test_slow_absent_and_babbling_servers(api: HttpApi) -> None:
    secrets = KeptSecrets({"SUPABASE_KEY": "k"})
    context = CallContext("run-1", "task", 0, 1, "key-1", secrets=secrets)
    async with at(f"{api.url}/slow") as supabase:
        with pytest.raises(TryAgain, match=r"TimeoutError: supabase.*: no answer within 0.3 s"):
            await supabase.call(*_split(READ), context)
        assert "no answer within" in await failure(supabase, WRITE[0], context, **WRITE[1])
    async with at("http://127.0.0.1:9") as supabase:
        for call in (READ, WRITE):  # nothing was sent, so both
            with pytest.raises(TryAgain, match="the connection failed"):
                await supabase.call(*_split(call), context)
    async with at(f"{api.url}/gone") as supabase:
        with pytest.raises(TryAgain, match="the connection failed"):
            await supabase.call(*_split(READ), context)
        assert "the connection failed" in await failure(supabase, WRITE[0], context, **WRITE[1])
    async with at(f"{api.url}/page") as supabase:
        told = await failure(supabase, READ[0], context, **READ[1])
        assert told == "RuntimeError: supabase.table.select people: the answer is no JSON"


def _split(call: tuple[str, dict[str, Any]]) -> tuple[str, list[Any], dict[str, Any]]:
    return call[0], [], call[1]


def columns(draw: random.Random, depth: int = 0) -> str:
    """Something to select from another table, spelled in one of many ways, some of them wrong."""
    name = draw.choice('salaries people tickets salaries_person_fkey person "salaries"'.split())
    before = draw.choice(["", "a:", "...", '"x":', '"(":', "people:", '"a\\":people":'])
    hint = draw.choice(["", "!inner", "!salaries_person_fkey", '!"people"', "!people!inner"])
    inner = draw.choice(["*", "amount", "", "id", "count()", "amount.sum()"])
    if depth < 2 and draw.random() < 0.4:
        inner = columns(draw, depth + 1)
    text = f"{before}{name}{hint}({inner})"
    if draw.random() < 0.2:
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice('"\\!:(),. ') + text[place:]
    return text


async def test_no_spelling_reaches_a_table_that_is_not_listed(
    project: SupabaseProject, context: CallContext
) -> None:
    """What the rule accepts is asked of PostgREST, and a part of what it refuses, too."""
    project.apply("update salaries set amount = 424242")
    draw, listed = random.Random(20261121), Rules(frozenset({"people", "tickets"}))
    supabase = SupabaseService(Rules(frozenset({"*"})), project.url)
    answered = shown = 0
    for number in range(2000):
        text = columns(draw)
        try:
            listed.check_columns(text)
            is_accepted = True
        except CallError:
            is_accepted = False
        if not is_accepted and number % 4:
            continue
        given = {"table": draw.choice(["people", "tickets"]), "columns": text}
        try:
            answer = await supabase.call("table.select", [], given, context)
        except CallError:
            continue
        if "424242" in repr(answer):
            assert not is_accepted, text
            shown += 1
        answered += is_accepted
    await supabase.close()
    assert answered > 10  # what is fine is not refused
    assert shown > 0  # and something was there to be found

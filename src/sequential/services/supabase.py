"""The service "supabase": tables and functions of a Supabase project, by Supabase's own client.

    found = await services.supabase.table.select(
        table="tickets", columns="id, title", filters={"status": "open"}, order="-id", limit=10
    )
    found["data"]

Tasks reach the tables and functions that the operator has listed, and nothing else: without a list
there are none. The key of the project is in the keystore.
"""

import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sequential.services.base import CallContext, CallError
from sequential.services.local import LocalService
from sequential.services.outgoing import (
    address_if_any,
    nonsense,
    refused,
    secret_if_any,
    too_slow,
    unreachable,
)
from sequential.services.supabase_query import (
    Query,
    Rules,
    Step,
    filter_step,
    query_of,
    steps_of,
)

if TYPE_CHECKING:
    import httpx
    from postgrest import AsyncPostgrestClient

URL, KEYS = "SUPABASE_URL", ("SUPABASE_SERVICE_KEY", "SUPABASE_KEY")
TIMEOUT = 60.0  # seconds for one request
# With these nothing was done: no connection to the database, or the transaction was undone.
_NOT_DONE = frozenset({"PGRST000", "PGRST001", "PGRST002", "PGRST003", "40001", "40P01"})

# The answer to the request of the current call: the client's errors do not tell status and headers.
_answered: ContextVar[list["httpx.Response"]] = ContextVar("answered")


class SupabaseService(LocalService):
    """A project's tables and functions. `timeout` is seconds for one request."""

    def __init__(
        self, rules: Rules, url: str | None = None, schema: str = "public", timeout: float = TIMEOUT
    ) -> None:
        super().__init__("supabase", _DESCRIPTION)
        self._rules = rules
        self._url = url
        self._schema = schema
        self._timeout = timeout
        self._session: httpx.AsyncClient | None = None
        self.add(self._select, "table.select", retry="safe")
        self.add(self._insert, "table.insert")
        self.add(self._upsert, "table.upsert")
        self.add(self._update, "table.update")
        self.add(self._delete, "table.delete")
        self.add(self._rpc, "rpc")
        self.add(self._chain, "chain")

    async def close(self) -> None:
        """Give back the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()
        await super().close()

    async def _select(
        self,
        context: CallContext,
        table: str,
        columns: str = "*",
        filters: dict[str, Any] | None = None,
        order: str | list[str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        count: str | None = None,
        single: bool = False,
    ) -> dict[str, Any]:
        """Rows of a table, as `{"data": [...], "count": ...}`.

        `filters` are `{"status": "open", "age": {"gte": 18}, "id": [1, 2]}`; `order` is a column,
        "-column" for the other way round. `count="exact"` counts all that fit. With `single`,
        `data` is the one row there is, and it is an error if there are none or several.
        """
        steps = [Step("select", (columns, {"count": count}) if count else (columns,))]
        steps += _filters(filters)
        for one in [order] if isinstance(order, str) else order or []:
            steps.append(Step("order", (one.removeprefix("-"), {"desc": one.startswith("-")})))
        steps += [Step("limit", (limit,))] if limit is not None else []
        steps += [Step("offset", (offset,))] if offset is not None else []
        steps += [Step("single", ())] if single else []
        return await self._performed(context, [Step("from_", (table,)), *steps])

    async def _insert(
        self, context: CallContext, table: str, rows: dict[str, Any] | list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Insert rows; `data` are the rows as they were stored.

        After a crash the call is made again: use `upsert` with a key of your own where a row must
        not be there twice.
        """
        return await self._performed(context, [Step("from_", (table,)), Step("insert", (rows,))])

    async def _upsert(
        self,
        context: CallContext,
        table: str,
        rows: dict[str, Any] | list[dict[str, Any]],
        on_conflict: str | None = None,
        ignore_duplicates: bool = False,
    ) -> dict[str, Any]:
        """Insert rows, or change those that are there already by the columns `on_conflict`."""
        options: dict[str, Any] = {"ignore_duplicates": ignore_duplicates}
        if on_conflict is not None:
            options["on_conflict"] = on_conflict
        steps = [Step("from_", (table,)), Step("upsert", (rows, options))]
        return await self._performed(context, steps)

    async def _update(
        self, context: CallContext, table: str, values: dict[str, Any], filters: dict[str, Any]
    ) -> dict[str, Any]:
        """Change the rows that fit; `data` are the rows as they are now."""
        steps = [Step("from_", (table,)), Step("update", (values,)), *_filters(filters)]
        return await self._performed(context, steps)

    async def _delete(
        self, context: CallContext, table: str, filters: dict[str, Any]
    ) -> dict[str, Any]:
        """Delete the rows that fit; `data` are the rows as they were."""
        steps = [Step("from_", (table,)), Step("delete", ()), *_filters(filters)]
        return await self._performed(context, steps)

    async def _rpc(
        self,
        context: CallContext,
        function: str,
        params: dict[str, Any] | None = None,
        get: bool = False,
    ) -> dict[str, Any]:
        """Call a function; `data` is what it returns. `get` says that it changes nothing."""
        return await self._performed(context, [Step("rpc", (function, params or {}, {"get": get}))])

    async def _chain(self, context: CallContext, chain: list[dict[str, Any]]) -> dict[str, Any]:
        """A query as methods of the client: `[{"property": "from", "args": ["tickets"]}, ...]`."""
        return await self._performed(context, steps_of(chain))

    async def _performed(self, context: CallContext, steps: Sequence[Step]) -> dict[str, Any]:
        query = query_of(await self._client(context), steps, self._rules)
        answered: list[httpx.Response] = []
        token = _answered.set(answered)
        try:
            answer = await query.builder.execute()
        except Exception as error:
            raise self._failed(query, answered, error) from error
        finally:
            _answered.reset(token)
        if answered and not _is_json(answered[-1]):
            raise nonsense(f"supabase.{query.name}", "the answer is no JSON")
        if answer is None:  # of maybe_single
            return {"data": None, "count": None}
        return {"data": answer.data, "count": answer.count}

    async def _client(self, context: CallContext) -> "AsyncPostgrestClient":
        """The client for the project and key of the moment, over connections that are kept."""
        import httpx  # noqa: PLC0415
        from postgrest import AsyncPostgrestClient  # noqa: PLC0415 - it takes a while to import

        # The variable comes last: it may be the address of the engine's own store.
        url = self._url or await address_if_any(context.secrets, URL) or os.environ.get(URL)
        if not url:
            raise CallError(
                "LookupError",
                f"supabase: there is no address of a project: set the secret {URL}, as in "
                "https://<project>.supabase.co",
                code="secret_not_found",
            )
        kept = [await secret_if_any(context.secrets, name) for name in KEYS]
        key = kept[0] or kept[1] or await context.secrets.get(KEYS[0])  # which says what to do
        if self._session is None:
            # The key goes along in a header that redirects would carry to anybody.
            self._session = httpx.AsyncClient(
                timeout=self._timeout,
                follow_redirects=False,
                event_hooks={"response": [_note]},
            )
        headers = {"apikey": key}
        if not key.startswith("sb_"):  # keys of the new kind are no tokens
            headers["Authorization"] = f"Bearer {key}"
        return AsyncPostgrestClient(
            f"{url.rstrip('/')}/rest/v1",
            schema=self._schema,
            headers=headers,
            http_client=self._session,
            retry_enabled=False,
        )

    def _failed(
        self, query: Query, answered: Sequence["httpx.Response"], error: Exception
    ) -> Exception:
        import httpx  # noqa: PLC0415
        from postgrest import APIError  # noqa: PLC0415

        operation = f"supabase.{query.name}"
        if isinstance(error, APIError) and answered:
            code = error.code or ""
            told = ": ".join(str(one) for one in (code, error.message, error.details) if one)
            again = True if code in _NOT_DONE else None
            headers = list(answered[-1].headers.items())
            status = answered[-1].status_code
            return refused(operation, status, told, headers, again=again, repeatable=query.is_read)
        not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        if isinstance(error, httpx.TimeoutException):
            return too_slow(operation, self._timeout, again=query.is_read or not_sent)
        if isinstance(error, httpx.TransportError):
            told = f"the connection failed: {type(error).__name__}: {error}".removesuffix(": ")
            return unreachable(operation, told, again=query.is_read or not_sent)
        if isinstance(error, TypeError | ValueError):  # of values that JSON has not
            return CallError("TypeError", f"{operation}: {error}", code="invalid_call")
        return CallError("RuntimeError", f"{operation}: {type(error).__name__}: {error}")


def service(
    tables: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
    url: str | None = None,
    schema: str | None = None,
) -> SupabaseService:
    """The service for these tables and functions; without them for those of the environment."""
    environment = os.environ
    if tables is None:
        tables = environment.get("SUPABASE_TABLES", "").replace(",", " ").split()
    if functions is None:
        functions = environment.get("SUPABASE_FUNCTIONS", "").replace(",", " ").split()
    rules = Rules(frozenset(tables), frozenset(functions))
    return SupabaseService(rules, url, schema or environment.get("SUPABASE_SCHEMA") or "public")


_DESCRIPTION = """\
Tables and functions of a Supabase project, those that the operator has listed.

Every method answers {"data": ..., "count": ...}."""


def _filters(filters: Mapping[str, Any] | None) -> list[Step]:
    """Filters as steps: a value is equal, a list is one of, an object names its operators."""
    steps: list[Step] = []
    for column, wanted in (filters or {}).items():
        if isinstance(wanted, list | tuple):
            steps.append(Step("in_", (column, list(wanted))))
        elif wanted is None:
            steps.append(Step("is_", (column, None)))
        elif isinstance(wanted, dict):
            steps += [filter_step(column, name, value) for name, value in wanted.items()]
        else:
            steps.append(Step("eq", (column, wanted)))
    return steps


async def _note(response: "httpx.Response") -> None:
    if (answered := _answered.get(None)) is not None:
        answered.append(response)


def _is_json(response: "httpx.Response") -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0]
    return response.request.method == "HEAD" or not response.content or kind.endswith("json")

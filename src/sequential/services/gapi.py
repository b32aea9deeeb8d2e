"""The service "gapi": Google's APIs, by Google's own client and descriptions of them.

    await services.gapi.gmail.users.messages.list(userId="ada@example.com", q="is:unread")
    await services.gapi.sheets.spreadsheets.values.get(spreadsheetId=id, range="A1:C9")

A method is named `gapi.<api>.<resource>.<method>`; `gapi.<api>_<version>` chooses a version. The
client makes the requests and reads the answers. It does not send them: its connections block,
and repeat by themselves what was perhaps done, so they go the way of `fetch`.
"""

import asyncio
import fnmatch
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sequential.services.base import CallContext, CallError
from sequential.services.describe import ServiceDescription
from sequential.services.gapi_catalog import Catalog, Method
from sequential.services.gapi_credentials import Key, Tokens, key_from
from sequential.services.gapi_scopes import narrowest
from sequential.services.gapi_sending import Access, Sender
from sequential.services.local import LocalService

if TYPE_CHECKING:
    from googleapiclient.http import HttpRequest  # type: ignore[import-untyped]

PAGES = 100  # that `all_pages` goes through, if the call does not say how many
THREADS = 16
TIMEOUT = 60.0  # seconds for one request
_ANY = "https://www.googleapis.com/auth/userinfo.email"  # for what needs a token and no scope
_DIRECTORY = "https://www.googleapis.com/auth/admin.directory.user.readonly"
_UNSET: Any = object()


class GapiSettings(msgspec.Struct, frozen=True):
    """What an operator decides.

    `scopes` are those that an administrator has granted; without them the least one is asked for
    that a method accepts. `subjects` are whom tasks may act as, such as `*@example.com`; None:
    anybody that Google permits. `timeout` is seconds for one request.
    """

    root_url: str | None = None
    scopes: tuple[str, ...] = ()
    subjects: tuple[str, ...] | None = None
    timeout: float = TIMEOUT


class Options(msgspec.Struct, frozen=True):
    """What a call says to us, not to Google."""

    impersonate: Any = _UNSET
    all_pages: Any = False
    page_limit: Any = PAGES


class GapiService(LocalService):
    """All methods of all of Google's APIs. Listed are its own ones and those of the original."""

    def __init__(self, settings: GapiSettings) -> None:
        super().__init__("gapi", _DESCRIPTION)
        self._settings = settings
        self._catalog = Catalog(settings.root_url)
        # Threads of its own: a slow server of tokens shall not hold up what uses the loop's.
        self._aside = ThreadPoolExecutor(THREADS, "gapi")
        self._tokens = Tokens(self._aside, settings.timeout)
        self._sender = Sender(settings.timeout)
        self.add(self._list_domains, "admin.domains.list", retry="safe")
        self.add(self._list_users, "admin.users.list", retry="safe")
        self.add(self._list_messages, "gmail.users.messages.list", retry="safe")
        self.add(self._get_message, "gmail.users.messages.get", retry="safe")
        self.add(self._list_apis, "listApis", retry="safe")
        self.add(self._list_methods, "listMethods", retry="safe")
        self.add(self._echo, "echo", retry="safe")
        self.add(self._check_credentials, "checkCredentials", retry="safe")
        self.add(self._get_token_info, "getTokenInfo", retry="safe")
        self.add(self._clear_token_cache, "clearTokenCache", retry="idempotent")

    def accepts(self, method: str) -> bool:
        """Whether a method may be called: one that is listed, or one whose name begins with an API.

        Whether that API has it is known when it is called; reading the documents takes time.
        """
        api, dot, _ = method.partition(".")
        return method in self.methods() or (bool(dot) and api in self._catalog.names)

    def describe(self) -> ServiceDescription:
        """The listed methods; `listMethods` tells those of an API."""
        return msgspec.structs.replace(super().describe(), is_open=True)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Perform one call. Arguments may also come as one object, as the original sent them."""
        if len(args) == 1 and isinstance(args[0], Mapping) and not kwargs:
            args, kwargs = [], args[0]
        if method in self.methods():
            return await super().call(method, args, kwargs, context)
        if args:
            raise _wrong(method, "give arguments by name, as in userId='me'")
        return await self._ask(method, kwargs, context)

    async def close(self) -> None:
        """Forget the tokens and give back the connections."""
        self._tokens.clear()
        self._aside.shutdown(wait=False, cancel_futures=True)
        await self._sender.close()
        await super().close()

    async def _list_domains(
        self, context: CallContext, customer: str = "my_customer", **more: Any
    ) -> dict[str, Any]:
        """The domains of a customer, as `{"domains": [...]}`."""
        params = {**more, "customer": customer}
        answer = await self._ask("admin.domains.list", params, context)
        return {"domains": answer.get("domains", [])}

    async def _list_users(
        self,
        context: CallContext,
        customer: str | None = None,
        domain: str | None = None,
        maxResults: int = 100,  # noqa: N803 - Google's names
        **more: Any,
    ) -> dict[str, Any]:
        """The users of a domain or customer, as `{"users": [...], "nextPageToken": ...}`.

        Takes also `orderBy`, `query`, `showDeleted`, `viewType`, `pageToken` and all else that
        Google takes. There is no `nextPageToken` behind the last user.
        """
        if customer is None and domain is None:
            customer = "my_customer"
        params = {**more, "customer": customer, "domain": domain, "maxResults": maxResults}
        answer = await self._ask("admin.users.list", params, context)
        follows = {name: answer[name] for name in ("nextPageToken",) if name in answer}
        return {"users": answer.get("users", []), **follows}

    async def _list_messages(
        self,
        context: CallContext,
        userId: str = "me",  # noqa: N803
        **more: Any,
    ) -> dict[str, Any]:
        """The ids of a mailbox's messages: `q`, `maxResults`, `pageToken`, `labelIds` choose."""
        answer = await self._ask("gmail.users.messages.list", {**more, "userId": userId}, context)
        return {"messages": [], **answer}

    async def _get_message(
        self,
        context: CallContext,
        id: str,
        userId: str = "me",  # noqa: N803
        **more: Any,
    ) -> dict[str, Any]:
        """A message by its id; `format` and `metadataHeaders` say how much of it."""
        params = {**more, "userId": userId, "id": id}
        answer: dict[str, Any] = await self._ask("gmail.users.messages.get", params, context)
        return answer

    def _list_apis(self) -> list[str]:
        """The APIs there are, each also in its versions, as in "sheets" and "sheets_v4"."""
        return sorted(self._catalog.names)

    def _list_methods(self, api: str) -> list[dict[str, Any]]:
        """The methods of an API with what they take, and the scope that they ask for."""
        return self._catalog.listed(api)

    async def _echo(self, *args: Any, **values: Any) -> Any:
        """What it was given."""
        return values if not args else args[0] if len(args) == 1 else list(args)

    async def _check_credentials(
        self, context: CallContext, scopes: list[str] | None = None, impersonate: str | None = None
    ) -> dict[str, Any]:
        """Whether Google gives a token for the credentials of the keystore, and if not, why."""
        found: dict[str, Any] = {}
        try:
            key = await key_from("gapi.checkCredentials", context.secrets)
            found = {"type": key.info["type"], "account": key.info.get("client_email")}
            given = _UNSET if impersonate is None else impersonate
            subject = self._subject("gapi.checkCredentials", key, given)
            asked = tuple(scopes or (_ANY if subject is None else _DIRECTORY,))
            found |= {"subject": subject, "scopes": list(asked)}
            await self._tokens.get("gapi.checkCredentials", key, subject, asked)
        except CallError as error:
            return {"ok": False, "problem": error.failure.message, **found}
        return {"ok": True, **found}

    async def _get_token_info(self) -> list[dict[str, Any]]:
        """The tokens that this process keeps: for whom, for what, until when. Not the tokens."""
        return [
            {
                "subject": token.subject,
                "scopes": list(token.scopes),
                "expires_at": datetime.fromtimestamp(token.expires_at, UTC),
                "expires_in": round(token.expires_at - time.time()),
            }
            for token in self._tokens.listed()
        ]

    async def _clear_token_cache(self) -> dict[str, int]:
        """Forget all tokens of this process; the next call of each kind gets a new one."""
        return {"cleared": self._tokens.clear()}

    async def _ask(self, name: str, given: Mapping[str, Any], context: CallContext) -> Any:
        """The answer of a method of an API, all its pages if that is asked for."""
        method: Method = await self._in_thread(self._catalog.method, name)
        options, params = _split(name, given)
        request = await self._in_thread(self._catalog.request, method, params)
        if options.all_pages and not await self._in_thread(self._catalog.has_pages, method):
            raise _wrong(name, "it has no pages: leave all_pages out")
        key = await key_from(method.operation, context.secrets)
        owner = params.get("userId") if method.api == "gmail" else None
        subject = self._subject(method.operation, key, options.impersonate, owner)
        access = Access(self._tokens, key, subject, self._scope(method))
        if options.all_pages:
            return await self._pages(method, request, access, options.page_limit)
        return await self._sender.perform(method, request, access)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Documents are large, so reading one takes a while."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, function, *args)

    async def _pages(
        self, method: Method, request: "HttpRequest", access: Access, limit: int
    ) -> Any:
        """The pages in one: lists one after the other, of all else what the last page says."""
        whole: dict[str, Any] = {}
        for _ in range(limit):
            answer = await self._sender.perform(method, request, access)
            whole = _joined(whole, answer)
            following = await self._in_thread(self._catalog.next_page, method, request, answer)
            if following is None:
                whole.pop("nextPageToken", None)
                break
            request = following
        return whole

    def _scope(self, method: Method) -> str:
        scope = narrowest(method.scopes, method.http, self._settings.scopes)
        if scope is None and method.scopes:
            raise CallError(
                "PermissionError",
                f"{method.operation} needs one of the scopes {', '.join(method.scopes)}, and "
                "GAPI_SCOPES names none of them",
                code="refused",
            )
        return scope or _ANY

    def _subject(self, operation: str, key: Key, wanted: Any, owner: Any = None) -> str | None:
        """Whom a call acts as: whom it names, else the owner of the mailbox, else the admin."""
        if not key.is_service_account:
            if wanted is _UNSET or wanted is None:
                return None
            raise _refused(operation, f"only a service account can act as {wanted}")
        if wanted is _UNSET:
            wanted = owner if isinstance(owner, str) and "@" in owner else key.admin
        permitted = self._settings.subjects
        if wanted is None or wanted == key.admin or permitted is None:
            return None if wanted is None else str(wanted)
        if not any(fnmatch.fnmatchcase(str(wanted).lower(), one.lower()) for one in permitted):
            listed = ", ".join(permitted) or "nobody"
            raise _refused(operation, f"a task may not act as {wanted}, only as {listed}")
        return str(wanted)


def service(settings: GapiSettings | None = None) -> GapiService:
    """The service; without settings with those of the environment, see docs/wrapped-services.md."""
    return GapiService(settings or _from_environment(os.environ))


_DESCRIPTION = """\
Google's APIs, as in gapi.drive.files.list(pageSize=10).

A method is gapi.<api>.<resource>.<method>, its arguments are given by name: gapi.listApis() and
gapi.listMethods(api="docs") tell which there are. A body is body={...}, an upload media_body=b"..."
with media_mime_type="...". all_pages=True follows the pages, impersonate="ada@example.com" acts
as somebody."""


def _from_environment(environment: Mapping[str, str]) -> GapiSettings:
    scopes = environment.get("GAPI_SCOPES", "").replace(",", " ").split()
    subjects = environment.get("GAPI_SUBJECTS")
    return GapiSettings(
        root_url=environment.get("GAPI_ROOT_URL") or None,
        scopes=tuple(scopes),
        subjects=None if subjects is None else tuple(subjects.replace(",", " ").split()),
    )


def _split(name: str, given: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """What a call says to us, and what it says to Google."""
    params = dict(given)
    ours = {field: params.pop(field) for field in Options.__struct_fields__ if field in params}
    options = Options(**ours)
    if not isinstance(options.impersonate, str | None) and options.impersonate is not _UNSET:
        raise _wrong(name, "impersonate must be the address of a user, or None")
    if type(options.all_pages) is not bool:
        raise _wrong(name, "all_pages must be True or False")
    if not isinstance(options.page_limit, int) or options.page_limit < 1:
        raise _wrong(name, "page_limit must be a number from 1 on")
    return options, params


def _joined(before: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    lists = {
        name: [*before[name], *value]
        for name, value in answer.items()
        if isinstance(value, list) and isinstance(before.get(name), list)
    }
    return {**before, **answer, **lists}


def _wrong(name: str, told: str) -> CallError:
    return CallError("TypeError", f"gapi.{name}: {told}", code="invalid_call")


def _refused(operation: str, told: str) -> CallError:
    return CallError("PermissionError", f"{operation}: {told}", code="refused")

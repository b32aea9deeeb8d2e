"""The service "gapi" before a server that wants signed assertions and gives tokens."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sequential.core.model import evolve
from sequential.services import gapi_credentials
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.gapi import GapiService, GapiSettings, service
from support.google_api import USERS, Google, google, refusal
from support.kept_secrets import KeptSecrets

ADMIN = "admin@example.com"
AUTH = "https://www.googleapis.com/auth/"


@pytest.fixture
def server() -> Iterator[Google]:
    with google() as server:
        yield server


@pytest.fixture
def secrets(server: Google) -> dict[str, str]:
    return {"GAPI_KEY": server.key, "GAPI_ADMIN_EMAIL": ADMIN}


@pytest.fixture
async def gapi(server: Google) -> AsyncIterator[GapiService]:
    service = GapiService(GapiSettings(root_url=server.api.url, timeout=20))
    yield service
    await service.close()


@pytest.fixture
def context(secrets: dict[str, str]) -> CallContext:
    return CallContext("run-1", "task", 0, 1, "key-1", secrets=KeptSecrets(secrets))


async def failure(gapi: GapiService, method: str, context: CallContext, **params: Any) -> str:
    with pytest.raises(CallError) as error:
        await gapi.call(method, [], params, context)
    return f"{error.value.failure.type}: {error.value.failure.message}"


async def test_the_methods_of_the_original(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    assert await gapi.call("admin.domains.list", [], {}, context) == {
        "domains": [{"domainName": "example.com"}]
    }
    some = await gapi.call("admin.users.list", [], {"maxResults": 2}, context)
    assert some == {"users": USERS[:2], "nextPageToken": "2"}
    # The original sent all arguments as one object.
    rest = await gapi.call("admin.users.list", [{"pageToken": "2", "domain": "x.org"}], {}, context)
    assert rest == {"users": USERS[2:]}
    assert await gapi.call("gmail.users.messages.list", [], {}, context) == {"messages": ["m"]}
    nothing = await gapi.call("gmail.users.messages.list", [], {"q": "is:unread"}, context)
    assert nothing == {"messages": [], "resultSizeEstimate": 0}
    message = {"id": "m1", "format": "full"}
    assert await gapi.call("gmail.users.messages.get", [], message, context) == {
        "id": "m1",
        "snippet": "Hello",
        "format": "full",
    }
    assert [one.partition("/")[2] for one in server.asked] == [
        "admin/directory/v1/customer/my_customer/domains?alt=json",
        "admin/directory/v1/users?customer=my_customer&maxResults=2&alt=json",
        "admin/directory/v1/users?pageToken=2&domain=x.org&maxResults=100&alt=json",
        "gmail/v1/users/me/messages?alt=json",
        "gmail/v1/users/me/messages?q=is%3Aunread&alt=json",
        "gmail/v1/users/me/messages/m1?format=full&alt=json",
    ]


async def test_every_other_api_by_its_name(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    values = {"spreadsheetId": "s1", "range": "A1:B1"}
    cells = await gapi.call("sheets.spreadsheets.values.get", [], values, context)
    assert cells["values"] == [["1", "2"]]
    sent = {"userId": "me", "body": {"raw": "SGVsbG8"}}
    assert (await gapi.call("gmail.users.messages.send", [], sent, context))["raw"] == "SGVsbG8"
    gone = {"userId": "me", "id": "m1"}
    assert await gapi.call("gmail_v1.users.messages.delete", [], gone, context) is None
    assert server.asked[-1] == "DELETE /gmail/v1/users/me/messages/m1"
    assert gapi.accepts("docs.documents.get")
    assert gapi.accepts("calendar_v3.events.list")
    assert not gapi.accepts("gmail")
    assert not gapi.accepts("os.system")


async def test_files_go_up_and_come_down(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    small, large = b"From here\r\n\x00\xff", b"x" * (5 * 1024 * 1024 + 1)
    for name, content in (("small", small), ("large", large)):
        upload = {"body": {"name": name}, "media_body": content, "media_mime_type": "text/plain"}
        assert (await gapi.call("drive.files.create", [], upload, context))["id"] == name
    assert server.files["large"] == large
    assert await gapi.call("drive.files.get_media", [], {"fileId": "small"}, context) == small
    assert await gapi.call("drive.files.list", [], {}, context) == {
        "files": [{"id": "small"}, {"id": "large"}]
    }


async def test_a_token_does_not_go_where_an_upload_is_sent_to(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    server.place = "http://127.0.0.1:9/"
    upload = {"body": {"name": "n"}, "media_body": b"x" * (5 * 1024 * 1024 + 1)}
    told = await failure(gapi, "drive.files.create", context, **upload)
    assert told.endswith("gapi.drive.files.create: it was not told where to put the content")


async def test_values_of_tasks_are_written_as_google_does(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    raw = b"From: me\n\n\xff\xfe?"
    body = {"raw": raw, "labelIds": ("a",), "internalDate": Decimal("1.10")}
    sent = await gapi.call("gmail.users.messages.send", [], {"userId": "me", "body": body}, context)
    assert base64.urlsafe_b64decode(sent["raw"]) == raw
    assert (sent["labelIds"], sent["internalDate"]) == (["a"], "1.10")
    server.later = [(200, {"items": []}, {})]
    since = datetime(2026, 11, 21, 3, 4, tzinfo=UTC)
    await gapi.call("calendar.events.list", [], {"calendarId": "c", "timeMin": since}, context)
    assert "timeMin=2026-11-21T03%3A04%3A00%2B00%3A00" in server.asked[-1]


async def test_all_pages_in_one(gapi: GapiService, server: Google, context: CallContext) -> None:
    params = {"customer": "c", "maxResults": 2, "all_pages": True}
    assert await gapi.call("admin.users.list", [], params, context) == {"users": USERS}
    assert len(server.asked) == 3
    some = await gapi.call("admin.users.list", [], {**params, "page_limit": 2}, context)
    assert some == {"users": USERS[:4], "nextPageToken": "4"}

    told = await failure(gapi, "gmail.users.messages.send", context, userId="me", all_pages=True)
    assert told.endswith("it has no pages: leave all_pages out")
    assert len(server.asked) == 5


async def test_a_long_request_is_sent_as_a_form(gapi: GapiService, context: CallContext) -> None:
    params = {"projectId": "p", "jobId": "j", "location": "x" * 3000}
    answer = await gapi.call("bigquery.jobs.get", [], params, context)
    assert answer["override"] == "GET"
    assert answer["form"]["location"] == "x" * 3000


async def test_tokens_are_for_one_person_and_the_least_scope(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    calls: list[tuple[str, dict[str, Any], str | None, str]] = [
        ("admin.users.list", {}, ADMIN, "admin.directory.user.readonly"),
        ("gmail.users.messages.list", {"userId": "me"}, ADMIN, "gmail.readonly"),
        ("gmail.users.messages.list", {"userId": "ada@x.org"}, "ada@x.org", "gmail.readonly"),
        ("gmail.users.messages.list", {"impersonate": "b@x.org"}, "b@x.org", "gmail.readonly"),
        ("drive.files.list", {"impersonate": None}, None, "drive.readonly"),
    ]
    for method, params, _, _ in (*calls, *calls):
        await gapi.call(method, [], params, context)
    asked = [(claims.get("sub"), claims["scope"]) for claims in server.claims]
    assert asked == [(subject, AUTH + scope) for _, _, subject, scope in calls]

    info = await gapi.call("getTokenInfo", [], {}, context)
    assert [one["subject"] for one in info] == [subject for _, _, subject, _ in calls]
    assert not any(token in repr(info) for token in server.tokens)
    assert await gapi.call("clearTokenCache", [], {}, context) == {"cleared": 5}
    assert await gapi.call("getTokenInfo", [], {}, context) == []


async def test_a_token_near_its_end_is_replaced(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    server.token_lasts = 299
    for _ in range(2):
        await gapi.call("admin.domains.list", [], {}, context)
    assert len(server.claims) == 2


async def test_many_calls_at_a_time_get_one_token(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    await asyncio.gather(*(gapi.call("admin.domains.list", [], {}, context) for _ in range(8)))
    assert len(server.claims) == 1


async def test_a_token_that_was_withdrawn_is_replaced_once(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    await gapi.call("admin.domains.list", [], {}, context)
    server.tokens.clear()
    await gapi.call("admin.domains.list", [], {}, context)
    assert len(server.claims) == 2

    server.later = [(401, refusal(401, "authError", "Invalid Credentials"), {})] * 2
    told = await failure(gapi, "admin.domains.list", context)
    assert told == (
        "RuntimeError: gapi.admin.domains.list: HTTP 401: authError: Invalid Credentials"
    )


async def test_a_user_who_agreed(
    gapi: GapiService, server: Google, context: CallContext, secrets: dict[str, str]
) -> None:
    del secrets["GAPI_KEY"]
    secrets |= {"GAPI_REFRESH_TOKEN": "1//r", "GAPI_CLIENT_ID": "id"}
    told = await failure(gapi, "drive.files.list", context)
    assert told.startswith("LookupError: gapi.drive.files.list: GAPI_REFRESH_TOKEN needs")

    # Google's own file for such credentials holds the same, and here the address of the server.
    user = {"refresh_token": "1//r", "client_id": "id", "client_secret": "shh"}
    user |= {"type": "authorized_user", "token_uri": f"{server.api.url}/token"}
    secrets["GAPI_KEY"] = json.dumps(user)
    assert await gapi.call("drive.files.list", [], {}, context) == {"files": []}
    assert server.claims[0]["refresh_token"] == "1//r"
    told = await failure(gapi, "drive.files.list", context, impersonate="ada@example.com")
    assert "only a service account can act as ada@example.com" in told


async def test_whom_tasks_may_act_as(
    server: Google, context: CallContext, secrets: dict[str, str]
) -> None:
    gapi = GapiService(GapiSettings(root_url=server.api.url, subjects=("*@sales.example.com",)))
    ada = {"userId": "Ada@sales.example.com"}
    await gapi.call("gmail.users.messages.list", [], ada, context)
    await gapi.call("admin.domains.list", [], {}, context)  # the admin is the operator's choice
    told = await failure(gapi, "gmail.users.messages.list", context, userId="boss@example.com")
    assert told == (
        "PermissionError: gapi.gmail.users.messages.list: a task may not act as "
        "boss@example.com, only as *@sales.example.com"
    )
    await gapi.close()


async def test_only_scopes_that_were_granted_are_asked_for(
    server: Google, context: CallContext
) -> None:
    gapi = GapiService(GapiSettings(root_url=server.api.url, scopes=(f"{AUTH}gmail.modify",)))
    await gapi.call("gmail.users.messages.list", [], {}, context)
    assert server.claims[0]["scope"] == f"{AUTH}gmail.modify"
    told = await failure(gapi, "drive.files.list", context)
    assert told.startswith("PermissionError: gapi.drive.files.list needs one of the scopes")
    await gapi.close()


@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("gmial.users.messages.list", {}, "there is no API 'gmial'; did you mean 'gmail'?"),
        ("gmail.users.message.list", {}, "did you mean 'gmail.users.messages.list'?"),
        ("gmail._http.close", {}, "gmail has no method '_http.close'"),
        ("gmail.users.messages.list_next", {}, "gmail has no method"),
        ("gmail.users.__class__", {}, "gmail has no method"),
        ("gmail.users.messages.get", {}, "id"),
        ("drive.files.get", {}, 'Missing required parameter "fileId"'),
        ("drive.files.get", {"fileId": "1", "x": 2}, "Got an unexpected keyword argument x"),
        ("drive.files.list", {"corpora": 5, "orderBy": {}, "pageSize": "many"}, "many"),
        ("drive.files.list", {"access_token": "t"}, "access_token is not for tasks"),
        ("drive.files.create", {"media_body": "/etc/passwd"}, "media_body must be bytes"),
        ("drive.files.list", {"media_body": b"x"}, "it takes no media_body"),
        ("drive.files.list", {"page_limit": 0}, "page_limit must be a number from 1 on"),
        ("drive.files.list", {"all_pages": "yes"}, "all_pages must be True or False"),
        ("drive.files.list", {"impersonate": 5}, "impersonate must be the address of a user"),
        ("logging.projects.sinks.get", {"sinkName": "projects/../sinks/x"}, "leads out"),
    ],
)
async def test_what_google_would_not_understand_is_not_sent(
    gapi: GapiService,
    server: Google,
    context: CallContext,
    method: str,
    params: dict[str, Any],
    told: str,
) -> None:
    assert told in await failure(gapi, method, context, **params)
    assert server.api.requests == []


async def test_arguments_without_names_are_refused(gapi: GapiService, context: CallContext) -> None:
    with pytest.raises(CallError, match=r"gapi.drive.files.get: give arguments by name"):
        await gapi.call("drive.files.get", ["1"], {}, context)


def once(status: int, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
    return status, body, headers


@pytest.mark.parametrize(
    ("method", "params", "answer", "again"),
    [
        ("drive.files.list", {}, once(503, b"<html>busy</html>"), True),
        ("drive.files.list", {}, once(429, refusal(429, "rateLimitExceeded", "Slow down")), True),
        ("drive.files.list", {}, once(403, refusal(403, "userRateLimitExceeded", "Slow")), True),
        ("drive.files.list", {}, once(403, refusal(403, "dailyLimitExceeded", "Over")), False),
        ("drive.files.list", {}, once(404, refusal(404, "notFound", "File not found")), False),
        ("drive.files.create", {"body": {}}, once(503, {"error": {"status": "X"}}), False),
        ("drive.files.create", {"body": {}}, once(429, {"error": {"status": "X"}}), True),
    ],
)
async def test_which_errors_are_worth_another_attempt(
    gapi: GapiService,
    server: Google,
    context: CallContext,
    method: str,
    params: dict[str, Any],
    answer: tuple[int, Any, dict[str, str]],
    again: bool,
) -> None:
    server.later = [(answer[0], answer[1], {"Retry_After": "7"})]
    with pytest.raises(TryAgain if again else CallError) as error:
        await gapi.call(method, [], params, context)
    if isinstance(error.value, TryAgain):
        assert error.value.retry_after == 7
    assert f"HTTP {answer[0]}" in str(error.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff\xfe{}", b"[1, 2"])
async def test_an_answer_that_is_none(
    gapi: GapiService, server: Google, context: CallContext, body: bytes
) -> None:
    server.later = [(200, body, {"kind": "text/html"})]
    told = await failure(gapi, "admin.domains.list", context)
    assert told.endswith("gapi.admin.domains.list: the answer is no JSON but text/html")


async def test_a_server_that_repeats_what_it_was_sent(
    gapi: GapiService, server: Google, context: CallContext, secrets: dict[str, str]
) -> None:
    await gapi.call("admin.domains.list", [], {}, context)
    (token,) = server.tokens
    private = json.loads(secrets["GAPI_KEY"])["private_key"]
    server.later = [once(400, refusal(400, "bad", f"{token} of {private}"))]
    told = await failure(gapi, "admin.domains.list", context)
    assert told.endswith("HTTP 400: bad: (hidden) of (hidden)")


async def test_a_slow_server_and_none_at_all(server: Google, context: CallContext) -> None:
    gapi = GapiService(GapiSettings(root_url=f"{server.api.url}/slow/5/", timeout=0.3))
    started = time.monotonic()
    with pytest.raises(TryAgain) as error:
        await gapi.call("drive.files.list", [], {}, context)
    failed = error.value.outcome.error
    assert failed is not None
    assert (failed.type, failed.message) == (
        "TimeoutError",
        "gapi.drive.files.list: no answer within 0.3 s",
    )
    assert time.monotonic() - started < 3
    await gapi.close()

    gapi = GapiService(GapiSettings(root_url="http://127.0.0.1:9/", timeout=5))
    for method in ("drive.files.list", "drive.files.create"):  # nothing was sent, so both
        with pytest.raises(TryAgain, match=r"OSError: gapi.drive.files.*cannot connect"):
            await gapi.call(method, [], {}, context)
    await gapi.close()

    server.deaf_for = 5
    gapi = GapiService(GapiSettings(root_url=server.api.url, timeout=0.3))
    with pytest.raises(TryAgain, match="the server of tokens cannot be reached: TimeoutError"):
        await gapi.call("drive.files.list", [], {}, context)
    await gapi.close()


async def test_not_every_token_ever_used_is_kept(
    server: Google, context: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gapi_credentials, "MOST", 3)
    gapi = GapiService(GapiSettings(root_url=server.api.url))
    for n in range(5):
        person = {"userId": f"user{n}@example.com"}
        await gapi.call("gmail.users.messages.list", [], person, context)
    kept = await gapi.call("getTokenInfo", [], {}, context)
    assert [one["subject"] for one in kept] == [f"user{n}@example.com" for n in (2, 3, 4)]
    await gapi.close()


async def test_the_server_of_tokens_misbehaves(
    gapi: GapiService, server: Google, context: CallContext, secrets: dict[str, str]
) -> None:
    server.token_later = [once(503, b"busy", Retry_After="9")]
    with pytest.raises(TryAgain, match="HTTP 503: the server of tokens is not ready") as error:
        await gapi.call("admin.domains.list", [], {}, context)
    assert error.value.retry_after == 9
    server.token_later = [once(200, b"<html>")]
    assert "something else than a token" in await failure(gapi, "admin.domains.list", context)
    server.token_later = [once(200, {"hello": 1})]
    assert await failure(gapi, "admin.domains.list", context)
    server.token_later = [once(401, {"error": "unauthorized_client", "error_description": "No"})]
    told = await failure(gapi, "admin.domains.list", context)
    assert "PermissionError: gapi.admin.domains.list: Google refuses the credentials" in told
    assert f"grant {AUTH}admin.directory.domain.readonly to the client id" in told
    secrets["GAPI_ADMIN_EMAIL"] = "nobody@example.com"
    told = await failure(gapi, "admin.domains.list", context)
    assert "is nobody@example.com a user of the domain?" in told
    # It is back.
    secrets["GAPI_ADMIN_EMAIL"] = ADMIN
    assert await gapi.call("admin.domains.list", [], {}, context)


@pytest.mark.parametrize(
    "key", ["no json", "[]", '{"type": "service_account"}', '{"type": "external_account"}', "null"]
)
async def test_a_key_that_is_none(
    gapi: GapiService, context: CallContext, secrets: dict[str, str], key: str
) -> None:
    secrets["GAPI_KEY"] = key
    told = await failure(gapi, "admin.domains.list", context)
    assert told.startswith("ValueError: gapi.admin.domains.list: the secret GAPI_KEY is no key")


async def test_checking_the_credentials(
    gapi: GapiService, server: Google, context: CallContext, secrets: dict[str, str]
) -> None:
    assert await gapi.call("checkCredentials", [], {}, context) == {
        "ok": True,
        "type": "service_account",
        "account": "robot@project.iam.gserviceaccount.com",
        "subject": ADMIN,
        "scopes": [f"{AUTH}admin.directory.user.readonly"],
    }
    wrong = await gapi.call("checkCredentials", [], {"impersonate": "nobody@x.org"}, context)
    assert wrong["ok"] is False
    assert "Google refuses the credentials" in wrong["problem"]
    private = json.loads(secrets["GAPI_KEY"])
    secrets["GAPI_KEY"] = json.dumps({**private, "private_key": "-----BEGIN nothing"})
    wrong = await gapi.call("checkCredentials", [], {}, context)
    assert "the private key in the secret GAPI_KEY cannot be read" in wrong["problem"]
    assert "BEGIN" not in wrong["problem"]
    secrets.clear()
    wrong = await gapi.call("checkCredentials", [], {}, context)
    assert wrong == {"ok": False, "problem": "there is no secret 'GAPI_KEY'"}


async def test_what_there_is(gapi: GapiService, context: CallContext) -> None:
    assert await gapi.call("echo", ["hello"], {}, context) == "hello"
    assert await gapi.call("echo", [], {"a": 1}, context) == {"a": 1}
    names = await gapi.call("listApis", [], {}, context)
    assert {"gmail", "admin", "admin_reports_v1", "sheets_v4", "docs", "drive", "calendar"} <= set(
        names
    )
    methods = await gapi.call("listMethods", ["gmail"], {}, context)
    send = next(one for one in methods if one["name"] == "gmail.users.messages.send")
    assert send["scope"] == f"{AUTH}gmail.send"
    assert send["parameters"] == {"userId": "string", "body": "Message"}
    described = gapi.describe()
    assert described.is_open
    assert {one.name for one in described.methods} == set(gapi.methods())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPI_ROOT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GAPI_SCOPES", "a, b")
    monkeypatch.setenv("GAPI_SUBJECTS", "*@example.com")
    settings = service()._settings
    assert settings.root_url == "http://127.0.0.1:1"
    assert settings.scopes == ("a", "b")
    assert settings.subjects == ("*@example.com",)


async def test_credentials_that_the_task_may_not_use(
    gapi: GapiService, server: Google, context: CallContext
) -> None:
    context = evolve(context, secrets=KeptSecrets({"GAPI_KEY": server.key}, refuse={"GAPI_KEY"}))
    told = await failure(gapi, "admin.domains.list", context)
    assert told.startswith("PermissionError: the secret 'GAPI_KEY' is not in")

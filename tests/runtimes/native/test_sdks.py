"""SDKs as they are, durable: those of OpenAI, Google, Stripe, Supabase and AWS."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.http_api import HttpApi
from support.http_lab import HttpLab
from support.sdk_api import USERS, serve_sdks
from support.sdk_key import PRIVATE_KEY


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve_sdks() as running:
        yield running


def operations(calls: Any) -> list[str]:
    return [call.operation for call in calls]


async def test_openai(api: HttpApi) -> None:
    code = """
from openai import OpenAI

def job(input):
    client = OpenAI(api_key="sk-test", base_url=input["api"] + "/v1")
    messages = [{"role": "user", "content": "hello"}]
    answer = client.chat.completions.create(model="m", messages=messages)
    stream = client.chat.completions.create(model="m", messages=messages, stream=True)
    words = [event.choices[0].delta.content for event in stream]
    embedded = client.embeddings.create(model="e", input=["abc", "de"])
    file = client.files.create(file=("a.txt", b"content"), purpose="assistants")
    return [
        answer.choices[0].message.content,
        words,
        [one.embedding for one in embedded.data],
        file.bytes,
    ]
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    text, words, embedded, size = run.value
    assert text == "You said: hello"
    assert words == ["You ", "said: ", "hello "]
    assert embedded == [[3.0, 0.5], [2.0, 0.5]]
    assert size > len("content")
    assert operations(calls) == ["http.fetch"] * 4
    assert len(api.requests) == 4


async def test_openai_responses(api: HttpApi) -> None:
    code = """
from openai import OpenAI

def job(input):
    client = OpenAI(api_key="sk-test", base_url=input["api"] + "/v1")
    asked = ["one", "two"]
    return [client.responses.create(model="m", input=text).output_text for text in asked]
"""
    assert await HttpLab().value(code, api=api.url) == ["Read: one", "Read: two"]


async def test_openai_with_asyncio(api: HttpApi) -> None:
    code = """
import asyncio
from openai import AsyncOpenAI

async def job(input):
    async with AsyncOpenAI(api_key="sk-test", base_url=input["api"] + "/v1") as client:
        async def ask(text):
            messages = [{"role": "user", "content": text}]
            answer = await client.chat.completions.create(model="m", messages=messages)
            return answer.choices[0].message.content

        answers = await asyncio.gather(*[ask(text) for text in "abc"])
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "bye"}], stream=True
        )
        return [answers, [event.choices[0].delta.content async for event in stream]]
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    assert run.value == [["You said: a", "You said: b", "You said: c"], ["You ", "said: ", "bye "]]
    fetches = [call for call in calls if call.operation == "http.fetch"]
    assert len({call.requested_turn for call in fetches[:3]}) == 1  # they were made together
    assert len(api.requests) == 4


@pytest.mark.parametrize("status", [429, 500])
async def test_openai_tries_again_and_sleeps_durably(api: HttpApi, status: int) -> None:
    code = """
from openai import OpenAI

def job(input):
    client = OpenAI(api_key="sk-test", base_url=input["api"] + "/v1", max_retries=3)
    return client.embeddings.create(
        model="e", input="abc", encoding_format="float", extra_headers={"X-Fail": input["fail"]}
    ).data[0].embedding
"""
    run, calls = await HttpLab().run(code, api=api.url, fail=f"{status} 2")

    assert run.error is None, run.error
    assert run.value == [3.0, 0.5]
    again = ["clock.sleep", "http.fetch"]
    assert operations(calls) == ["http.fetch", *again, *again]
    assert [call.input for call in calls if call.operation == "clock.sleep"] == [
        {"seconds": 2.0},  # as the server asked
        {"seconds": 2.0},
    ]


async def test_openai_that_cannot_be_reached(api: HttpApi) -> None:
    code = """
import openai

def job(input):
    client = openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:9/v1", max_retries=2)
    try:
        client.models.list()
    except openai.APIConnectionError as error:
        return str(error.__cause__)
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    assert "cannot connect to 127.0.0.1:9: connection refused" in run.value
    assert operations(calls).count("http.fetch") == 3


DOCUMENT = {
    "kind": "discovery#restDescription",
    "name": "admin",
    "version": "directory_v1",
    "servicePath": "",
    "batchPath": "batch",
    "schemas": {
        "Users": {
            "id": "Users",
            "type": "object",
            "properties": {"nextPageToken": {"type": "string"}},
        }
    },
    "resources": {
        "users": {
            "methods": {
                "list": {
                    "id": "directory.users.list",
                    "path": "users",
                    "httpMethod": "GET",
                    "parameters": {"pageToken": {"type": "string", "location": "query"}},
                    "response": {"$ref": "Users"},
                }
            }
        }
    },
}
ACCOUNT = {
    "type": "service_account",
    "client_email": "task@project.iam.example",
    "private_key": PRIVATE_KEY,
    "private_key_id": "1",
}
GOOGLE = """
from google.oauth2 import service_account
from googleapiclient.discovery import build_from_document

def job(input):
    account = {**input["account"], "token_uri": input["api"] + "/token"}
    credentials = service_account.Credentials.from_service_account_info(account, scopes=["users"])
    document = {**input["document"], "rootUrl": input["api"] + "/"}
    users = build_from_document(document, credentials=credentials).users()
    found, request = [], users.list()
    while request is not None:
        request.headers["X-Fail"] = input["fail"]
        page = request.execute(num_retries=3)
        found += [user["primaryEmail"] for user in page["users"]]
        request = users.list_next(request, page)
    return found
"""


async def test_google(api: HttpApi) -> None:
    """The token is signed with the time of the run, so a replay signs the same one."""
    run, calls = await HttpLab().run(
        GOOGLE, api=api.url, account=ACCOUNT, document=DOCUMENT, fail=""
    )

    assert run.error is None, run.error
    assert run.value == USERS
    assert operations(calls) == ["http.fetch"] * 3
    assert [request.path for request in api.requests] == ["/token", "/users", "/users"]
    token = f"Bearer t{int(run_started(run))}"
    assert [request.headers["authorization"] for request in api.requests[1:]] == [token] * 2


def run_started(run: Any) -> float:
    from sequential.core import times

    return times.from_text(run.started_at).timestamp()


async def test_google_tries_again_and_sleeps_durably(api: HttpApi) -> None:
    run, calls = await HttpLab().run(
        GOOGLE, api=api.url, account=ACCOUNT, document=DOCUMENT, fail="503 2"
    )

    assert run.error is None, run.error
    assert run.value == USERS
    assert operations(calls).count("clock.sleep") == 2
    assert api.count("/users") == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_stripe(api: HttpApi, kind: str) -> None:
    """It sends an idempotency key of its own, which is drawn from the run."""
    pytest.importorskip("stripe")
    code = """
import stripe

def client(input, http_client=None):
    return stripe.StripeClient(
        "sk_test", base_addresses={"api": input["api"]}, http_client=http_client
    ).v1.customers

def sync(input):
    return client(input).create({"email": "a@example.com"}).email

async def later(input):
    customers = client(input, stripe.HTTPXClient())
    return (await customers.create_async({"email": "a@example.com"})).email

def main(input):
    return sync(input) if input["kind"] == "sync" else later(input)
"""
    run, calls = await HttpLab().run(code, api=api.url, kind=kind)

    assert run.error is None, run.error
    assert run.value == "a@example.com"
    assert operations(calls) == ["http.fetch"]
    assert not api.last.headers["idempotency-key"].startswith("seq-")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_supabase(api: HttpApi) -> None:
    code = """
from supabase import acreate_client, create_client

async def job(input):
    things = create_client(input["api"], "a.b.c").table("things")
    added = things.insert({"a": 1}).execute().data
    client = await acreate_client(input["api"], "a.b.c")
    found = await client.table("things").select("*").eq("id", 1).execute()
    return [added, found.data]
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    assert run.value == [{"a": 1}, [{"id": 1, "table": "things"}]]
    assert operations(calls) == ["http.fetch"] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_s3(api: HttpApi) -> None:
    """It signs with the time, and asks for leave before it sends the body."""
    pytest.importorskip("boto3", reason="14 MB that nothing else here needs: pip install boto3")
    code = """
import boto3

def job(input):
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-west-1"}
    s3 = boto3.client("s3", endpoint_url=input["api"], **keys)
    s3.put_object(Bucket="bucket", Key="name", Body=b"content")
    return s3.get_object(Bucket="bucket", Key="name")["Body"].read()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    assert run.value == b"content"
    assert operations(calls) == ["http.fetch"] * 2

"""Programs elsewhere: the verbs of an engine over HTTP, and services that run on a server.

from sequential.client import Client, service_proxy

async with Client("https://host", token) as client:
    run = await client.start("my-emails", {"userId": "123"})
    print((await run.wait()).result)

gapi = service_proxy("gapi", base_url="https://host", token=token)
print(await gapi.admin.domains.list(customer="my_customer"))

Neither engine nor storage nor the sandbox is imported by this.
"""

from sequential.client.client import Client
from sequential.client.errors import (
    AnswerTimeoutError,
    BadAnswerError,
    NoAnswerError,
    RemoteError,
    ServiceError,
)
from sequential.client.services import ServiceProxy, service_proxy
from sequential.client.sync_client import SyncClient, SyncRun
from sequential.client.sync_services import SyncServiceProxy, sync_service_proxy

__all__ = [
    "AnswerTimeoutError",
    "BadAnswerError",
    "Client",
    "NoAnswerError",
    "RemoteError",
    "ServiceError",
    "ServiceProxy",
    "SyncClient",
    "SyncRun",
    "SyncServiceProxy",
    "service_proxy",
    "sync_service_proxy",
]

"""The keystore over HTTP: secrets go in and never come out."""

import msgspec
from litestar.params import FromPath, JSONBody

from sequential.web.handlers import TheEngine, delete, get, put
from sequential.web.records import Page


class NewSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of a secret."""

    value: str


@get("/keys", role="operate", summary="The names of the secrets")
async def list_keys(engine: TheEngine) -> Page[str]:
    return Page(await engine.keys.list())


@put("/keys/{name:path}", status_code=204, summary="Set a secret")
async def set_key(data: JSONBody[NewSecret], engine: TheEngine, name: FromPath[str]) -> None:
    """Tasks use it by its name; nobody can read it here again."""
    await engine.keys.set(name.removeprefix("/"), data.value)


@delete("/keys/{name:path}", summary="Remove a secret")
async def delete_key(engine: TheEngine, name: FromPath[str]) -> None:
    await engine.keys.delete(name.removeprefix("/"))


HANDLERS = [list_keys, set_key, delete_key]

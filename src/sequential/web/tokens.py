"""Tokens over HTTP: made, listed, revoked. The audit log has who did it."""

from typing import Annotated

import msgspec
from litestar.params import FromPath, JSONBody

from sequential.core.bounds import TokenLimits
from sequential.runner.tokens import LONGEST_LIFE, LONGEST_NAME, Role, Token
from sequential.web.actor import AnyRequest
from sequential.web.front import note_subject
from sequential.web.handlers import TheEngine, delete, get, post
from sequential.web.records import Page


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made: whose it is, what it may do, and for how many seconds."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
    role: Role = "read"
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_LIFE)] | None = None
    limits: TokenLimits | None = None


class MadeToken(Token, frozen=True, kw_only=True):
    """A new token. `token` is what to send; it is shown this once."""

    token: str


@get("/tokens", role="operate", summary="The tokens there are")
async def list_tokens(engine: TheEngine) -> Page[Token]:
    """Without the tokens themselves, which nobody can read."""
    return Page(await engine.tokens.list())


@post("/tokens", status_code=201, opt={"action": "tokens.create"}, summary="Make a token")
async def create_token(
    request: AnyRequest, data: JSONBody[NewToken], engine: TheEngine
) -> MadeToken:
    """From then on nobody can use this server without one, also on its own machine."""
    record, text = await engine.tokens.create(
        data.name, data.role, expires_in=data.expires_in, limits=data.limits
    )
    note_subject(request, f"{record.name} ({record.id}), {record.role}")
    return MadeToken(**msgspec.structs.asdict(record), token=text)


@delete("/tokens/{token_id:str}", opt={"action": "tokens.revoke"}, summary="Revoke a token")
async def revoke_token(engine: TheEngine, token_id: FromPath[str]) -> None:
    """It is refused within two seconds by all servers of the store; its runs go on."""
    await engine.tokens.revoke(token_id)


HANDLERS = [list_tokens, create_token, revoke_token]

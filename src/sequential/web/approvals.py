"""Approval links over HTTP: made for a run, and the page that they lead to.

Looking at the page answers nothing, since programs that look for viruses follow links in e-mails.
What is sent from it, or as JSON to the same address, counts once.
"""

from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from litestar.params import FromPath, JSONBody, QueryParameter

from sequential.core import times
from sequential.core.model import Status
from sequential.errors import InvalidTransitionError, SequentialError
from sequential.runner.approvals import WEEK, Given, Question
from sequential.runner.engine import Engine
from sequential.web.approval_answer import BadAnswer, check_size, is_json, read_answer
from sequential.web.approval_page import (
    HEADERS,
    answered_page,
    over,
    question_page,
    trouble_page,
)
from sequential.web.errors import Refused
from sequential.web.handlers import TheEngine, TheSettings, get, post
from sequential.web.runs import RunId, found
from sequential.web.settings import ServerSettings
from sequential.web.webhooks import public_url

AnyRequest = Request[Any, Any, Any]
Token = Annotated[str, QueryParameter(description="what the link says, signed")]


class NewLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link for somebody who is to answer `wait_for_event(event)`.

    It counts for `expires_in` seconds. `schema` makes a form, `to` is who gets the link, and of
    several with one `key` the first answer counts.
    """

    event: str
    expires_in: float = WEEK
    schema: dict[str, Any] | None = None
    title: str = ""
    description: str = ""
    to: str = ""
    key: str | None = None


class MadeLink(msgspec.Struct, frozen=True):
    """The address to hand on, and when it counts no more."""

    url: str
    expires_at: str


class Decided(msgspec.Struct, frozen=True):
    """The run that was answered."""

    id: str
    status: Status


@post("/runs/{run_id:str}/links", status_code=201, summary="Make an approval link")
async def make(
    request: AnyRequest,
    data: JSONBody[NewLink],
    engine: TheEngine,
    settings: TheSettings,
    run_id: RunId,
) -> MadeLink:
    """The address of a page on which somebody without a token approves or rejects, once."""
    run = await found(engine, run_id)
    if run.status.is_final:
        raise InvalidTransitionError(f"run {run.id} is over: it is {run.status}")
    options = msgspec.structs.asdict(data)
    event = options.pop("event")
    base = public_url(request, settings)
    url = engine.approvals.link(run.id, event, **options, base_url=base)
    return MadeLink(url, times.after(engine.now(), data.expires_in))


@get("/approve/{run_id:str}/{event:path}", role="public", include_in_schema=False)
async def ask(
    request: AnyRequest, engine: TheEngine, run_id: FromPath[str], token: Token = ""
) -> Response[bytes]:
    """The page of a link."""
    try:
        question = await engine.approvals.question(run_id, _event(request), token)
    except SequentialError as error:
        return _trouble(error)
    if question.given is not None:
        return _page(answered_page(question, question.given, is_new=False), 410)
    if question.run.status.is_final:
        return _trouble(over(question.run))
    return _page(question_page(question))


@post("/approve/{run_id:str}/{event:path}", role="public", include_in_schema=False)
async def decide(
    request: AnyRequest,
    engine: TheEngine,
    settings: TheSettings,
    run_id: FromPath[str],
    token: Token = "",
) -> Response[Any]:
    """Answer with the page's form, or with `{"approved": true, ...}` as JSON."""
    content_type = request.headers.get("content-type", "")
    wants_json = is_json(content_type)
    body = await request.body()
    try:
        check_size(body)
        question = await engine.approvals.question(run_id, _event(request), token)
        if question.given is not None:
            return _again(question, question.given, is_json=wants_json)
        answer = read_answer(question, content_type, body)
        if answer.wrong:
            return _page(question_page(question, answer.sent, answer.wrong), 400)
        return await _answer(engine, request, settings, question, answer.data, is_json=wants_json)
    except BadAnswer as bad:
        raise Refused(bad.status, bad.code, str(bad)) from None
    except SequentialError as error:
        if wants_json:
            raise
        return _trouble(error)


async def _answer(
    engine: Engine,
    request: AnyRequest,
    settings: ServerSettings,
    question: Question,
    answer: dict[str, Any],
    *,
    is_json: bool,
) -> Response[Any]:
    if question.run.status.is_final:
        raise over(question.run)
    run = await engine.answer(question.run.id, question.event, answer, id=question.answer_id)
    given = await engine.approvals.given(run, question) or Given(engine.now(), answer)
    if given.data != answer:  # somebody else was quicker
        return _again(question, given, is_json=is_json)
    if settings.audit_days:
        await engine.audit.record(
            f"link for {question.to}" if question.to else "link",
            "approvals.decide",
            f"{run.id} {question.event}",
            address=request.scope["state"].get("address", ""),
            outcome="approved" if answer["approved"] else "rejected",
        )
    if is_json:
        return Response(Decided(run.id, run.status), status_code=200)
    return _page(answered_page(question, given, is_new=True))


def _event(request: AnyRequest) -> str:
    """The last part of the path as it was sent: names of events may have slashes in them."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return unquote(raw.partition(b"?")[0].rpartition(b"/")[2].decode("ascii", "replace"))


def _again(question: Question, given: Given, *, is_json: bool) -> Response[Any]:
    if is_json:
        raise Refused(409, "already_answered", f"this was answered at {given.at}")
    return _page(answered_page(question, given, is_new=False), 409)


def _trouble(error: SequentialError) -> Response[bytes]:
    """The page for a link that cannot be answered; of errors of the engine it says nothing."""
    status, text = trouble_page(error)
    return _page(text, status)


def _page(text: str, status: int = 200) -> Response[bytes]:
    return Response(
        text.encode("utf-8", "replace"),
        status_code=status,
        media_type="text/html",
        headers=HEADERS,
    )


HANDLERS = [make]
PUBLIC_HANDLERS = [ask, decide]

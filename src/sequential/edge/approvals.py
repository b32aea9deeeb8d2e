"""The page of an approval link, from a short-lived function: the same as the server's."""

from typing import TYPE_CHECKING

from sequential.edge.message import Refused, Request, Response, json_response
from sequential.errors import SequentialError
from sequential.runner.approvals import Given
from sequential.web.approval_answer import BadAnswer, check_size, is_json, read_answer
from sequential.web.approval_page import (
    HEADERS,
    answered_page,
    over,
    question_page,
    trouble_page,
)

if TYPE_CHECKING:
    from sequential.edge.handler import Edge


async def ask(edge: "Edge", request: Request, run_id: str, event: str) -> Response:
    """The page; looking at it answers nothing."""
    try:
        question = await edge.question(request, run_id, event)
        if question.given is not None:
            return _page(answered_page(question, question.given, is_new=False), 410)
        if question.run.status.is_final:
            raise over(question.run)
    except SequentialError as error:
        status, text = trouble_page(error)
        return _page(text, status)
    return _page(question_page(question))


async def decide(edge: "Edge", request: Request, run_id: str, event: str) -> Response:
    """Answer with the page's form, or with `{"approved": true, ...}` as JSON."""
    content_type = request.headers.get("content-type", "")
    try:
        check_size(request.body)
        return await _decide(edge, request, run_id, event, content_type)
    except BadAnswer as bad:
        raise Refused(bad.status, bad.code, str(bad)) from None
    except SequentialError as error:
        if is_json(content_type):
            raise
        status, text = trouble_page(error)
        return _page(text, status)


async def _decide(
    edge: "Edge", request: Request, run_id: str, event: str, content_type: str
) -> Response:
    question = await edge.question(request, run_id, event)
    given, is_new = question.given, False
    if given is None:
        answer = read_answer(question, content_type, request.body)
        if answer.wrong:
            return _page(question_page(question, answer.sent, answer.wrong), 400)
        if question.run.status.is_final:
            raise over(question.run)
        run = await edge.hops.answer(run_id, event, answer.data, question.answer_id)
        now = (await edge.question(request, run_id, event)).given
        given = now or Given(run.updated_at, answer.data)
        is_new = given.data == answer.data  # else somebody was quicker
        if is_json(content_type) and is_new:
            return json_response(200, {"id": run.id, "status": run.status})
    if is_json(content_type):
        raise Refused(409, "already_answered", "this was answered before")
    return _page(answered_page(question, given, is_new=is_new), 200 if is_new else 409)


def _page(text: str, status: int = 200) -> Response:
    headers = {"Content-Type": "text/html; charset=utf-8", **HEADERS}
    return Response(status, headers, text.encode("utf-8", "replace"))

"""What comes back from the page of an approval link, or from a program in its place."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from sequential.runner.approvals import Question
from sequential.web.forms import problems, read_form

LARGEST = 256 * 1024  # bytes of an answer
MOST_FIELDS = 200


class Answer(NamedTuple):
    """An answer to a question. `wrong` says by field what is wrong with what was `sent`."""

    data: dict[str, Any]
    sent: Mapping[str, str] = {}
    wrong: Mapping[str, str] = {}


class BadAnswer(Exception):  # noqa: N818 - what was sent, not an error of ours
    """What was sent is no answer: a status, a code and one line that says why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def check_size(body: bytes) -> None:
    """Raise `BadAnswer` for a body that is too large to be read."""
    if len(body) > LARGEST:
        raise BadAnswer(413, "too_large", f"an answer may have {LARGEST} bytes")


def is_json(content_type: str) -> bool:
    """Whether a program answers, who wants no page back."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def read_answer(question: Question, content_type: str, body: bytes) -> Answer:
    """The answer in the body of a request; raises `BadAnswer`.

    What is wrong with the fields of a form is in the answer, to be shown there.
    """
    if is_json(content_type):
        return Answer(_of_json(question, body))
    sent = _form(body)
    decision = sent.get("answer")
    if decision not in ("approve", "reject"):
        raise BadAnswer(400, "invalid_request", "send answer=approve or answer=reject")
    approved = decision == "approve"
    fields, wrong = read_form(question.schema, sent, is_complete=approved)
    return Answer(_complete(question, fields, approved=approved), sent, wrong)


def _of_json(question: Question, body: bytes) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(400, "invalid_request", f"the body is not JSON: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("approved"), bool):
        told = 'send {"approved": true} or {"approved": false}'
        raise BadAnswer(400, "invalid_request", told)
    fields = {name: value for name, value in tree.items() if name != "approved"}
    if wrong := problems(question.schema, fields, is_complete=tree["approved"]):
        told = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise BadAnswer(400, "invalid_input", told)
    return _complete(question, fields, approved=tree["approved"])


def _complete(question: Question, fields: dict[str, Any], *, approved: bool) -> dict[str, Any]:
    by = {"by": question.to} if question.to else {}
    return {**fields, **by, "approved": approved}


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise BadAnswer(400, "invalid_request", "the body is no form") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}

"""The pages of approval links: what is asked, with its form, and what became of it.

They have no script and load nothing; what a task or a person has written is escaped.
"""

import base64
import hashlib
import html
from collections.abc import Mapping
from datetime import datetime

from sequential.core.model import TaskRun
from sequential.errors import (
    InvalidInputError,
    InvalidLinkError,
    InvalidTransitionError,
    LinkExpiredError,
    RunNotFoundError,
    SequentialError,
)
from sequential.runner.approvals import Given, Question
from sequential.web.forms import form_html

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #666; --yes: #1a7f37; --no: #b42318; }
* { box-sizing: border-box; }
body { font: 1.0625rem/1.5 system-ui, sans-serif; margin: 0; padding: 1.25rem;
  background: Canvas; color: CanvasText; }
main { max-width: 34rem; margin: 0 auto; padding-top: 3vh; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
.said { white-space: pre-line; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .125rem 1rem; margin: 1.25rem 0;
  padding: .75rem 0; border: solid var(--line); border-width: 1px 0; font-size: .9375rem; }
dt, small, i { color: var(--soft); font-style: normal; font-weight: normal; }
dd { margin: 0; }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input, select, textarea { font: inherit; width: 100%; padding: .625rem .75rem; color: inherit;
  background: Field; border: 1px solid var(--soft); border-radius: .5rem; }
.check label { display: flex; gap: .75rem; align-items: center; margin: 0; }
.check input { width: 1.375rem; height: 1.375rem; flex: none; }
small, .error { display: block; margin-top: .25rem; font-size: .9375rem; }
.error { color: var(--no); }
[aria-invalid] { border: 2px solid var(--no); }
.buttons { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }
button { font: inherit; font-weight: 600; min-height: 3rem; padding: .5rem 1.5rem; flex: 1 1 10rem;
  border: 2px solid var(--yes); border-radius: .5rem; background: var(--yes); color: #fff; }
button.no { border-color: var(--no); background: transparent; color: var(--no); }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; --yes: #238636; --no: #ff7b72; } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Without any referrer browsers would send forms as if from another site.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
_TITLES: Mapping[type[SequentialError], str] = {
    InvalidLinkError: "This link is not valid",
    LinkExpiredError: "This link has expired",
    RunNotFoundError: "This is not there any more",
    InvalidTransitionError: "Nobody waits for this answer any more",
    InvalidInputError: "This question cannot be shown",
}
# The first button of a form is what Enter presses: this one does nothing, so nobody approves so.
_BUTTONS = """
<button disabled hidden></button>
<button name="answer" value="approve">Approve</button>
<button name="answer" value="reject" class="no" formnovalidate>Reject</button>"""


def question_page(
    question: Question,
    sent: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> str:
    """The page that asks; with what was `sent` before, and the `errors` by field."""
    wrong = errors or {}
    told = '<p class="error" role="alert">Please look at what is marked below.</p>' if wrong else ""
    fields = form_html(question.schema, sent, wrong)
    form = f'<form method="post">{told}{fields}<p class="buttons">{_BUTTONS}</p></form>'
    return _page(_title(question), _said(question.description) + _about(question) + form)


def answered_page(question: Question, given: Given, *, is_new: bool) -> str:
    """The page that says what was answered and when, by this request or before."""
    data = given.data if isinstance(given.data, dict) else {}
    what = {"True": "Approved", "False": "Rejected"}.get(str(data.get("approved")), "Answered")
    by = data.get("by")
    when = f"{what}{f' by {by}' if by else ''} on {_moment(given.at)}."
    title = "Thank you" if is_new else "This was answered already"
    return _page(title, _said(f"{_title(question)}\n{when}") + _about(question))


def trouble_page(error: SequentialError) -> tuple[int, str]:
    """The status and the page for a link that cannot be answered.

    Raises the error itself if it is none that somebody outside should read.
    """
    title = _TITLES.get(type(error))
    if title is None:
        raise error
    told = str(error)
    status = 410 if isinstance(error, InvalidTransitionError) else error.http_status
    return status, _page(title, _said(f"{told[:1].upper()}{told[1:]}."))


def over(run: TaskRun) -> InvalidTransitionError:
    """What is wrong with answering a run that has ended."""
    return InvalidTransitionError(f"the run has ended: it is {run.status}")


def _title(question: Question) -> str:
    return question.title or f"Do you approve? ({question.event})"


def _about(question: Question) -> str:
    lines = {"Task": question.run.task_identifier, "Run": question.run.id, "For": question.to}
    rows = [f"<dt>{key}<dd>{html.escape(value)}" for key, value in lines.items() if value]
    return f"<dl>{''.join(rows)}</dl>"


def _said(text: str) -> str:
    return f'<p class="said">{html.escape(text)}</p>' if text else ""


def _moment(at: str) -> str:
    moment = datetime.fromisoformat(at)
    return f"{moment.day} {moment:%B %Y at %H:%M} UTC"


def _page(title: str, content: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="robots" content="noindex, nofollow">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{html.escape(title)}</h1>{content}</main></body></html>\n"
    )

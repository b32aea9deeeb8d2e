"""Approval links: who has one is asked a question by a page, and answers a run with it, once.

Nothing is kept of a link: what it permits and what it asks is in it, signed. Whether it was
answered is known to the run, whose answers have ids.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sequential.config import Settings
from sequential.core import values
from sequential.core.form import check_form
from sequential.core.model import StackRun, TaskRun
from sequential.core.values import arguments_from_json
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidLinkError,
    RunNotFoundError,
    SequentialError,
)
from sequential.runner.links import Asked, Claim, Links, answer_id
from sequential.runner.open_calls import EVENT
from sequential.services.base import CallContext, CallError, unknown_method
from sequential.storage.base import StorageAdapter

WEEK = 7 * 86400.0  # seconds
LONGEST = 366 * 86400.0  # seconds that a link may last
LONGEST_TEXTS = {"title": 200, "description": 2000, "to": 100}  # characters


class Given(NamedTuple):
    """An answer that has come: when, and what it was."""

    at: str
    data: Any


class Question(NamedTuple):
    """What a link asks of whom for which run; `given` is the answer, if there is one already."""

    run: TaskRun
    event: str
    title: str
    description: str
    to: str
    schema: dict[str, Any]
    answer_id: str
    given: Given | None


def approval_url(
    links: Links,
    base_url: str,
    run_id: str,
    event: str,
    *,
    expires_in: float = WEEK,
    schema: dict[str, Any] | None = None,
    title: str = "",
    description: str = "",
    to: str = "",
    key: str | None = None,
) -> str:
    """The address of a page on which somebody answers `wait_for_event(event)` of a run.

    It counts for `expires_in` seconds. `schema`, see `core.form`, makes a form; without one it is
    what the waiting call says. `to` names who gets the link. Of several links with the same `key`
    the first answer counts. Raises `InvalidNameError`, `InvalidInputError`, and `ConfigError` while
    nobody has said where the server is reached.
    """
    if not _is_time(expires_in):
        raise InvalidInputError(
            f"expires_in is a number of seconds, up to {LONGEST:g}; this is {expires_in!r:.40}"
        )
    texts: dict[str, Any] = {"title": title, "description": description, "to": to}
    for name, most in LONGEST_TEXTS.items():
        if not isinstance(texts[name], str) or len(texts[name]) > most:
            raise InvalidInputError(f"{name} is a text of up to {most} characters")
    if not (key is None or isinstance(key, str)):
        raise InvalidInputError("key is a text")
    asked = Asked(title, description, to, None if schema is None else check_form(schema))
    if not base_url:
        raise ConfigError(
            "nobody has said where the server is reached: set server.public_url in "
            ".sequentialrc.json, or SEQUENTIAL_PUBLIC_URL"
        )
    return base_url.rstrip("/") + links.approve(run_id, event, expires_in, key, asked)


class Approvals:
    """Makes approval links, and finds out what they ask. `links` gives what signs them.

    `base_url` is where people reach the server, as far as somebody has said so.
    """

    def __init__(
        self, storage: StorageAdapter, links: Callable[[], Links], base_url: str, own_url: str
    ) -> None:
        self._storage = storage
        self._links = links
        self._told = base_url
        self._own = own_url

    @property
    def base_url(self) -> str:
        """Where the server is reached; empty as long as nobody knows."""
        return self._told or self._own

    def served_at(self, url: str) -> None:
        """Use the address of a server in this process, unless people reach it at another one."""
        self._own = url

    def link(self, run_id: str, event: str, *, base_url: str = "", **options: Any) -> str:
        """The address of a page that asks for the answer to `wait_for_event(event)` of a run.

        `options` and what is raised are those of `approval_url`.
        """
        return approval_url(self._links(), base_url or self.base_url, run_id, event, **options)

    async def question(self, run_id: str, event: str, token: str) -> Question:
        """What a link asks.

        Raises `InvalidLinkError`, `LinkExpiredError`, and `RunNotFoundError` when its run was
        removed.
        """
        claim = self._links().check("approve", run_id, token, event)
        if claim.asked is None:
            raise InvalidLinkError("this link was made by another version")
        run = await self._storage.get_task_run(run_id)
        if run is None:
            raise RunNotFoundError("what this link asks about is not there any more")
        return await self._question(run, event, claim, claim.asked)

    async def given(self, run: TaskRun, question: Question) -> Given | None:
        """The answer to a question that a run has or had by now."""
        return await given_answer(self._storage, run, question.answer_id)

    async def _question(self, run: TaskRun, event: str, claim: Claim, asked: Asked) -> Question:
        schema = asked.schema
        if schema is None and not run.status.is_final:
            schema = await self._schema_of_call(run, event)
        schema = schema or {}
        own_id = answer_id(run.id, event, claim)
        return Question(
            run,
            event,
            asked.title or str(schema.get("title", "")),
            asked.description or str(schema.get("description", "")),
            asked.to,
            schema,
            own_id,
            await given_answer(self._storage, run, own_id),
        )

    async def _schema_of_call(self, run: TaskRun, event: str) -> dict[str, Any] | None:
        """What the call says that waits for the event; None if there is none."""
        calls = await self._storage.query_stack_runs(task_run_id=run.id, operation=EVENT)
        waiting = [_awaited(call) for call in calls if not call.status.is_settled]
        schemas = [given.get("schema") for given in waiting if given.get("name") == event]
        schema = next((one for one in schemas if one is not None), None)
        return None if schema is None else check_form(schema)


async def given_answer(storage: StorageAdapter, run: TaskRun, own_id: str) -> Given | None:
    """The answer with this id that a run has or had; None if it did not come yet."""
    for event in run.events:
        if event.id == own_id:
            return Given(event.at, values.from_json(event.data))
    taken = await storage.query_stack_runs(
        task_run_id=run.id, operation=EVENT, parent_stack_run_id=own_id
    )
    for call in taken:
        data = values.from_json(call.result)
        is_of_graph = bool(_awaited(call).get("any"))
        return Given(call.updated_at, data["data"] if is_of_graph else data)
    return None


def told_url(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """Where people reach the server of a project, if an operator has said so."""
    return settings.server.public_url or environment.get("SEQUENTIAL_PUBLIC_URL", "").strip()


def own_url(settings: Settings) -> str:
    """Where a server of a project listens, if it is for this machine only."""
    server = settings.server
    is_local = server.host in ("127.0.0.1", "localhost")
    return f"http://{server.host}:{server.port}" if is_local else ""


def _awaited(call: StackRun) -> dict[str, Any]:
    args, kwargs = arguments_from_json(call.input)
    return {**dict(zip(("name", "timeout", "schema"), args, strict=False)), **kwargs}


def _is_time(seconds: Any) -> bool:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return is_number and math.isfinite(seconds) and 0 < seconds <= LONGEST


class LinkService:
    """`await services.links.create("approved", title="...")`, with the arguments of `link`."""

    name = "links"
    of_a_run = True  # no use to those who call from outside of one

    def __init__(self, link: Callable[..., str]) -> None:
        self._link = link

    def methods(self) -> Sequence[str]:
        """There is one."""
        return ("create",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """At once."""
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> str:
        """A link to the run that asks; performed twice, both links count as one."""
        if method != "create":
            raise unknown_method(self, method)
        if "base_url" in kwargs:
            raise CallError("TypeError", "links.create: a task cannot say where the server is")
        try:
            return self._link(context.run_id, *args, **{"key": context.idempotency_key, **kwargs})
        except TypeError as error:
            raise CallError("TypeError", f"links.create: {error}", "invalid_call") from error
        except SequentialError as error:
            kind = "RuntimeError" if isinstance(error, ConfigError) else "ValueError"
            raise CallError(kind, f"links.create: {error}", error.code) from error

    async def close(self) -> None:
        """Nothing is open."""

"""The front door: `Edge`, which answers a request and then has nothing left to do.

POST /tasks/<name>           {"input": {...}, "id": "<uuid>"}    start a run, and drive it a while
POST /start                  the same with "task": "<name>"
GET  /runs/<run>             how a run is doing, or its result
POST /resume/<run>?token=    the next hop, asked for by the one before
POST /answer/<run>/<event>?token=    what a run waits for, by a link that was given out
GET  /approve/<run>/<event>?token=   a page that asks for it; POST answers
POST /sweep                  for a timer: go on with what is due
GET  /health
"""

import hmac
import os
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal

import msgspec

from sequential.config import Settings, lasting_secret, load_settings
from sequential.edge import routes
from sequential.edge.hops import Fire, Hops, Schedule
from sequential.edge.link_service import LinkService
from sequential.edge.message import Event, Refused, Request, Response, checked_url
from sequential.edge.warm import Bridge, OpenEngine, WarmEngine
from sequential.errors import ConfigError
from sequential.runner.approvals import Approvals, Question, approval_url
from sequential.runner.approvals import LinkService as ApprovalLinks
from sequential.runner.engine import Engine
from sequential.runner.links import Claim, Links
from sequential.services.base import Service

DAY = 86400.0  # seconds
_NOTHING: Any = msgspec.UNSET


class Edge:
    """Starts runs and goes on with them, one invocation at a time.

    `storage` names the store (`postgres://...`; empty: what the project's settings say), or is a
    function that gives an `async with`-able engine. An invocation drives a run until it ends, has
    to wait, or `budget` seconds have passed (0: one turn); after `lease` seconds without a word
    from a function, another one may take its run over.

    Whoever starts runs or asks for them sends `Authorization: Bearer <token>`, the one given here
    or in `SEQUENTIAL_TOKEN`; without one all of them are refused, unless `is_open`. Links are
    signed with `secret`, else with `SEQUENTIAL_SECRET` or the project's key file.

    The next invocation is asked for at `base_url`, else `SEQUENTIAL_PUBLIC_URL`, else where this
    function was reached; or by `fire(run_id)`, for a queue. `schedule(run_id, wake_at)` is told
    when a run has to be resumed later. Both may be coroutine functions.
    """

    def __init__(
        self,
        storage: str | OpenEngine = "",
        *,
        project: str | Path = ".",
        services: Iterable[Service] = (),
        base_url: str = "",
        budget: float = 5.0,
        lease: float = 15.0,
        token: str | None = None,
        is_open: bool = False,
        secret: str | bytes | None = None,
        largest_body: int = 1 << 20,
        fire: Fire | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._project = Path(project)
        self._storage = storage
        pages = ApprovalLinks(self.approval_link)
        self._services = [*services, LinkService(self.link), pages]
        self._lease = lease
        self._secret = secret
        self._signer: Links | None = None
        self._token = os.environ.get("SEQUENTIAL_TOKEN", "") if token is None else token
        self._is_open = is_open
        told = base_url or os.environ.get("SEQUENTIAL_PUBLIC_URL", "").strip()
        self._base_url = checked_url(told) if told else ""
        self._reached_at = ""
        self.largest_body = largest_body
        self._warm = WarmEngine(self._open if isinstance(storage, str) else storage)
        self._bridge = Bridge()
        self._hops = Hops(
            self._warm,
            self._links,
            lambda: self.base_url,
            budget=budget,
            fire=fire,
            schedule=schedule,
        )

    @property
    def base_url(self) -> str:
        """Where this function is reached, as far as it is known by now."""
        return self._base_url or self._reached_at

    async def handle(self, request: Request) -> Response:
        """Answer a request; everything that has to be kept is in the store by then.

        Nothing is raised for what is wrong with a request, a task or the store: that is a status
        and `{"error": <one line>, "code": <a word>}`.
        """
        return await routes.answer(self, request)

    def handle_sync(self, request: Request) -> Response:
        """`handle` for callers without an event loop, from any thread."""
        return self._bridge.run(self.handle(request))

    async def handle_event(self, event: Event, seconds_left: float | None = None) -> list[str]:
        """Do what a queue or a timer asks for, which came in by the platform and needs no token.

        Returns the ids of the runs concerned. Raises `RunBusyError`, for the queue to deliver it
        again, `RunNotFoundError`, and `StorageError`.
        """
        if event.resume is None:
            return await self.hops.sweep(seconds_left)
        return [(await self.hops.resume(event.resume, seconds_left)).id]

    def handle_event_sync(self, event: Event, seconds_left: float | None = None) -> list[str]:
        """`handle_event` for callers without an event loop, from any thread."""
        return self._bridge.run(self.handle_event(event, seconds_left))

    def link(
        self,
        run_id: str,
        event: str,
        *,
        data: Any = _NOTHING,
        lifetime: float = 7 * DAY,
        key: str | None = None,
    ) -> str:
        """An address for somebody outside who is to answer `wait_for_event(event)` of a run.

        A POST to it is the answer, with its body as data unless `data` is in the link; a browser is
        shown a button first, as programs that look for viruses follow links in e-mails. It counts
        once however often it is used, and of all links with the same `key`, such as one for yes and
        one for no, one counts. It expires after `lifetime` seconds.

        Raises `ConfigError` while nobody has said where this function is reached.
        """
        if not self.base_url:
            raise ConfigError(
                "nobody has said where this function is reached: set SEQUENTIAL_PUBLIC_URL"
            )
        given = () if data is _NOTHING else (data,)
        return self.base_url + self._links().answer(run_id, event, lifetime, key, given)

    def approval_link(self, run_id: str, event: str, **options: Any) -> str:
        """An address of a page on which somebody approves or rejects, with a form if need be.

        `options` are `title`, `description`, `schema`, `to`, `key` and `expires_in` seconds; raises
        what `runner.approvals.approval_url` does.
        """
        return approval_url(self._links(), self.base_url, run_id, event, **options)

    async def close(self) -> None:
        """Close what was kept for later invocations on this event loop; they open it again."""
        await self._warm.close()

    def close_sync(self) -> None:
        """`close` for what was opened by `handle_sync`, and the end of its thread."""
        self._bridge.run(self.close())
        self._bridge.close()

    # --- for the routes --------------------------------------------------------------------------

    @property
    def hops(self) -> Hops:
        """What drives runs and asks for the next invocation."""
        return self._hops

    @property
    def backend(self) -> str:
        """The name of the store, without its address."""
        name = self._storage if isinstance(self._storage, str) else "custom"
        return name.partition(":")[0] or "default"

    def admit(self, request: Request) -> None:
        """Raise `Refused` unless the sender has the token; then it also may say where we are."""
        if not self._is_open:
            self._check_token(request)
        self._learn(request.base_url or request.host_url)

    def check_link(
        self, purpose: Literal["resume", "answer"], request: Request, run_id: str, event: str = ""
    ) -> Claim:
        """What a link claims; raises what `Links.check` does unless it was made for this."""
        claim = self._links().check(purpose, run_id, request.query.get("token", ""), event)
        # Who answers is a stranger with a link: only the platform is believed then.
        told = request.host_url if purpose == "resume" else ""
        self._learn(request.base_url or told)
        return claim

    async def question(self, request: Request, run_id: str, event: str) -> Question:
        """What an approval link asks; raises what `Approvals.question` does."""
        approvals = Approvals((await self._warm.get()).storage, self._links, self.base_url, "")
        self._learn(request.base_url)
        return await approvals.question(run_id, event, request.query.get("token", ""))

    def _check_token(self, request: Request) -> None:
        if not self._token:
            raise Refused(403, "no_token", "nobody may do this before SEQUENTIAL_TOKEN is set")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self._token.encode("utf-8", "replace")
        )
        if scheme.lower() != "bearer" or not right:
            challenge = {"WWW_Authenticate": "Bearer"}
            raise Refused(
                401, "unauthorized", "send Authorization: Bearer <SEQUENTIAL_TOKEN>", **challenge
            )

    def _learn(self, url: str) -> None:
        if url:
            self._reached_at = url.rstrip("/")

    # --- inside ----------------------------------------------------------------------------------

    def _links(self) -> Links:
        if self._signer is None:
            secret = self._secret or lasting_secret(self._project)
            self._signer = Links(secret.encode() if isinstance(secret, str) else secret)
        return self._signer

    def _open(self) -> AbstractAsyncContextManager[Engine]:
        return Engine(settings=self._settings(), services=self._services)

    def _settings(self) -> Settings:
        assert isinstance(self._storage, str)
        settings = load_settings(self._project, adaptor=self._storage or None)
        runner = msgspec.structs.replace(settings.runner, lease=self._lease)
        return msgspec.structs.replace(settings, runner=runner)

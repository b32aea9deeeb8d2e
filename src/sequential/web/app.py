"""The server as an ASGI application: `create_app(engine)`.

It can be served by itself or be mounted in another application. Runs that come in are driven by a
worker in the same process unless `drive` is False; then others do.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide

from sequential.errors import SequentialError
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker
from sequential.web import (
    approvals,
    audit,
    checks,
    keys,
    original,
    runs,
    schedules,
    stream,
    tasks,
    tokens,
    webhooks,
)
from sequential.web.actor import actor_of
from sequential.web.auth import Gate
from sequential.web.errors import EXCEPTION_HANDLERS
from sequential.web.front import Application, guard
from sequential.web.hub import Hub
from sequential.web.openapi import openapi, openapi_config
from sequential.web.services_app import services_router
from sequential.web.settings import ServerSettings

log = logging.getLogger("sequential.web")

API = "/api/v1"


def create_app(
    engine: Engine | str | None = None,
    settings: ServerSettings | None = None,
    *,
    drive: bool = True,
    concurrency: int = 50,
) -> Litestar:
    """The server of an engine, or of the store it names; without one, of the project's.

    An engine that is open already stays open when the server ends. `concurrency` is how many runs
    are driven at a time.
    """
    made = engine if isinstance(engine, Engine) else Engine(engine)
    house = House(made, drive=drive, concurrency=concurrency)
    handlers = [*runs.HANDLERS, *stream.HANDLERS, *tasks.HANDLERS, *keys.HANDLERS]
    handlers += checks.HANDLERS
    handlers += [*tokens.HANDLERS, *audit.HANDLERS, *schedules.HANDLERS, *webhooks.HANDLERS]
    handlers += approvals.HANDLERS
    others = [*original.HANDLERS, *webhooks.PUBLIC_HANDLERS, *approvals.PUBLIC_HANDLERS]
    api = Router(API, route_handlers=handlers)

    def settings_of() -> ServerSettings:
        if settings is not None:
            return settings
        return made.settings.server if made.is_open else ServerSettings()

    async def engine_of() -> Engine:
        return await house.open()

    return Application(
        route_handlers=[api, openapi, *others, services_router()],
        dependencies={
            "engine": Provide(engine_of),
            "settings": Provide(settings_of, sync_to_thread=False),
            "actor": Provide(actor_of, sync_to_thread=False),
        },
        guards=[guard],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[house.lived_in],
        openapi_config=openapi_config(),
        request_max_body_size=None,  # `Application` counts, before anything is read
        state=State({"house": house, "gate": Gate(), "settings": settings_of}),
        logging_config=None,
    )


class House:
    """The engine of a server and the worker in it, from the first request to the last.

    Servers that run applications inside of others do not always tell them when they begin, so the
    first request does it as well.
    """

    def __init__(self, engine: Engine, *, drive: bool, concurrency: int) -> None:
        self.hub = Hub(engine)
        self._engine = engine
        self._drive = drive
        self._concurrency = concurrency
        self._opening = asyncio.Lock()
        self._working: asyncio.Task[None] | None = None
        self._worker: Worker | None = None
        self._is_ours = False
        self._is_open = False

    async def open(self) -> Engine:
        """The engine, open, with its worker at work."""
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._begin()
        return self._engine

    async def ready(self) -> None:
        """Open the engine if that is possible now; if not, handlers say why."""
        if not self._is_open:
            with contextlib.suppress(SequentialError):
                await self.open()

    def drain(self) -> None:
        """Let requests that wait for runs end now, and begin to park what is driven."""
        self.hub.drain()
        if self._worker is not None:
            self._worker.stop()
        if self._engine.is_open:
            self._engine.stop()

    async def close(self) -> None:
        """Park what is driven, and close what was opened here."""
        await self.hub.close()
        if self._worker is not None and self._working is not None:
            self._worker.stop()
            await asyncio.gather(self._working, return_exceptions=True)  # see `_tell_if_broken`
        if self._is_ours:
            await self._engine.close()
        self._is_open = False

    @contextlib.asynccontextmanager
    async def lived_in(self, _: Litestar) -> AsyncIterator[None]:
        """For the lifespan of an application."""
        await self.open()
        try:
            yield
        finally:
            await self.close()

    async def _begin(self) -> None:
        if not self._engine.is_open:
            await self._engine.__aenter__()
            self._is_ours = True
        if self._drive:
            self._worker = Worker(
                self._engine, concurrency=self._concurrency, on_trouble=_tell_of_trouble
            )
            self._working = asyncio.create_task(self._worker.run())
            self._working.add_done_callback(_tell_if_broken)
        self._is_open = True


def _tell_of_trouble(run_id: str, error: SequentialError | None) -> None:
    """Say in the log when trouble with the store begins, and when it is over."""
    subject = f"run {run_id}" if run_id else "looking for runs"
    log.warning("%s: %s", subject, "well again" if error is None else f"{error}; trying again")


def _tell_if_broken(working: asyncio.Task[None]) -> None:
    """Say in the log that no run is driven here any more, and why."""
    if not working.cancelled() and (error := working.exception()):
        log.critical("the worker of this server has broken: start it again", exc_info=error)

"""The right to drive a flow: taken for a while, renewed, and written into the flow's state.

A state is `{"step": n, "flow": ..., "driver": ..., "until": ...}`: how many steps are recorded, a
mark that tells this flow from another one under the same id, who drives it and until when that
counts if nothing more is heard. It changes only from what it was known to be, so of two drivers one
gets on, and the steps of the other are not written.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sequential.core import ids, times, values
from sequential.core.model import StackRun, evolve
from sequential.errors import (
    InvalidInputError,
    LeaseLostError,
    RunBusyError,
    RunNotFoundError,
    StorageError,
)
from sequential.flow.executor_storage import INPUT, State, StepStorage
from sequential.runner.clock import Clock

_ATTEMPTS = 10  # at taking a flow whose state changes under our hands


class Claim:
    """A flow that we drive. `step` is the number of steps that are recorded."""

    def __init__(self, storage: StepStorage, id: str, clock: Clock, seconds: float) -> None:
        self.id = id
        self._storage = storage
        self._clock = clock
        self._seconds = seconds
        self._state: State = {}
        self._writing = asyncio.Lock()

    @property
    def step(self) -> int:
        step: int = self._state["step"]
        return step

    def key(self, step: int) -> str:
        """The idempotency key of a step: the same for every attempt at it."""
        return ids.idempotency_key(f"{self.id}:{self._state['flow']}", step)

    async def take(self, input: Any, after: int | None) -> bool:
        """Take the flow, or begin it; False when it is not at the step `after` any more.

        Raises `RunBusyError` while somebody else drives it, and `RunNotFoundError` when there is
        nothing to go on with `after` a step.
        """
        for _ in range(_ATTEMPTS):
            state = await self._storage.get(self.id)
            self._check(state, after)
            if state is None:
                if await self._begin(input):
                    return True
                continue
            if after is not None and state["step"] != after + 1:
                self._state = state
                return False
            self._check_free(state)
            if not await self._swap(state, self._driven(state)):
                continue
            if "ended" not in state:
                return True
            await self._storage.delete(self.id)  # whoever ended it did not come so far
        raise RunBusyError(f"the state of flow {self.id} changes all the time: try again later")

    def _check(self, state: Any, after: int | None) -> None:
        if after is not None and (state is None or "ended" in state):
            raise RunNotFoundError(
                f"flow {self.id} is over, or was never begun: there is nothing to go on with "
                f"after step {after}"
            )
        if state is None:
            return
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise StorageError(
                f"the state of flow {self.id} is damaged: delete the flow and begin it again"
            )

    def _check_free(self, state: State) -> None:
        until = state.get("until")
        if "driver" in state and str(until) > self._now():
            raise RunBusyError(
                f"flow {self.id} is being driven by somebody else: nothing was done; try again "
                f"later, at {until} at the latest"
            )

    async def _begin(self, input: Any) -> bool:
        tree = values.to_json(input, "input")
        state = self._driven({"step": 0, "flow": secrets.token_hex(8)})
        return await self._swap(None, state, (INPUT, {"input": tree}))

    def _driven(self, state: State) -> State:
        token = secrets.token_hex(8)
        return {"flow": "", **state, "driver": token, "until": self._end()}

    async def input(self, given: Any) -> Any:
        """The input with which the flow was begun; raises `InvalidInputError` if it is not `given`.

        Nothing given fits every flow.
        """
        stored = await self._storage.get_result(self.id, INPUT)
        if not isinstance(stored, dict) or "input" not in stored:
            raise self._missing("its input")
        if given is not None and _text(values.to_json(given, "input")) != _text(stored["input"]):
            raise InvalidInputError(
                f"flow {self.id} was begun with another input: leave the input out to go on with "
                "it, or choose another id"
            )
        return values.from_json(stored["input"])

    async def recorded(self, step: int) -> StackRun:
        """A step that was taken before."""
        stored = await self._storage.get_result(self.id, step)
        try:
            if not isinstance(stored, dict):
                raise self._missing(f"the result of step {step}")
            rest = {name: value for name, value in stored.items() if name != "result"}
            return evolve(msgspec.convert(rest, StackRun), result=stored.get("result"))
        except msgspec.ValidationError as error:
            raise self._missing(f"the result of step {step}") from error

    def _missing(self, what: str) -> StorageError:
        return StorageError(
            f"flow {self.id}: {what} is missing or damaged in the storage: put it back, or delete "
            "the flow and begin it again"
        )

    async def advance(self, record: StackRun, *, keep: bool) -> None:
        """Write a step, and `keep` the claim or let others drive the flow.

        Raises `LeaseLostError`, having written nothing, if we are too late.
        """
        data = msgspec.to_builtins(evolve(record, result=None))
        if record.result is not None:
            data["result"] = record.result
        async with self._writing:
            new = {**self._state, "step": record.sequence + 1, "until": self._end()}
            if not await self._swap(
                self._state, new if keep else _free(new), (record.sequence, data)
            ):
                raise self._lost()

    async def end(self) -> None:
        """Remove the flow with all its results."""
        async with self._writing:
            new = {**self._state, "ended": True, "until": self._end()}
            if not await self._swap(self._state, new):
                raise self._lost()
            await self._storage.delete(self.id)
            self._state = _free(new)

    async def release(self) -> None:
        """Let others drive it."""
        async with self._writing:
            if "driver" in self._state:
                await self._swap(self._state, _free(self._state))

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this lasts the claim is renewed."""
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(over))
        try:
            yield
        finally:
            over.set()  # not cancelled: half a renewal would be taken for somebody else's
            await renewing

    async def _renew(self, over: asyncio.Event) -> None:
        while True:
            await self._clock.wait(over, self._seconds / 3)
            try:
                async with self._writing:
                    if over.is_set() or "driver" not in self._state:
                        return
                    if not await self._swap(self._state, {**self._state, "until": self._end()}):
                        return  # the next step cannot be written, and says so
            except Exception:  # noqa: S112 - the next step meets the same trouble and reports it
                continue

    async def _swap(
        self, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        if not await self._storage.swap(self.id, old, new, result):
            return False
        self._state = new
        return True

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"somebody else has taken flow {self.id} over: this step was not written, theirs counts"
        )

    def _now(self) -> str:
        return times.to_text(self._clock.now())

    def _end(self) -> str:
        return times.after(self._now(), self._seconds)


def _text(tree: Any) -> bytes:
    """A JSON tree as text; a store may have put the keys of an object into another order."""
    return msgspec.json.encode(tree, order="sorted")


def _free(state: State) -> State:
    """A state that nobody drives."""
    return {name: value for name, value in state.items() if name not in ("driver", "until")}

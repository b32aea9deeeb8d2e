"""Runs source in the real virtual machine, to hold what the linter says against what happens."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic_monty import (
    CollectString,
    FunctionSnapshot,
    FutureSnapshot,
    Monty,
    MontyComplete,
    MontyError,
    MontySession,
    NameLookupSnapshot,
)

from sequential.runtimes.sandbox.lint import Problem, lint
from sequential.runtimes.sandbox.modules import external_modules
from sequential.runtimes.sandbox.prelude import IMPORT_SERVICES, SOURCE
from sequential.runtimes.sandbox.program import INPUT_NAME, prepare
from sequential.runtimes.sandbox.requests import look_up

SERVICES = {
    "mail": ["list", "send", "users.messages.get"],
    "crm": ["contacts.create", "contacts.search"],
    "any": [],
}
METHODS = tuple(f"{service}.{method}" for service, names in SERVICES.items() for method in names)
LIMITS: Any = {"max_turn_duration_secs": 2.0, "max_memory": 32 << 20, "max_suspensions": 2000}
POLICY: Any = {"datetime": "call_host", "sleep": "call_host", "random_start": "call_host"}
NOW = dt.datetime(2026, 3, 4, 5, 6, 7)
PAGE = {
    "items": [{"id": 1, "name": "Ada", "price": 2.5}, {"id": 2, "name": "Bo", "price": 4}],
    "id": 7,
    "next": None,
    "total": 2,
}
MESSAGES = {"messages": [{"id": "a", "subject": "Hi"}, {"id": "b", "subject": "Re: Hi"}]}


class Ran(msgspec.Struct):
    """What became of a source: its last expression, or why it ended, and what it asked for."""

    value: Any = None
    error: str | None = None
    calls: list[str] = []
    log: str = ""


def run(source: str, inputs: dict[str, Any] | None = None) -> Ran:
    """Run a source as it is, with the names of a task; every call gets a plausible answer."""
    ran, out = Ran(), CollectString()
    with (
        Monty(max_processes=1, request_timeout=20) as pool,
        pool.checkout(
            limits=LIMITS, os_policy=POLICY, external_modules=external_modules(METHODS)
        ) as session,
    ):
        session.feed_run(SOURCE + IMPORT_SERVICES)
        try:
            ran.value = _drive(session, source, inputs or {}, out, ran.calls)
        except MontyError as error:
            ran.error = str(error)
    ran.log = out.output
    return ran


def run_task(source: str, task: str, given: dict[str, Any]) -> Ran:
    """Run a task from its entry function, as the runtime does."""
    prepared = prepare(source, task, tuple(given))
    whole = given
    if prepared.input_fields is not None:
        whole = {name: given[name] for name in prepared.input_fields if name in given}
    return run(prepared.source, {INPUT_NAME: whole})


def _drive(
    session: MontySession, source: str, inputs: dict[str, Any], out: CollectString, calls: list[str]
) -> Any:
    answers: dict[int, Any] = {}
    stop = session.feed_start(source, inputs=inputs, print_callback=out)
    while not isinstance(stop, MontyComplete):
        if isinstance(stop, NameLookupSnapshot):
            stop = look_up(stop)
        elif isinstance(stop, FutureSnapshot):
            batch = {number: answers[number] for number in sorted(stop.pending_call_ids)}
            stop = stop.resume(batch)
        elif stop.function_name in ("import", "import_stubs"):
            stop = stop.resume_auto()
        elif stop.function_name in _LOCAL:
            stop = stop.resume({"return_value": _LOCAL[stop.function_name](stop.args)})
        elif (answer := _answer(stop)) is not None:
            calls.append(stop.function_name)
            answers[stop.call_id] = answer
            stop = stop.resume({"future": ...})
        elif stop.is_os_function:
            stop = stop.resume_not_handled()
        else:
            message = f"name '{stop.function_name}' is not defined"
            stop = stop.resume({"exc_type": "NameError", "message": message})
    return stop.output


_LOCAL: dict[str, Any] = {
    "time.sleep": lambda args: None,
    "time.time": lambda args: NOW.timestamp(),
    "datetime.now": lambda args: NOW.replace(tzinfo=args[0]),
    "date.today": lambda args: NOW.date(),
    "os.urandom": lambda args: b"\x07" * args[0],
}


def _answer(stop: FunctionSnapshot) -> Any:
    name = stop.function_name
    if name == "__fetch__":
        url = str(stop.args[0]["url"])
        if "down" in url:
            return {"exc_type": "OSError", "message": "connection refused"}
        body = {"status": 404 if "missing" in url else 200, "url": url}
        headers = [["Content-Type", "application/json"], ["X-Left", "3"]]
        return {"return_value": {**body, "headers": headers, "text": json.dumps(PAGE)}}
    if name == "asyncio.sleep":
        return {"return_value": None}
    if name.startswith("services.") or name in ("call_host_tool", "__callHostTool__"):
        return {"return_value": MESSAGES}
    return None


class Case(msgspec.Struct, frozen=True):
    """A source that the linter refuses, what it says, and on which lines (the last by default)."""

    source: str
    says: str
    lines: Sequence[int] = ()
    otherwise: Any = ...  # the VM does not refuse it, but this is what Python would have given


def check(case: Case) -> None:
    """The linter finds exactly the expected problem, and the VM really refuses or differs."""
    found = lint(case.source, services=SERVICES)
    lines = list(case.lines or [case.source.count("\n") + 1])
    assert [one.line for one in found if case.says in one.message] == lines, found
    assert not [one for one in found if case.says not in one.message], found
    ran = run(case.source)
    if case.otherwise is ...:
        assert ran.error is not None, ran
    else:
        assert ran.error is None, ran
        assert ran.value != case.otherwise, ran


def told(found: Sequence[Problem]) -> list[str]:
    """Problems as a person reads them."""
    return [f"{one.line}:{one.column} {one.message} -> {one.instead}" for one in found]

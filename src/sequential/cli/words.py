"""Records in words: durations, sizes, times, calls, and where a run stands as a sentence.

All text made here is on one line and harmless to a terminal.
"""

import shlex
from collections.abc import Sequence
from typing import Any, TypeGuard

from sequential.cli.output import clean, json_text
from sequential.core import times
from sequential.core.model import CallStatus, Failure, StackRun, Status, TaskRun
from sequential.errors import NonDeterminismError

EVENT = "events.wait"  # what `wait_for_event` asks for
CHILD = "tasks.run"  # what `run_task` asks for
SHORT_ID = 13  # characters of a run id that tell its millisecond
_NAMED = ("name", "handler", "context", "any", "accepts")  # said, or of no interest
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_SPANS = ((86400, "day"), (3600, "h"), (60, "min"))


def duration(seconds: float | None) -> str:
    """A span of time as people say it: `3 ms`, `0.21 s`, `42 s`, `2 min 5 s`, `40 days`."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 or not seconds else "<1 ms"
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    size, unit = next(span for span in _SPANS if whole >= span[0])
    count, rest = divmod(whole, size)
    named = f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    smaller, smaller_unit = {86400: (3600, "h"), 3600: (60, "min"), 60: (1, "s")}[size]
    more = rest // smaller
    return f"{named} {more} {smaller_unit}" if more and count < 10 else named


def size(count: int | None) -> str:
    """A number of bytes: `12 B`, `1.2 kB`, `3.4 MB`."""
    if count is None:
        return ""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def moment(text: str | None, now: str) -> str:
    """A point in time on the clock of the reader, with the date unless it is today."""
    if text is None:
        return ""
    local = times.from_text(text).astimezone()
    is_today = local.date() == times.from_text(now).astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"


def count(number: int, thing: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def short(text: str, most: int) -> str:
    """At most so many characters, the last an ellipsis if something is cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def compact(tree: Any, most: int) -> str:
    """A value as JSON on one line, cut."""
    return short(json_text(_trimmed(tree, most), indent=None), most)


def short_ids(runs: Sequence[TaskRun]) -> dict[str, str]:
    """The shortest beginning of each run's id that tells it from the others listed."""
    ids = [run.id for run in runs]
    for length in range(SHORT_ID, 36):
        shortened = {run_id: run_id[:length].rstrip("-") for run_id in ids}
        if len(set(shortened.values())) == len(ids):
            return shortened
    return {run_id: run_id for run_id in ids}


# --- calls ---------------------------------------------------------------------------------------


def call_name(call: StackRun, most: int = 60) -> str:
    """What a call does: `GET api.example.com/users`, `sleep 3 h`, `crm.find_customer`."""
    positional, named = _arguments(call.input)
    if call.operation == "http.fetch" and isinstance(url := named.get("url"), str):
        method = named.get("method", "GET")
        place = url.partition("://")[2] or url
        return clean(short(f"{method} {place}", most))
    if call.operation == "clock.sleep":
        seconds = positional[0] if positional else named.get("seconds")
        return f"sleep {duration(float(seconds))}" if _is_number(seconds) else "sleep"
    if call.operation == EVENT and (awaited := awaited_events([call], settled=True)):
        return short(f"event {' or '.join(event_name(name) for name in awaited)}", most)
    if call.operation == CHILD and isinstance(name := named.get("handler"), str):
        return clean(short(f"handler {name}", most))
    if call.operation == CHILD and isinstance(name := named.get("name"), str):
        return clean(short(f"task {name}", most))
    return clean(short(call.operation, most))


def call_arguments(call: StackRun, most: int = 60) -> str:
    """The arguments that `call_name` leaves out. Of headers only the names: they hold secrets."""
    positional, named = _arguments(call.input)
    if call.operation == "http.fetch":
        named = {key: value for key, value in named.items() if key not in ("url", "method")}
        if isinstance(headers := named.get("headers"), dict):
            named = {**named, "headers": list(headers)}
    elif call.operation in (EVENT, CHILD):
        named = {key: value for key, value in named.items() if key not in _NAMED}
    elif call.operation == "clock.sleep":
        return ""
    parts = [compact(value, most) for value in positional]
    parts += [f"{clean(str(key))}={compact(value, most)}" for key, value in named.items()]
    return short(", ".join(parts), most)


def call_result(call: StackRun, most: int = 60) -> str:
    """What came back, or why nothing did."""
    if call.error is not None:
        return short(call_error(call), most)
    if call.status is not CallStatus.COMPLETED:
        return ""
    answer = call.result
    if call.operation == "http.fetch" and isinstance(answer, dict) and "status" in answer:
        text = answer.get("text")
        body = clean(short(text, most)) if isinstance(text, str) else "(bytes)"
        return short(f"{answer['status']} {body}".strip(), most)
    return "" if call.operation == "clock.sleep" else compact(answer, most)


def call_time(call: StackRun) -> float | None:
    """Seconds of its last attempt; of one that waits for others, until the answer came."""
    if call.operation in (EVENT, CHILD) and call.status.is_settled:
        return _since(call.created_at, call.updated_at)
    return call.duration


def call_error(call: StackRun) -> str:
    """Why a call failed, without naming the request once more."""
    url = _arguments(call.input)[1].get("url")
    told = failure(call.error)
    before, found, reason = told.partition(f"{clean(str(url))}: ")
    kind = before.partition(": ")[0]
    return f"{kind}: {reason}" if found and reason and ": " in before else told


def awaited_events(calls: Sequence[StackRun], *, settled: bool = False) -> list[str]:
    """The names of the events that a run waits for, each once; with `settled`, or waited for."""
    names: list[Any] = []
    for call in calls:
        if call.operation == EVENT and (settled or not call.status.is_settled):
            named = _arguments(call.input)[1]
            names += named.get("accepts") or [named.get("name")]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def unanswered_events(run: TaskRun, calls: Sequence[StackRun]) -> list[str]:
    """The names of the events that a run waits for and that have not come yet."""
    arrived = {event.name for event in run.events}
    return [name for name in awaited_events(calls) if name not in arrived]


def answers(program: str, run: TaskRun, awaited: Sequence[str]) -> list[str]:
    """What to type to answer a run, for the first few events it waits for."""
    told = "Answer" if run.config.graph is None else "Send"
    typed = f"{told}: {program} {told.lower()} {run.id}"
    names = [name for name in awaited if told == "Answer" or not name.endswith("*")]
    return [f"{typed} {event_name(name)} --data JSON" for name in names[:3]]


def event_name(name: str) -> str:
    """An event's name as a shell takes it, cut when it is very long."""
    return clean(shlex.quote(name)) if len(name) <= 200 else clean(short(name, 60))


def most_attempts(run: TaskRun, call: StackRun) -> int | None:
    """How often a call may be tried in all."""
    policy = run.config.retry
    own = _arguments(call.input)[1].get("retries") if call.operation == "http.fetch" else None
    if isinstance(own, int):
        return own + 1
    return policy.retries + 1 if policy else None


def attempt(run: TaskRun, call: StackRun, number: int) -> str:
    """`attempt 2 of 4`; nothing for the first."""
    if number <= 1:
        return ""
    most = most_attempts(run, call)
    return f"attempt {number} of {most}" if most and most >= number else f"attempt {number}"


# --- runs ----------------------------------------------------------------------------------------


def elapsed(run: TaskRun, now: str) -> float:
    """Seconds from a run's creation to its end, or until now."""
    return max(times.seconds_between(run.created_at, run.ended_at or now), 0.0)


def failure(error: Failure | None) -> str:
    """Why it failed; a status that asks for another attempt is reason enough by itself."""
    if error is None:
        return ""
    told = error.message if error.type == "TryAgain" else str(error)
    if error.code == NonDeterminismError.code:  # what follows compares the calls, line by line
        told = told.partition("\n")[0]
    return clean(told)


def sentence(run: TaskRun, calls: Sequence[StackRun], now: str, *, is_driven: bool) -> str:
    """Where a run stands, as a person would tell it."""
    took = duration(elapsed(run, now))
    made = count(len(calls), "call")
    if run.status is Status.COMPLETED:
        return f"Completed in {took}, {made}."
    if run.status is Status.FAILED:
        return f"Failed after {took}{_place(run)}: {short(failure(run.error), 300)}"
    if run.status is Status.CANCELLED:
        return f"Cancelled after {took}, {made}."
    waiting = [call for call in calls if not call.status.is_settled]
    if run.config.graph is not None:  # what people can do comes first
        waiting.sort(key=lambda call: (call.operation != EVENT, call.operation != CHILD))
    if waiting:
        more = f", and {count(len(waiting) - 1, 'more call')}" if len(waiting) > 1 else ""
        told = f"{_waiting(run, waiting[0], now)}{more}."
    elif run.status in (Status.PENDING, Status.PAUSED) and not run.started_at:
        told = f"Not started yet{_begins(run, now)}."
    else:
        told = f"Under way for {took}, {made}."
    if run.status is Status.PAUSED:
        return f"Paused by an operator. {told}"
    return (
        told
        if is_driven or is_patient(run, calls, now)
        else f"{told} No process drives it at the moment."
    )


def waits(run: TaskRun, now: str) -> str:
    """Where an unfinished run stands, in a few words, from the run's record alone."""
    line = place(run)
    if run.status is Status.PENDING:
        return f"not started{_begins(run, now)}"
    if run.status is Status.PAUSED:
        return f"paused{line}"
    is_waiting = bool(run.wake_at) and times.seconds_between(now, run.wake_at or now) > 1
    is_away = run.status is Status.SUSPENDED and (run.wake_at is None or is_waiting)
    if is_away and (awaited := _awaited(run)):
        until = f" until {moment(run.expires_at, now)}" if run.expires_at else ""
        return f"waits{line} for {awaited}{until}"
    if is_waiting:
        return f"waits{line} until {moment(run.wake_at, now)}"
    return f"{run.status}{line}"


def place(run: TaskRun) -> str:
    """Where the program of a run waits: ` at line 7`, ` in approval` of a graph."""
    where = run.where
    if where is None:
        return ""
    in_graph = run.config.graph is not None
    return clean(f" in {where.function}") if in_graph else f" at line {where.line}"


def _awaited(run: TaskRun) -> str:
    """Who is to wake a run that is put away, as far as its record tells: nobody if it is a time."""
    source = run.where.source if run.where else ""
    if "run_task(" in source:
        return "a child run"
    if "wait_for_event(" in source or run.wake_at is None or run.expires_at:
        return "an answer"
    return ""


def is_patient(run: TaskRun, calls: Sequence[StackRun], now: str) -> bool:
    """Whether nobody needs to drive a run: it waits for an answer, or for its time to begin."""
    if run.status is Status.PENDING:
        return is_delayed(run, now)
    unsettled = [call for call in calls if not call.status.is_settled]
    looks_later = run.parent_run_id and run.wake_at and run.wake_at > now  # at its parent
    is_quiet = run.status is Status.SUSPENDED and (run.wake_at is None or looks_later)
    return bool(is_quiet) and bool(unsettled) and all(call.operation == EVENT for call in unsettled)


def is_delayed(run: TaskRun, now: str) -> bool:
    """Whether a run is to begin later."""
    return run.status is Status.PENDING and run.wake_at is not None and run.wake_at > now


def _begins(run: TaskRun, now: str) -> str:
    """When a run that was delayed begins, and how urgent it is."""
    later = times.seconds_between(now, run.wake_at) if run.wake_at else 0.0
    begins = f", begins {moment(run.wake_at, now)} (in {duration(later)})" if later > 0 else ""
    return f"{begins}, priority {run.priority}" if run.priority else begins


def _since(moment: str, now: str) -> float:
    return max(times.seconds_between(moment, now), 0.0)


def _waiting(run: TaskRun, call: StackRun, now: str) -> str:
    due = times.seconds_between(now, call.due_at) if call.due_at else 0.0
    until = f"{moment(call.due_at, now)} (in {duration(due)})" if due > 0 else "now"
    if call.operation == "clock.sleep" and not call.attempts:
        asked = times.seconds_between(call.created_at, now)
        return f"Sleeping until {until}, for {duration(asked)} so far"
    since = duration(_since(call.created_at, now))
    if call.operation == EVENT:
        limit = f", until {until}" if due > 0 else ""
        return f"Waiting {since} for the {call_name(call)}{limit}"
    if call.operation == CHILD:
        return f"Waiting {since} for the {call_name(call)}"
    told = f"Waiting {since} for {call.operation} {call_name(call)}"
    if call.operation != "http.fetch":
        told = f"Waiting {since} for {call_name(call)}"
    tries = attempt(run, call, call.attempts + 1)
    if not tries:
        return told
    reason = f" after {short(call_error(call), 80)}" if call.error else ""
    return f"{told}, {tries}{reason}, next try {'at ' if due > 0 else ''}{until}"


def _place(run: TaskRun) -> str:
    frames = run.error.traceback if run.error else ()
    return f" at line {frames[-1].line} of {clean(run.filename)}" if frames else ""


def _arguments(tree: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments as JSON trees."""
    if isinstance(tree, dict) and set(tree) == {"$call"}:
        positional, named = tree["$call"]
        return list(positional), named if isinstance(named, dict) else {}
    return [], tree if isinstance(tree, dict) else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trimmed(tree: Any, most: int) -> Any:
    """`tree` without what would be cut anyway, so that megabytes are not written out for a line."""
    if isinstance(tree, str):
        return tree[: most + 1]
    if isinstance(tree, list):
        return [_trimmed(item, most) for item in tree[: most + 1]]
    if isinstance(tree, dict):
        items = list(tree.items())[: most + 1]
        return {key[: most + 1]: _trimmed(value, most) for key, value in items}
    return tree

"""What a store writes of a run that is driven or amended, and what it need not write again."""

import base64
from typing import Any

import msgspec

from sequential.core.model import Amendment, Commit, StackRun, TaskRun
from sequential.storage import sql_records
from sequential.storage.sql_arguments import Arguments, Written

# What others may write while a run is driven; see `core.journal.committed`.
_OF_OTHERS = ("answers", "events", "lease_until")


class Known(msgspec.Struct):
    """What is in the rows of a run and of its open calls, as far as it is known."""

    run: TaskRun | None = None
    calls: dict[int, StackRun] = {}


class Held(msgspec.Struct):
    """A lease of this process. What it knows is not written again: a step writes its changes."""

    token: str
    known: Known

    def take(self, token: str) -> tuple[Known, Known]:
        """What is known, for a commit, and what stays known until the commit has succeeded."""
        if token != self.token:
            return Known(), Known()
        known, self.known = self.known, Known()
        return known, self.known

    def learn(self, known: Known, left: Known, commit: Commit) -> None:
        """Add what a commit has written to what was known before it, unless others wrote since."""
        if self.known is not left:
            return
        for call in (*commit.requested, *commit.updated):
            known.calls[call.sequence] = call
            if call.delivered_turn is not None:
                del known.calls[call.sequence]
        self.known = Known(commit.run, known.calls)


def commit_arguments(commit: Commit, known: Known, request: str) -> Arguments:
    """The arguments of `commit`: of the run and of known calls only what has changed."""
    run = commit.run
    written = Written()
    changed = sql_records.changes(known.run, run)
    for name in _OF_OTHERS:
        changed.pop(name, None)
    changed |= {"status": run.status, "updated_at": run.updated_at, "wake_at": run.wake_at}
    if run.lease_token is None:
        changed["lease_until"] = None
    arguments: Arguments = {
        "id": run.id,
        "token": commit.token,
        "answers": run.answers,
        **written.change(run, changed),
    }
    arguments["changes"]["committed_by"] = request
    if commit.requested:
        arguments["requested"] = [written.call(call) for call in commit.requested]
    if commit.updated:
        arguments["updated"] = [
            written.changed_call(call, sql_records.changes(known.calls.get(call.sequence), call))
            for call in commit.updated
        ]
    if commit.log:
        arguments["log"] = commit.log
    if commit.snapshot:
        arguments["snapshot"] = snapshot_cells(commit.snapshot.turn, commit.snapshot.data)
    if commit.taken:
        arguments["taken"] = commit.taken
    return arguments | written.rest()


def amend_arguments(old: TaskRun, amendment: Amendment) -> Arguments:
    """The arguments of `amend`: what the caller has seen, and what is to be changed."""
    written = Written()
    run = amendment.run
    arguments: Arguments = {
        "id": old.id,
        "status": old.status,
        "turn": old.turn,
        "token": old.lease_token,
        "answers": old.answers,
        **written.change(run, sql_records.changes(old, run)),
    }
    if amendment.updated:
        arguments["updated"] = [
            written.changed_call(call, sql_records.changes(None, call))
            for call in amendment.updated
        ]
    if amendment.dropped:
        arguments["dropped"] = amendment.dropped
    return arguments | written.rest()


def snapshot_cells(turn: int, data: bytes) -> dict[str, Any]:
    """A snapshot as arguments."""
    return {"turn": turn, "data": base64.b64encode(data).decode()}

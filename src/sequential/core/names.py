"""The one rule for names of tasks, services, inputs, schedules, webhooks, runs, documents.

A name ends up in paths, URLs, SQL and Python source, so it is refused unless it is safe in all of
them. Every entrance (command line, HTTP, Python API, storage) asks here.
"""

import keyword
import re

from sequential.errors import InvalidNameError

LONGEST = 64
LONGEST_SECRET = 200
LONGEST_KEY = 200
_TASK = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_RUN_PREFIX = re.compile(r"[0-9a-f-]{1,36}\Z")
_COLLECTION = re.compile(r"[a-z][a-z_]{0,39}\Z")
_WITH_A_DASH = frozenset({"admin-debug"})
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


def check_task_name(name: str) -> str:
    """Return `name` if it may name a task, else raise `InvalidNameError` saying what to change."""
    return _check("task", name, _TASK, 'letters, digits, "-" and "_", starting with a letter')


def check_service_name(name: str) -> str:
    """Return `name` if it may name a service: it must also be a Python name.

    A name of the original with a dash is fine; tasks call such a service by `call_host_tool`.
    """
    if name in _WITH_A_DASH:
        return name
    return _check("service", name, _SERVICE, 'letters, digits and "_", starting with a letter')


def check_field_name(name: str) -> str:
    """Return `name` if it may name an input field: it must also be a Python name."""
    return _check("input", name, _FIELD, 'letters, digits and "_", starting with no digit')


def check_schedule_name(name: str) -> str:
    """Return `name` if it may name a schedule of a task."""
    return _check("schedule", name, _TASK, 'letters, digits, "-" and "_", starting with a letter')


def check_webhook_name(name: str) -> str:
    """Return `name` if it may name a webhook of a task."""
    return _check("webhook", name, _TASK, 'letters, digits, "-" and "_", starting with a letter')


def check_event_name(name: str) -> str:
    """Return `name` if it may name an event: any text of one line that can be seen."""
    if not (1 <= len(name) <= 200 and name.isprintable()):
        raise InvalidNameError(
            f"not a name of an event: {_shown(name)}; use 1 to 200 printable characters"
        )
    return name


def check_secret_name(name: str) -> str:
    """Return `name` if it may name a secret, as in `google/client_secret`."""
    if not (len(name) <= LONGEST_SECRET and _SECRET.match(name)):
        raise InvalidNameError(
            f"not a name of a secret: {_shown(name)}; use up to {LONGEST_SECRET} letters, digits "
            'and "-_.", with "/" between parts, as in google/client_secret'
        )
    return name


def check_run_id(run_id: str) -> str:
    """Return `run_id` if it has the form of an id made by `core.ids.run_id`."""
    if not _RUN.match(run_id):
        raise InvalidNameError(f"not a run id: {_shown(run_id)}; a run id looks like a UUID")
    return run_id


def check_run_prefix(prefix: str) -> str:
    """Return `prefix` if a run id can begin like this."""
    if not _RUN_PREFIX.match(prefix):
        raise InvalidNameError(
            f"not a run id or the beginning of one: {_shown(prefix)}; "
            "a run id looks like a UUID: digits, letters a to f and dashes"
        )
    return prefix


def check_collection_name(name: str) -> str:
    """Return `name` if it may name a collection of documents, as in `audit_log`."""
    if not _COLLECTION.match(name):
        raise InvalidNameError(
            f'not a name of a collection: {_shown(name)}; use up to 40 small letters and "_", '
            "starting with a letter"
        )
    return name


def check_document_key(key: str) -> str:
    """Return `key` if a document may have it: any text of one line that can be seen."""
    if not (1 <= len(key) <= LONGEST_KEY and key.isprintable()):
        raise InvalidNameError(
            f"not a key of a document: {_shown(key)}; use 1 to {LONGEST_KEY} printable characters"
        )
    return key


def snake_case(name: str) -> str:
    """The Python name of a task's entry function: `my-emails` -> `my_emails`."""
    return name.replace("-", "_")


def _check(kind: str, name: str, pattern: re.Pattern[str], rule: str) -> str:
    if not name:
        raise InvalidNameError(f"the {kind} name is empty: use {rule}")
    if len(name) > LONGEST:
        raise InvalidNameError(
            f"the {kind} name {_shown(name)} is too long: {len(name)} characters, "
            f"at most {LONGEST} are allowed"
        )
    if not pattern.match(name):
        raise InvalidNameError(f"the {kind} name {_shown(name)} cannot be used: use {rule}")
    if keyword.iskeyword(snake_case(name)) or name.lower() in _DEVICES:
        raise InvalidNameError(f"the {kind} name {_shown(name)} is reserved: choose another")
    return name


def _shown(name: str) -> str:
    return ascii(name if len(name) <= LONGEST else name[:40] + "...")

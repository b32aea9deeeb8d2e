"""What a request asks of a service, in any of the dialects that are spoken.

Ours names a method and its arguments: `{"method": "users.list", "args": [], "kwargs": {}}`. The
original's three record a chain of attributes and calls:

    {"chain": [{"property": "admin.domains.list", "args": [{"customer": "my_customer"}]}]}
    {"chain": [{"property": "admin"}, {"property": "domains"}, {"property": "list", "args": []}]}
    {"chain": [{"type": "get", "property": "admin"}, {"type": "call", "property": "list"}]}

Its keystore knew another one, `{"action": "getKey", "namespace": "global", "key": "GAPI_KEY"}`.

A chain is read, never followed: it comes down to the name of a declared method, so there is no
object whose attributes could be reached.
"""

import re
from typing import Any

import msgspec

MOST_STEPS = 64
LONGEST_NAME = 200  # characters of a method's name
_METHOD = re.compile(r"[A-Za-z][\w-]*(\.[A-Za-z][\w-]*)*\Z", re.ASCII)
_KEYS = frozenset({"method", "args", "kwargs", "chain", "config", "service"})


class ChainError(ValueError):
    """A request that asks for nothing that a service could do; the message is for its sender."""


class ModuleRefusedError(ChainError):
    """A request names a module to be loaded, which only an operator may."""


class Step(msgspec.Struct, frozen=True):
    """A part of a chain: an attribute, or a call of one if there are `args`."""

    property: str
    args: tuple[Any, ...] | None = None


class Wanted(msgspec.Struct, frozen=True):
    """One call: `steps` are there instead of a method where a chain has calls in the middle.

    In a chain the only argument may be an object of named ones, as the original wrote them, so
    `is_chain` says that it came as one.
    """

    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    steps: tuple[Step, ...] = ()
    is_chain: bool = False


def wanted(body: Any) -> Wanted:
    """The call that a request's body asks for; `ChainError` when it asks for none."""
    if not isinstance(body, dict):
        raise ChainError('send an object: {"method": "<name>", "args": [], "kwargs": {}}')
    if body.get("method") is not None:
        return _canonical(body)
    if body.get("chain") is None and isinstance(body.get("action"), str):
        return Wanted(_name(body["action"]), (), {k: v for k, v in body.items() if k != "action"})
    if body.get("chain") is None:
        unknown = sorted(key for key in body if key not in _KEYS)
        known = f"; {unknown[0][:40]!r} is not known here" if unknown else ""
        raise ChainError(f'say what to call: {{"method": "<name>"}} or {{"chain": [...]}}{known}')
    return _from_chain(body["chain"])


def service_named(body: Any) -> str:
    """The service that a request to the endpoint for all of them is about."""
    body = body if isinstance(body, dict) else {}
    config = body.get("config") if isinstance(body.get("config"), dict) else {}
    module = config.get("module")
    if isinstance(module, str) and module.startswith("service/"):
        return module.removeprefix("service/")
    refuse_modules(body)
    name = body.get("service") or config.get("service")
    if not isinstance(name, str):
        raise ChainError('say which service: {"service": "<name>", "chain": [...]}')
    return name


def refuse_modules(body: Any) -> None:
    """Raise `ModuleRefusedError` for a request that says what is to be imported."""
    config = body.get("config") if isinstance(body, dict) else None
    if not isinstance(config, dict):
        return
    module = config.get("module")
    if config.get("factory") or (module and not str(module).startswith("service/")):
        raise ModuleRefusedError(
            "a request cannot name a module or a factory: call a service by its name"
        )


def _canonical(body: dict[str, Any]) -> Wanted:
    method, args, kwargs = body["method"], body.get("args"), body.get("kwargs")
    if args is None:
        args = []
    if kwargs is None:
        kwargs = {}
    if isinstance(args, dict) and not kwargs:
        args, kwargs = [], args
    if not isinstance(args, list):
        raise ChainError("args has to be an array")
    if not isinstance(kwargs, dict):
        raise ChainError("kwargs has to be an object")
    return Wanted(_name(method), tuple(args), kwargs)


def _from_chain(chain: Any) -> Wanted:
    if not isinstance(chain, list) or not chain:
        raise ChainError("chain has to be an array with at least one step")
    if len(chain) > MOST_STEPS:
        raise ChainError(f"the chain has {len(chain)} steps, {MOST_STEPS} are allowed")
    steps = tuple(_step(one, number) for number, one in enumerate(chain))
    calls = [number for number, step in enumerate(steps) if step.args is not None]
    method = _name(".".join(step.property for step in steps))
    if calls and (len(calls) > 1 or calls[0] != len(steps) - 1):
        return Wanted("chain", steps=steps, is_chain=True)
    return Wanted(method, steps[-1].args or (), is_chain=True)


def _step(given: Any, number: int) -> Step:
    where = f"chain[{number}]"
    if not isinstance(given, dict) or not isinstance(given.get("property"), str):
        raise ChainError(f'{where} has to be an object with a "property"')
    args, kind = given.get("args"), given.get("type")
    if kind not in (None, "get", "call"):
        raise ChainError(f'{where}.type is "get" or "call"')
    if args is not None and not isinstance(args, list):
        args = [args]  # the original's client wrote one argument without an array around it
    if kind == "get":
        args = None
    elif kind == "call" and args is None:
        args = []
    return Step(_name(given["property"]), None if args is None else tuple(args))


def _name(given: Any) -> str:
    """A name that a declared method can have: nothing private, nothing of Python's own."""
    if not isinstance(given, str) or len(given) > LONGEST_NAME or not _METHOD.match(given):
        shown = given if isinstance(given, str) else type(given).__name__
        raise ChainError(f"{shown[:60]!a} is no name of a method, as in users.messages.list")
    return given

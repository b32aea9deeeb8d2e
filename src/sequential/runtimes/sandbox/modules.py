"""The `services` module of a task: a tree of names that the virtual machine asks the host for."""

import uuid
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any, NoReturn

from pydantic_monty import ExternalModule

_NAMESPACE = uuid.UUID("5d1c3f6e-8a4b-5c0e-9a53-2f6f7d0b7a11")


def external_modules(methods: Iterable[str]) -> dict[str, ExternalModule]:
    """The modules task code may import, for methods such as `gmail.users.messages.list`.

    Those with a dash in their names are for `call_host_tool` only, and so is `users` where there is
    `users.list`.
    """
    tree: dict[str, Any] = {}
    # The deepest first, so that a name with others below it is known as such.
    for method in sorted(methods, key=lambda name: (-name.count("."), name)):
        *path, name = parts = method.split(".")
        if any(iskeyword(part) or not part.isidentifier() for part in parts):
            continue
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node.setdefault(name, never)
    return {"services": _module(tree, "services")}


def _module(tree: dict[str, Any], path: str) -> ExternalModule:
    members = {
        name: _module(node, f"{path}.{name}") if isinstance(node, dict) else node
        for name, node in tree.items()
    }
    return ExternalModule(members, id=uuid.uuid5(_NAMESPACE, path))


def never(*args: Any, **kwargs: Any) -> NoReturn:
    """Stands for a host function; the runtime answers every call by hand, so it never runs."""
    raise AssertionError("a host function was called by the machine itself")

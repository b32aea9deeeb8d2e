"""Libraries that reach the network in C, past Python's sockets, where no hook sees them.

Nothing would be written down of what they do, and a replay would do it again, so in a task their
connections are refused by name.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from sequential.runtimes.native.importing import Then
from sequential.runtimes.native.patches import execution

_CONNECTING = {
    "MySQLdb": ("connect",),
    "grpc": ("insecure_channel", "secure_channel"),
    "grpc.aio": ("insecure_channel", "secure_channel"),
    "psycopg": ("connect", "Connection.connect", "AsyncConnection.connect"),
    "psycopg2": ("connect",),
    "pyodbc": ("connect",),
}


def refusals() -> Iterator[tuple[str, Then]]:
    """What to do with each of these modules when it is imported."""
    for module, names in _CONNECTING.items():
        yield module, functools.partial(_refuse, names=names)


def _refuse(module: Any, names: tuple[str, ...]) -> None:
    for name in names:
        owner, _, attribute = name.rpartition(".")
        place = getattr(module, owner, None) if owner else module
        original = vars(place).get(attribute) if place is not None else None
        if isinstance(original, classmethod):
            setattr(place, attribute, classmethod(_refusing(module, original.__func__)))
        elif original is not None:
            setattr(place, attribute, _refusing(module, original))


def _refusing(library: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        if execution() is not None:
            _say_no(library.__name__)
        return original(*args, **kwargs)

    return connect


def _say_no(library: str) -> NoReturn:
    raise RuntimeError(
        f"a native task cannot open a connection of {library}, which would not survive it: use "
        "`await step(function, ...)`, or a service"
    )

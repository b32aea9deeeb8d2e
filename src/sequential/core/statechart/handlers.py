"""Which function of the code handles a state."""

import re
from collections.abc import Collection

TASK_PREFIX = "task:"
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Handlers:
    """The functions of a task's code, as a graph looks them up.

    `functions` are the names of the public functions; None when there is no code to check against
    (diagrams, tests): then every name is taken as it is. `entry` is a function that the states
    in `callers` call if none of them has a function of its own.
    """

    def __init__(
        self,
        functions: Collection[str] | None,
        entry: str | None = None,
        callers: Collection[str] = (),
    ) -> None:
        self.functions = functions
        self._callers = callers
        self._entry = None if any(self.named(one) for one in callers) else entry

    @property
    def are_known(self) -> bool:
        """Whether there is code to check against."""
        return self.functions is not None

    def named(self, name: str) -> str | None:
        """The function of this name: as written, else in snake_case."""
        if self.functions is None:
            return None
        return next((one for one in (name, snake_case(name)) if one in self.functions), None)

    def find(self, src: str) -> str | None:
        """The function that `src` means: one of its name, else the one that all states call."""
        return self.named(src) or (self._entry if src in self._callers else None)


def snake_case(name: str) -> str:
    """`fetchUsers`, `fetch-users` and `Fetch Users` -> `fetch_users`."""
    return re.sub(r"[^\w]+", "_", _HUMP.sub("_", name)).lower()

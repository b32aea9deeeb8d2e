"""Chains of names and calls, recorded as they are written down."""

import keyword
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sequential.core import values
from sequential.errors import ConfigError, ValueNotSupportedError

LONGEST = 64  # steps


class Call(NamedTuple):
    """The last name with its arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Chain(NamedTuple):
    """What was written after the proxy: names, and calls of them."""

    steps: tuple[str | Call, ...] = ()

    def named(self, name: str) -> "Chain":
        """With one name more; `from_` is `from`, which Python keeps for itself."""
        plain = name.removesuffix("_") if keyword.iskeyword(name[:-1]) else name
        if len(self.steps) >= LONGEST:
            raise ConfigError(f"a chain has more than {LONGEST} steps: make several calls of it")
        return Chain((*self.steps, plain))

    def called(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Chain":
        """With the last name called."""
        *before, name = self.steps or ((),)
        if not isinstance(name, str):
            raise ConfigError(f"only a name can be called, as in proxy.method(...): {self}")
        return Chain((*before, Call(name, tuple(args), kwargs)))

    @property
    def is_called(self) -> bool:
        """Whether it ends in a call."""
        return bool(self.steps) and isinstance(self.steps[-1], Call)

    def as_method(self) -> dict[str, Any]:
        """`{"method", "args", "kwargs"}`: names and one call, which is the last."""
        *before, call = self.steps
        names = [step for step in before if isinstance(step, str)]
        if not isinstance(call, Call) or len(names) < len(before):
            raise ConfigError(
                f'{self}: calls in between need the other wire format: dialect="chain"'
            )
        return {
            "method": ".".join([*names, call.name]),
            "args": [values.to_json(arg, f"args[{i}]") for i, arg in enumerate(call.args)],
            "kwargs": values.to_json(dict(call.kwargs), "kwargs"),
        }

    def as_steps(self) -> dict[str, Any]:
        """`{"chain": [{"type": "get" | "call", "property", "args"}]}`, as the original sends it.

        Arguments with names are one object after the others, as JavaScript has it, and what JSON
        has not is written as JavaScript would: dates and bytes as text, tuples as arrays.
        """
        return {"chain": [_step(step) for step in self.steps]}

    def __str__(self) -> str:
        shown = (step if isinstance(step, str) else f"{step.name}(...)" for step in self.steps)
        return ".".join(shown)


def _step(step: str | Call) -> dict[str, Any]:
    if isinstance(step, str):
        return {"type": "get", "property": step}
    given = [*step.args, *([dict(step.kwargs)] if step.kwargs else [])]
    try:
        args = msgspec.to_builtins(given, str_keys=True)
    except TypeError as error:
        raise ValueNotSupportedError(f"{step.name}(...) in a chain: {error}") from error
    return {"type": "call", "property": step.name, "args": args}

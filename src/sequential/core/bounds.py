"""What an operator's bounds make of a task's policy, and what he lets the holder of a token do."""

from typing import Annotated, TypeVar

import msgspec

from sequential.core.model import Bounds, Limits, TaskConfig, evolve

Number = TypeVar("Number", int, float)
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

# For tasks that come from elsewhere: no private host and no service that has to be named, even if
# the task itself names them.
PUBLIC = Bounds(hosts=("*",), services=("*",))


class TokenLimits(Bounds, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the holder of a token may do; None is no limit.

    Beyond the bounds of what is sent or started with it: `largest_code` is bytes of a task's
    program, `runs` how many of its runs may be unfinished at a time, `run_seconds` how long all
    runs that it ever starts may take together, from creation to end.
    """

    largest_code: Count | None = None
    runs: Count | None = None
    run_seconds: Seconds | None = None

    @property
    def bounds(self) -> Bounds:
        """What holds for the tasks and runs themselves."""
        return Bounds(**{name: getattr(self, name) for name in Bounds.__struct_fields__})

    def also(self, other: "TokenLimits") -> "TokenLimits":
        """The numbers that hold where both do; the lists stay those of this one."""
        numbers = ("largest_code", "runs", "run_seconds")
        return evolve(
            self, **{name: least(getattr(self, name), getattr(other, name)) for name in numbers}
        )


def narrowed(config: TaskConfig, *all_bounds: Bounds) -> TaskConfig:
    """A policy within these bounds, too; child runs inherit them."""
    for bounds in all_bounds:
        if bounds == Bounds() or bounds in config.allow.within:
            continue
        config = evolve(
            config,
            allow=evolve(config.allow, within=(*config.allow.within, bounds)),
            limits=_least_limits(config.limits, bounds.limits),
            timeout=least(config.timeout, bounds.timeout),
        )
    return config


def least(one: Number | None, other: Number | None) -> Number | None:
    """The smaller of two limits, of which None is none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _least_limits(one: Limits, other: Limits | None) -> Limits:
    if other is None:
        return one
    names = Limits.__struct_fields__
    return Limits(**{name: min(getattr(one, name), getattr(other, name)) for name in names})

"""Spans of time as people type them: `90s`, `15m`, `12h`, `30d`, `8w`, or a number of seconds."""

import re
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WRITTEN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s?([smhdw]?)", re.ASCII)


class Duration(click.ParamType[float]):
    """A span of time as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = _WRITTEN.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(
                f"{str(value)[:40]!a} is no span of time: write 90s, 15m, 12h, 30d or 8w",
                param,
                ctx,
            )
        return float(found[1]) * _UNITS[found[2]]

"""What a task's `config.json` may say beyond its form: known names, sensible numbers."""

import math
from collections.abc import Iterator
from typing import Any

from sequential.core.inputs import TYPES, check_input
from sequential.core.model import InputField, TaskConfig, evolve
from sequential.core.names import (
    check_field_name,
    check_schedule_name,
    check_secret_name,
    check_webhook_name,
)
from sequential.core.schedule import schedule_problems
from sequential.core.webhook import webhook_problems
from sequential.errors import ConfigError, InvalidInputError, InvalidNameError

RUNTIMES = ("sandbox", "native")


def check_config(config: TaskConfig) -> None:
    """Raise `ConfigError` that lists everything wrong with a task's policy."""
    if problems := config_problems(config):
        raise ConfigError(f"config.json of {config.name}: {'; '.join(problems)}")


def config_problems(config: TaskConfig) -> list[str]:
    """What is wrong with a policy, a line each; nothing when it can be used."""
    return [
        *(*_of_runtime(config), *_of_inputs(config), *_of_numbers(config), *_of_secrets(config)),
        *(*_of_schedules(config), *_of_webhooks(config)),
    ]


def _of_runtime(config: TaskConfig) -> Iterator[str]:
    if config.runtime not in RUNTIMES:
        yield f"there is no runtime {config.runtime!a}: use {' or '.join(RUNTIMES)}"


def _of_inputs(config: TaskConfig) -> Iterator[str]:
    seen: set[str] = set()
    for field in config.inputs:
        yield from _of_field(field)
        if field.name in seen:
            yield f'the input "{field.name}" is declared twice'
        seen.add(field.name)


def _of_field(field: InputField) -> Iterator[str]:
    try:
        check_field_name(field.name)
    except InvalidNameError as error:
        yield str(error)
    fits = TYPES.get(field.type)
    if fits is None:
        types = ", ".join(TYPES)
        yield f'the input "{field.name}" has the type {field.type!a}: use one of {types}'
    elif field.default is not None and not fits(field.default):
        yield f'the default of the input "{field.name}" is not {field.type}'


def _of_numbers(config: TaskConfig) -> Iterator[str]:
    positive = {"timeout": config.timeout, "ttl": config.ttl}
    positive |= {f"limits.{n}": getattr(config.limits, n) for n in config.limits.__struct_fields__}
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            yield f"{name} must be more than 0, this is {value:g}"
    most = config.concurrency
    if most is not None and not (type(most) is int and most >= 1):
        yield f"concurrency must be a whole number and at least 1, this is {most!a}"
    if config.retry is not None:
        for name in config.retry.__struct_fields__:
            value = getattr(config.retry, name)
            if not (math.isfinite(value) and value >= 0):
                yield f"retry.{name} must not be less than 0, this is {value:g}"


def _of_secrets(config: TaskConfig) -> Iterator[str]:
    for name in config.allow.secrets or ():
        try:
            check_secret_name(name.removesuffix("/*"))
        except InvalidNameError as error:
            yield f"allow.secrets: {error}"


def _of_schedules(config: TaskConfig) -> Iterator[str]:
    seen: set[str] = set()
    for schedule in config.schedules:
        try:
            check_schedule_name(schedule.name)
        except InvalidNameError as error:
            yield str(error)
        if schedule.name in seen:
            yield f'the schedule "{schedule.name}" is declared twice'
        seen.add(schedule.name)
        for problem in schedule_problems(schedule):
            yield f'the schedule "{schedule.name}": {problem}'
        yield from _of_scheduled_input(config, schedule.name, schedule.input)


def _of_scheduled_input(config: TaskConfig, name: str, given: dict[str, Any]) -> Iterator[str]:
    """What does not fit; a field that is missing may be among the project's defaults."""
    fields = tuple(evolve(field, required=False) for field in config.inputs)
    try:
        check_input(evolve(config, inputs=fields), given, {})
    except InvalidInputError as error:
        yield f'the schedule "{name}": {error}'


def _of_webhooks(config: TaskConfig) -> Iterator[str]:
    seen: set[str] = set()
    for webhook in config.webhooks:
        try:
            check_webhook_name(webhook.name)
        except InvalidNameError as error:
            yield str(error)
        if webhook.name in seen:
            yield f'the webhook "{webhook.name}" is declared twice'
        seen.add(webhook.name)
        for problem in webhook_problems(webhook):
            yield f'the webhook "{webhook.name}": {problem}'

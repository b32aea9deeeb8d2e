"""A run before anybody has driven it: the record as it is written."""

from sequential.core import times
from sequential.core.model import Status, TaskRun, evolve
from sequential.core.names import check_run_id, check_task_name
from sequential.core.policy import check_config
from sequential.runner.settings import RunnerSettings


def new_run(run: TaskRun, settings: RunnerSettings, now: str) -> TaskRun:
    """`run` as it is created: with its times, and with the settings where it has no policy.

    Raises `InvalidNameError`, and `ConfigError` when the policy cannot be used.
    """
    check_run_id(run.id)
    check_task_name(run.task_identifier)
    config = evolve(
        run.config,
        name=run.task_identifier,
        retry=run.config.retry or settings.retry,
        timeout=settings.timeout if run.config.timeout is None else run.config.timeout,
        schedules=(),  # they are the task's
    )
    check_config(config)
    begin = run.wake_at or now
    return evolve(
        run,
        status=Status.PENDING,
        input={} if run.input is None else run.input,
        created_at=now,
        updated_at=now,
        deadline=times.after(begin, config.timeout) if config.timeout else None,
        config=config,
    )

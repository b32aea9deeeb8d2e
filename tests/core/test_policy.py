"""A task's policy is checked before a run is written."""

import pytest

from sequential.core.model import Allow, InputField, Limits, RetryPolicy, TaskConfig
from sequential.core.policy import check_config, config_problems
from sequential.core.schedule import Schedule
from sequential.errors import ConfigError


def test_the_defaults_are_fine() -> None:
    assert config_problems(TaskConfig(name="x")) == []
    check_config(TaskConfig(name="x"))
    check_config(TaskConfig(name="x", ttl=0.5, concurrency=1))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TaskConfig(name="x", runtime="docker"), "there is no runtime 'docker'"),
        (TaskConfig(name="x", timeout=0), "timeout must be more than 0, this is 0"),
        (TaskConfig(name="x", timeout=float("nan")), "timeout must be more than 0"),
        (TaskConfig(name="x", ttl=0), "ttl must be more than 0, this is 0"),
        (TaskConfig(name="x", ttl=float("inf")), "ttl must be more than 0, this is inf"),
        (TaskConfig(name="x", concurrency=0), "concurrency must be a whole number and at least 1"),
        (TaskConfig(name="x", concurrency=1.5), "this is 1.5"),  # type: ignore[arg-type]
        (TaskConfig(name="x", concurrency=True), "this is True"),
        (TaskConfig(name="x", limits=Limits(memory_mb=-1)), "limits.memory_mb must be more"),
        (TaskConfig(name="x", retry=RetryPolicy(retries=-1)), "retry.retries must not be less"),
        (TaskConfig(name="x", inputs=(InputField("a-b"),)), "input name 'a-b' cannot be used"),
        (TaskConfig(name="x", inputs=(InputField("a"),) * 2), 'input "a" is declared twice'),
        (TaskConfig(name="x", inputs=(InputField("a", "str"),)), "has the type 'str': use one of"),
        (
            TaskConfig(name="x", inputs=(InputField("a", "integer", default="1"),)),
            'the default of the input "a" is not integer',
        ),
        (
            TaskConfig(name="x", allow=Allow(secrets=("crm", "a/*", "*"))),
            "allow.secrets: not a name",
        ),
    ],
)
def test_what_cannot_be_used_is_named(config: TaskConfig, problem: str) -> None:
    (found,) = config_problems(config)
    assert problem in found


def test_all_problems_are_listed_at_once() -> None:
    config = TaskConfig(name="x", runtime="docker", timeout=-1)
    with pytest.raises(ConfigError, match=r"config.json of x: there is no runtime.*; timeout"):
        check_config(config)


DAY = InputField("day")
NIGHTLY = Schedule("nightly", cron="0 3 * * *", input={"day": "today"})


def test_schedules_may_leave_out_what_the_defaults_of_a_project_may_have() -> None:
    fields = (DAY, InputField("limit", "integer"))
    assert config_problems(TaskConfig(name="x", inputs=fields, schedules=(NIGHTLY,))) == []


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        (Schedule("a b", every=60), "the schedule name 'a b' cannot be used"),
        (Schedule("a", cron="0 25 * * *"), """the schedule "a": cron: the hour '25' cannot be"""),
        (Schedule("a", every=60, input={"dya": "x"}), 'the schedule "a": the input does not fit x'),
        (Schedule("a", every=60, input={"day": 1}), '"day" must be string, this is integer'),
    ],
)
def test_what_is_wrong_with_a_schedule_is_named(schedule: Schedule, problem: str) -> None:
    (found,) = config_problems(TaskConfig(name="x", inputs=(DAY,), schedules=(schedule,)))
    assert problem in found


def test_two_schedules_of_a_task_have_two_names() -> None:
    config = TaskConfig(name="x", schedules=(NIGHTLY, NIGHTLY))
    assert config_problems(config) == ['the schedule "nightly" is declared twice']

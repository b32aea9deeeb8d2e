"""Durable tasks in plain Python: every HTTP call and tool call is a checkpoint.

Importing this package imports nothing else of it; each name below is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sequential.config import Settings, load_settings
    from sequential.core.model import (
        Allow,
        CallStatus,
        Failure,
        InputField,
        Limits,
        RetryPolicy,
        StackRun,
        Status,
        TaskConfig,
        TaskFunction,
        TaskRun,
    )
    from sequential.core.schedule import Schedule
    from sequential.core.webhook import Webhook
    from sequential.errors import SequentialError
    from sequential.runner.engine import Engine
    from sequential.runner.progress import Progress, Step
    from sequential.runner.run_handle import Run
    from sequential.runner.service_client import ServiceClient
    from sequential.runner.settings import RunnerSettings
    from sequential.runner.stack_processor import StackProcessor
    from sequential.runner.sync_engine import SyncEngine, SyncRun
    from sequential.runner.task_executor import TaskExecutor
    from sequential.runner.worker import Worker
    from sequential.services.base import CallContext, CallError, Secret, Service, TryAgain
    from sequential.services.http_settings import HttpSettings
    from sequential.services.local import LocalService
    from sequential.storage.base import StorageAdapter
    from sequential.storage.key_value import KeyValueAdapter
    from sequential.storage.registry import (
        create_adapter,
        register_adapter,
        registered_adapters,
    )

__version__ = "0.1.0"

_HOMES = {
    "config": ("Settings", "load_settings"),
    "core.model": (
        "Allow",
        "CallStatus",
        "Failure",
        "InputField",
        "Limits",
        "RetryPolicy",
        "StackRun",
        "Status",
        "TaskConfig",
        "TaskFunction",
        "TaskRun",
    ),
    "core.schedule": ("Schedule",),
    "core.webhook": ("Webhook",),
    "errors": ("SequentialError",),
    "runner.engine": ("Engine",),
    "runner.progress": ("Progress", "Step"),
    "runner.run_handle": ("Run",),
    "runner.settings": ("RunnerSettings",),
    "runner.service_client": ("ServiceClient",),
    "runner.stack_processor": ("StackProcessor",),
    "runner.sync_engine": ("SyncEngine", "SyncRun"),
    "runner.task_executor": ("TaskExecutor",),
    "runner.worker": ("Worker",),
    "services.base": ("CallContext", "CallError", "Secret", "Service", "TryAgain"),
    "services.http_settings": ("HttpSettings",),
    "services.local": ("LocalService",),
    "storage.base": ("StorageAdapter",),
    "storage.key_value": ("KeyValueAdapter",),
    "storage.registry": ("create_adapter", "register_adapter", "registered_adapters"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Allow",
    "CallContext",
    "CallError",
    "CallStatus",
    "Engine",
    "Failure",
    "HttpSettings",
    "InputField",
    "KeyValueAdapter",
    "Limits",
    "LocalService",
    "Progress",
    "RetryPolicy",
    "Run",
    "RunnerSettings",
    "Schedule",
    "Secret",
    "SequentialError",
    "Service",
    "ServiceClient",
    "Settings",
    "StackProcessor",
    "StackRun",
    "Status",
    "Step",
    "StorageAdapter",
    "SyncEngine",
    "SyncRun",
    "TaskConfig",
    "TaskExecutor",
    "TaskFunction",
    "TaskRun",
    "TryAgain",
    "Webhook",
    "Worker",
    "__version__",
    "create_adapter",
    "load_settings",
    "register_adapter",
    "registered_adapters",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

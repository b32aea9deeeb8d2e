"""The library entrances: a program of one's own performs the calls, or drives the steps.

Each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sequential.flow.executor import FlowExecutor, create_flow_executor
    from sequential.flow.executor_databases import (
        FirestoreStepStorage,
        RedisStepStorage,
        SQLStepStorage,
    )
    from sequential.flow.executor_storage import StepStorage
    from sequential.flow.executor_storages import (
        AdapterStepStorage,
        FolderStepStorage,
        MemoryStepStorage,
    )
    from sequential.flow.firestore_storage import FirestoreStorage
    from sequential.flow.flow_task import FetchRequest, FlowStatus, FlowTask
    from sequential.flow.redis_storage import RedisStorage
    from sequential.flow.sequential_flow import SequentialFlow
    from sequential.flow.sql_storage import SQLStorage
    from sequential.flow.storages import CustomStorage, InMemoryStorage

_HOMES = {
    "executor": ("FlowExecutor", "create_flow_executor"),
    "executor_databases": ("FirestoreStepStorage", "RedisStepStorage", "SQLStepStorage"),
    "executor_storage": ("StepStorage",),
    "executor_storages": ("AdapterStepStorage", "FolderStepStorage", "MemoryStepStorage"),
    "firestore_storage": ("FirestoreStorage",),
    "flow_task": ("FetchRequest", "FlowStatus", "FlowTask"),
    "redis_storage": ("RedisStorage",),
    "sequential_flow": ("SequentialFlow",),
    "sql_storage": ("SQLStorage",),
    "storages": ("CustomStorage", "InMemoryStorage"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AdapterStepStorage",
    "CustomStorage",
    "FetchRequest",
    "FirestoreStepStorage",
    "FirestoreStorage",
    "FlowExecutor",
    "FlowStatus",
    "FlowTask",
    "FolderStepStorage",
    "InMemoryStorage",
    "MemoryStepStorage",
    "RedisStepStorage",
    "RedisStorage",
    "SQLStepStorage",
    "SQLStorage",
    "SequentialFlow",
    "StepStorage",
    "create_flow_executor",
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

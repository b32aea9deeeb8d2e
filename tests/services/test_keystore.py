"""The service "keystore" over the real keystore, in a store in memory."""

import time
from typing import Any

import pytest

from sequential.core.model import Allow
from sequential.errors import StorageUnreachableError
from sequential.runner.keystore import Keystore
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.keystore import KeystoreService, service
from sequential.storage.memory import MemoryAdapter

LISTED = Allow(secrets=("token", "crm/*"))


@pytest.fixture
def keys() -> Keystore:
    return Keystore(MemoryAdapter(), lambda: b"a secret of this process")


def context(allow: Allow = LISTED) -> CallContext:
    return CallContext("run-1", "task", 0, 1, "key-1", allow=allow)


async def call(keystore: KeystoreService, method: str, *args: Any, **given: Any) -> Any:
    return await keystore.call(method, args, given, context())


async def test_secrets_by_namespace(keys: Keystore) -> None:
    keystore = KeystoreService(keys, reveal=True)
    assert await call(keystore, "listNamespaces") == ["global"]
    assert await call(keystore, "setKey", key="token", value="t1") is True
    assert await call(keystore, "setKey", "token", "t2", namespace="crm") is True
    assert await call(keystore, "setKey", "token", "t3", namespace="crm/eu") is True
    await keys.set("other/token", "not for the task")
    await keys.set("global/token", "not one of the namespace global")

    assert await keys.get("crm/token") == "t2"  # what fetch and services use under this name
    assert await call(keystore, "getKey", key="token") == "t1"
    assert await call(keystore, "getKey", key="token", namespace="crm/eu") == "t3"
    assert await call(keystore, "listNamespaces") == ["crm", "crm/eu", "global"]
    assert await call(keystore, "listKeys") == ["token"]
    assert await call(keystore, "listKeys", namespace="crm") == ["token"]
    assert await call(keystore, "listKeys", namespace="other") == []
    assert await call(keystore, "hasKey", key="token", namespace="crm") is True
    assert await call(keystore, "hasKey", key="nothing", namespace="crm") is False
    assert await call(keystore, "deleteKey", key="token", namespace="crm") is True
    assert await call(keystore, "deleteKey", key="token", namespace="crm") is False
    assert await call(keystore, "hasKey", key="token", namespace="crm") is False
    with pytest.raises(CallError, match="there is no secret 'crm/token': set it with") as error:
        await call(keystore, "getKey", key="token", namespace="crm")
    assert error.value.failure.type == "LookupError"


async def test_the_original_put_the_namespace_first(keys: Keystore) -> None:
    keystore = KeystoreService(keys, reveal=True)
    assert await call(keystore, "setKey", "crm", "token", "t1") is True
    assert await call(keystore, "setKey", "global", "token", "t2") is True
    assert await keys.get("crm/token") == "t1"
    assert await call(keystore, "getKey", "crm", "token") == "t1"
    assert await call(keystore, "getKey", "global", "token") == "t2"
    assert await call(keystore, "hasKey", "token") is True
    assert await call(keystore, "deleteKey", "crm", "token") is True
    with pytest.raises(CallError, match="too many positional arguments"):
        await call(keystore, "getKey", "crm", "token", "more")


async def test_values_are_shown_only_when_the_operator_says_so(
    keys: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYSTORE_REVEAL", raising=False)
    await keys.set("token", "t1")
    with pytest.raises(CallError, match=r"would show the secret 'token' and put it into journals"):
        await call(service(keys), "getKey", key="token")
    monkeypatch.setenv("KEYSTORE_REVEAL", "true")
    assert await call(service(keys), "getKey", key="token") == "t1"


@pytest.mark.parametrize("method", ["getKey", "setKey", "deleteKey", "hasKey"])
async def test_only_secrets_that_the_task_names(keys: Keystore, method: str) -> None:
    await keys.set("other", "not for the task")
    keystore = KeystoreService(keys, reveal=True)
    given = {"key": "other"} | ({"value": "x"} if method == "setKey" else {})
    with pytest.raises(CallError, match=r"'other' is not in the task's allow.secrets") as error:
        await call(keystore, method, **given)
    assert error.value.failure.type == "PermissionError"
    # A task that may use all secrets was not made to look after them.
    with pytest.raises(CallError, match=r"only a task that names its secrets in allow.secrets"):
        await keystore.call(method, [], given, context(Allow()))
    assert await keys.get("other") == "not for the task"


async def test_an_operator_names_no_secrets_beforehand(keys: Keystore) -> None:
    by_hand = CallContext("run-1", "", 0, 1, "key-1")
    keystore = KeystoreService(keys)
    assert await keystore.call("setKey", ["other", "value"], {}, by_hand) is True
    assert await keystore.call("listKeys", [], {}, by_hand) == ["other"]
    with pytest.raises(CallError, match="would show the secret 'other'"):
        await keystore.call("getKey", ["other"], {}, by_hand)


async def test_lists_are_for_tasks_that_name_their_secrets(keys: Keystore) -> None:
    keystore = KeystoreService(keys)
    for method in ("listKeys", "listNamespaces"):
        with pytest.raises(CallError, match="only a task that names its secrets"):
            await keystore.call(method, [], {}, context(Allow()))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"key": "../x", "value": "v"}, "not a name of a secret"),
        ({"key": "", "value": "v"}, "not a name of a secret"),
        ({"key": "a/b", "value": "v"}, "'a/b' is no key: what stands before the last /"),
        ({"key": "token", "value": ""}, "it needs 1 to"),
        ({"key": "token", "value": 5}, "value: expected `str`"),
        ({"key": "token", "value": "v", "namespace": "crm/"}, "not a name of a secret"),
    ],
)
async def test_what_cannot_be_kept(keys: Keystore, given: dict[str, Any], told: str) -> None:
    with pytest.raises(CallError, match=told):
        await call(KeystoreService(keys), "setKey", **given)
    assert await keys.list() == []


async def test_a_store_that_cannot_be_reached(
    keys: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> Any:
        raise StorageUnreachableError("nobody there")

    monkeypatch.setattr(keys, "list", fail)
    for method, given in (("hasKey", {"key": "token"}), ("listKeys", {})):
        with pytest.raises(TryAgain, match="OSError: the keystore cannot be reached: nobody"):
            await call(KeystoreService(keys), method, **given)


async def test_a_process_without_a_keystore() -> None:
    with pytest.raises(CallError, match="this process has no keystore"):
        await call(service(), "hasKey", key="token")


async def test_the_time_of_the_server(keys: Keystore) -> None:
    before = time.time_ns() // 1_000_000
    told = await call(KeystoreService(keys), "getServerTime")
    assert before <= told["epoch"] <= time.time_ns() // 1_000_000
    assert told["timestamp"].endswith("Z")

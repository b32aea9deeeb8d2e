"""The keystore: what it keeps, what it refuses, and what the store gets to see."""

import base64
import subprocess
import sys

import pytest

from sequential.core.model import Allow
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    KeystoreError,
    SecretNotFoundError,
    StorageError,
)
from sequential.runner.keystore import CallSecrets, Keystore
from sequential.services.base import CallError, TryAgain
from sequential.storage.memory import MemoryAdapter


@pytest.fixture
def store() -> MemoryAdapter:
    return MemoryAdapter()


@pytest.fixture
def keys(store: MemoryAdapter) -> Keystore:
    return Keystore(store, lambda: b"one")


async def test_values_by_name(keys: Keystore) -> None:
    await keys.set("google/client_secret", "first")
    await keys.set("google/client_secret", "wörd\n2")
    await keys.set("crm.token-1", "x")
    assert await keys.get("google/client_secret") == "wörd\n2"
    assert await keys.list() == ["crm.token-1", "google/client_secret"]
    await keys.delete("crm.token-1")
    assert await keys.list() == ["google/client_secret"]


async def test_documents_are_no_secrets_where_a_store_keeps_them_in_the_keystore(
    keys: Keystore, store: MemoryAdapter
) -> None:
    entry = f"{store.reserved_keys}tokens:a"
    await store.set_keystore(entry, "1 null")
    await keys.set("documents", "x")
    assert await keys.list() == ["documents"]
    for attempt in (keys.get(entry), keys.set(entry, "x"), keys.delete(entry)):
        with pytest.raises(InvalidNameError):
            await attempt
    assert await store.get_keystore(entry) == "1 null"


async def test_the_store_sees_neither_the_value_nor_that_two_are_the_same(
    keys: Keystore, store: MemoryAdapter
) -> None:
    await keys.set("a", "the value")
    await keys.set("b", "the value")
    one, other = await store.get_keystore("a"), await store.get_keystore("b")
    assert one is not None
    assert other is not None
    assert one.startswith("v1.")
    assert one.split(".")[1] == other.split(".")[1]  # which key it was
    assert one.split(".")[2] != other.split(".")[2]
    sealed = base64.urlsafe_b64decode(one.split(".")[2])
    assert len(sealed) == 12 + len("the value") + 16
    assert b"value" not in sealed


async def test_another_secret_opens_nothing(keys: Keystore, store: MemoryAdapter) -> None:
    await keys.set("a", "the value")
    with pytest.raises(KeystoreError, match="was written with another SEQUENTIAL_SECRET") as caught:
        await Keystore(store, lambda: b"two").get("a")
    assert "\n" not in str(caught.value)
    assert await Keystore(store, lambda: b"one").get("a") == "the value"


async def test_entries_cannot_be_exchanged_or_changed(keys: Keystore, store: MemoryAdapter) -> None:
    await keys.set("harmless", "the value")
    entry = await store.get_keystore("harmless")
    assert entry is not None
    version, key_id, text = entry.split(".")
    changed = bytearray(base64.urlsafe_b64decode(text))
    changed[-1] ^= 1
    for wrong in (entry, f"{version}.{key_id}.{base64.urlsafe_b64encode(changed).decode()}"):
        await store.set_keystore("payments", wrong)
        with pytest.raises(KeystoreError, match="payments is damaged, or was stored under another"):
            await keys.get("payments")
    for wrong in (f"{version}.{key_id}.", f"{version}.{key_id}.%%%", f"{version}.{key_id}.YQ=="):
        await store.set_keystore("payments", wrong)
        with pytest.raises(KeystoreError, match="damaged"):
            await keys.get("payments")


async def test_an_entry_of_a_later_version_is_not_guessed_at(
    keys: Keystore, store: MemoryAdapter
) -> None:
    await store.set_keystore("a", "v2.abc.def")
    with pytest.raises(KeystoreError, match="another version of this program"):
        await keys.get("a")


async def test_a_name_that_is_not_there_is_answered_with_the_nearest(keys: Keystore) -> None:
    await keys.set("google/client_secret", "x")
    with pytest.raises(SecretNotFoundError, match=r"did you mean google/client_secret\?"):
        await keys.get("gogle/client_secret")
    with pytest.raises(SecretNotFoundError, match="sequential-ecosystem keys set zzz"):
        await keys.get("zzz")


async def test_deleting_removes_all_or_none(keys: Keystore) -> None:
    await keys.set("a", "x")
    with pytest.raises(SecretNotFoundError, match="there is no secret b"):
        await keys.delete("a", "b")
    assert await keys.list() == ["a"]


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a b", "ä", "-a", "a" * 201])
async def test_names_that_cannot_be_used(keys: Keystore, name: str) -> None:
    with pytest.raises(InvalidNameError, match="not a name of a secret"):
        await keys.set(name, "x")


@pytest.mark.parametrize("value", ["", "x" * 65537, "\ud800"])
async def test_values_that_cannot_be_kept(keys: Keystore, value: str) -> None:
    with pytest.raises(InvalidInputError, match="the value of a "):
        await keys.set("a", value)
    assert await keys.list() == []


async def refusal(keys: Keystore, allow: Allow, name: str) -> tuple[str, str]:
    with pytest.raises(CallError) as caught:
        await CallSecrets(keys, allow).get(name)
    return caught.value.failure.type, caught.value.failure.code


async def test_a_call_gets_the_secrets_its_task_may_use(keys: Keystore) -> None:
    for name in ("crm", "google/id", "google/secret"):
        await keys.set(name, f"value of {name}")
    some = CallSecrets(keys, Allow(secrets=("crm", "google/*")))
    assert await some.get("google/id") == "value of google/id"
    assert await some.get("crm") == "value of crm"
    assert await CallSecrets(keys, Allow()).get("crm") == "value of crm"
    assert await refusal(keys, Allow(secrets=("google/*",)), "crm") == (
        "PermissionError",
        "refused",
    )
    assert await refusal(keys, Allow(secrets=()), "crm") == ("PermissionError", "refused")


async def test_a_call_learns_no_names_of_other_secrets(keys: Keystore) -> None:
    await keys.set("google/secret", "x")
    with pytest.raises(CallError, match=r"there is no secret 'google/secre'") as caught:
        await CallSecrets(keys, Allow()).get("google/secre")
    assert "google/secret" not in str(caught.value)
    assert caught.value.failure.type == "LookupError"
    assert await refusal(keys, Allow(), "no name") == ("ValueError", "invalid_call")


async def test_what_is_kept_beside_secrets_stays_in_answers(keys: Keystore) -> None:
    await keys.set("admin", "admin@example.com")
    secrets = CallSecrets(keys, Allow(secrets=("admin",)))
    assert await secrets.get_plain("admin") == "admin@example.com"
    assert not secrets.are_used
    assert secrets.redacted("from admin@example.com") == "from admin@example.com"
    await secrets.get("admin")
    assert secrets.redacted("from admin@example.com") == "from {{secret:admin}}"
    with pytest.raises(CallError, match=r"not in the task's allow.secrets"):
        await CallSecrets(keys, Allow(secrets=())).get_plain("admin")


async def test_a_store_in_trouble_is_asked_again(keys: Keystore, store: MemoryAdapter) -> None:
    class Broken(MemoryAdapter):
        async def get_keystore(self, key: str) -> str | None:
            raise StorageError("the disk is gone")

    with pytest.raises(TryAgain, match="the disk is gone"):
        await CallSecrets(Keystore(Broken(), lambda: b"one"), Allow()).get("a")


async def test_what_a_call_got_is_hidden_in_what_it_says(keys: Keystore) -> None:
    await keys.set("a", "the value")
    secrets = CallSecrets(keys, Allow())
    assert secrets.redacted("the value") == "the value"
    await secrets.get("a")
    assert secrets.redacted("it was the value.") == "it was {{secret:a}}."


def test_the_engine_is_loaded_without_cryptography() -> None:
    code = "import sys, sequential.runner.engine; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )
    assert "cryptography" not in done.stdout.split()

"""The contract, on the test server and, where it is installed, on Google's emulator."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import StorageContract
from support import firestore_emulator
from support.firestore_server import FirestoreServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def emulator() -> str:
    if reason := firestore_emulator.missing():
        pytest.skip(reason)
    return firestore_emulator.address()


def opening(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens one store again and again."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
    place = f"firestore://demo/test{next(_numbers)}"

    async def open_adapter() -> Any:
        return await create_adapter(place)

    return open_adapter


class TestFirestoreAdapter(StorageContract):
    @pytest.fixture
    def open_adapter(self, server: FirestoreServer, monkeypatch: pytest.MonkeyPatch) -> Any:
        return opening(server.address, monkeypatch)


class TestFirestoreAdapterOnTheEmulator(StorageContract):
    @pytest.fixture
    def open_adapter(self, emulator: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        return opening(emulator, monkeypatch)

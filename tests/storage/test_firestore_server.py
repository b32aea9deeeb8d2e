"""The test server answers as Google's emulator does: the same questions to both."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from sequential.errors import StorageError
from sequential.storage.firestore_connection import ConflictError, Connection
from sequential.storage.firestore_place import Place
from sequential.storage.firestore_values import EXISTING, MISSING, NAME, Condition, delete, put
from support import firestore_emulator
from support.firestore_server import FirestoreServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = FirestoreServer()
    yield server.address
    server.close()


@pytest.fixture(scope="module")
def emulator() -> str:
    if reason := firestore_emulator.missing():
        pytest.skip(reason)
    return firestore_emulator.address()


@pytest_asyncio.fixture(params=["server", "emulator"])
async def connection(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connection]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue(request.param))
    connection = Connection(Place("demo", "(default)", f"like{next(_numbers)}"))
    yield connection
    connection.close()


async def test_a_commit_is_all_or_nothing(connection: Connection) -> None:
    one, two = (connection.place.name("x", name) for name in ("one", "two"))
    await connection.commit([put(one, {"a": "1"})])
    with pytest.raises(ConflictError):
        await connection.commit([put(two, {"a": "2"}), put(one, {"a": "3"}, MISSING)])
    found = await connection.get([one, two])
    assert {name: document.fields for name, document in found.items()} == {one: {"a": "1"}}


async def test_a_precondition_is_about_the_document_as_it_is(connection: Connection) -> None:
    name = connection.place.name("x", "one")
    for write in (delete(name, EXISTING), put(name, {"a": "1"}, EXISTING)):
        with pytest.raises(ConflictError):
            await connection.commit([write])
    [first] = await connection.commit([put(name, {"a": "1"}, MISSING)])
    [second] = await connection.commit([put(name, {"a": "2"}, first)])
    assert (await connection.get([name]))[name].version == second
    for write in (put(name, {"a": "3"}, first), delete(name, first), put(name, {}, MISSING)):
        with pytest.raises(ConflictError):
            await connection.commit([write])
    await connection.commit([delete(name, second)])
    with pytest.raises(ConflictError):
        await connection.commit([put(name, {"a": "3"}, second)])
    assert await connection.get([name]) == {}


async def test_versions_grow_and_writing_the_same_keeps_them(connection: Connection) -> None:
    name = connection.place.name("x", "one")
    versions = [(await connection.commit([put(name, {"a": a})]))[0] for a in "1123"]
    moments = [version.ToMicroseconds() for version in versions]
    assert moments == sorted(moments)
    assert [moments.index(moment) for moment in moments] == [0, 0, 2, 3]


async def test_a_merge_changes_the_named_fields(connection: Connection) -> None:
    name = connection.place.name("x", "one")
    await connection.commit([put(name, {"a": "1", "due_my-task": "2", "c": ["x", "y"]})])
    await connection.commit([put(name, {"due_my-task": None, "d": b"\0\xff"}, merge=True)])
    fields = {"a": "1", "due_my-task": None, "c": ["x", "y"], "d": b"\0\xff"}
    assert (await connection.get([name]))[name].fields == fields
    some = (await connection.get([name], ["due_my-task", "d", "unknown"]))[name].fields
    assert some == {"due_my-task": None, "d": b"\0\xff"}
    assert (await connection.get([name], []))[name].fields == {}
    await connection.commit([put(name, {"e": "all"})])
    assert (await connection.get([name]))[name].fields == {"e": "all"}


async def test_queries_find_by_values_in_order(connection: Connection) -> None:
    documents: dict[str, Any] = {
        "a": {"due": "2", "task": "x", "tags": ["p"]},
        "b": {"due": "1", "task": "y", "tags": ["p", "q"]},
        "c": {"due": None, "task": "x"},
        "d": {"task": "x"},
        "e": {"due": "2", "task": "z"},
        "f": {"due": b"1", "task": "z"},
    }
    place = connection.place
    await connection.commit([put(place.name("x", n), d) for n, d in documents.items()])

    async def found(*where: Condition, **options: Any) -> str:
        return "".join(one.id for one in await connection.find("x", where, **options))

    assert await found() == "abcdef"
    assert await found(limit=2) == "ab"
    assert await found(behind="b", limit=3) == "cde"
    assert await found(Condition("task", "==", "x")) == "acd"
    assert await found(Condition("task", "==", "x"), behind="a") == "cd"
    assert await found(Condition("task", "in", ["x", "y"])) == "abcd"
    assert await found(Condition("tags", "contains", "p")) == "ab"
    assert await found(Condition("due", "<=", "2"), order="due") == "bae"
    assert await found(Condition("due", "<", "2"), order="due") == "b"
    assert await found(Condition("due", ">", "1"), order="due", limit=1) == "a"
    assert await found(Condition("due", "==", None)) == ""  # null is asked for in another way
    [last] = await connection.find("x", [Condition("due", ">", "1")], order="due", limit=1)
    assert await found(Condition("due", ">", "1"), order="due", behind=last) == "e"
    assert (
        await found(
            Condition(NAME, ">=", place.name("x", "b")), Condition(NAME, "<", place.name("x", "d"))
        )
        == "bc"
    )
    [one] = await connection.find("x", [Condition("due", "==", "1")], fields=("task", "no"))
    assert one.fields == {"task": "y"}
    [none] = await connection.find("x", [Condition("due", "==", "1")], fields=())
    assert none.fields == {}
    await connection.commit([put(f"{place.parent}/{place.collection('x')}/a/below/z", {})])
    assert await found() == "abcdef"


@pytest.mark.parametrize("text", ["", "a\0b", "\u2028\U0001f40d\x7f", "x" * 500_000])
async def test_any_text_is_kept(connection: Connection, text: str) -> None:
    name = connection.place.name("x", "one")
    await connection.commit([put(name, {"a": text})])
    assert (await connection.get([name]))[name].fields == {"a": text}
    if len(text) < 1500:
        assert len(await connection.find("x", [Condition("a", "==", text)])) == 1


async def test_what_is_too_large_or_badly_named_is_refused(connection: Connection) -> None:
    place = connection.place
    for write in (
        put(place.name("x", "one"), {"a": b"x" * 1_048_576}),
        put(place.name("x", "one"), {"a": b"x" * 600_000, "b": b"x" * 600_000}),
        put(place.name("x", "__one__"), {}),
        put(place.name("x", ".."), {}),
        put(place.name("x", "x" * 1501), {}),
        put(place.name("x", "one/two"), {}),
    ):
        with pytest.raises(StorageError, match="INVALID_ARGUMENT"):
            await connection.commit([write])
    assert await connection.find("x") == []

"""What is put down for those who follow."""

import asyncio

import pytest

from sequential.web.channel import EVERYTHING, Channel, Wanted, event, joined


def filled(pieces: int, most: int = 10) -> Channel:
    made = Channel(most)
    for number in range(pieces):
        made.put(f"key {number % 20}", b"%d " % number, at=f"{number:04}")
    return made


def test_the_newest_under_each_key_is_kept() -> None:
    news = Channel()
    for text in (b"one", b"two", b"three"):
        news.put("run", text)
    news.put("call", b"four")

    found = news.after(0)
    assert found is not None
    assert [piece.data for piece in found] == [b"three", b"four"]
    assert [piece.data for piece in news.newest("call", "gone")] == [b"four"]


def test_only_so_much_is_kept_and_who_missed_some_is_told() -> None:
    news = filled(1000)

    recent = news.after(995)
    assert recent is not None
    assert joined(recent, EVERYTHING) == b"995 996 997 998 999 "
    assert news.after(1000) == []
    assert news.after(989) is None
    assert news.after(0) is None


def test_what_happened_since_a_time() -> None:
    news = filled(1000)

    recent = news.since("0997")
    assert recent is not None
    assert joined(recent, EVERYTHING) == b"997 998 999 "
    assert news.since("0500") is None
    assert len(filled(5).since("") or ()) == 5


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (EVERYTHING, b"abx"),
        (Wanted.of("hello", ()), b"ax"),
        (Wanted.of(None, ["failed"]), b"bx"),
        (Wanted.of(None, ["pending"]), b"abx"),  # one has had that status
        (Wanted.of("hello", ["failed"]), b"x"),
    ],
)
def test_readers_choose(wanted: Wanted, shown: bytes) -> None:
    news = Channel()
    news.put("1", b"", kinds=["task hello", "status pending"])
    news.put("1", b"a", kinds=["task hello", "status completed"])
    news.put("2", b"b", kinds=["task other", "status pending", "status failed"])
    news.put("3", b"x")

    assert joined(news.after(0) or (), wanted) == shown


async def test_those_who_wait_are_woken_or_give_up() -> None:
    news = Channel()
    waiting = [asyncio.create_task(news.wait(0, 10)) for _ in range(3)]
    await asyncio.sleep(0)
    news.put("run", b"x")
    news.tell()

    assert await asyncio.gather(*waiting) == [True] * 3
    assert await news.wait(0, 10)
    assert not await news.wait(1, 0.01)
    news.end()
    assert await news.wait(1, 10)


def test_an_event_is_one_line_of_json() -> None:
    assert event("log", {"text": "a\n\u2028b"}, "1.2") == (
        b'id: 1.2\nevent: log\ndata: {"text":"a\\n\xe2\x80\xa8b"}\n\n'
    )
